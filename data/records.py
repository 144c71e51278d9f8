"""The records of a dataset, from the clips that were chosen for it."""

from collections.abc import Collection, Mapping

from data import captioner, captions, dataset, decode, selection, splits
from data.on_disk import Rows


def made(
  chosen: selection.Selection,
  lines: Mapping[str, captions.Line],
  texts: Mapping[str, captioner.Caption],
  validation: float,
  fps: float,
) -> tuple[Rows[dataset.Clip], Collection[str]]:
  """The records of the clips that are kept, and the source videos that are in several splits."""
  source_of = selection.source_videos(chosen.clips(), lines)
  pairs = ((lines[clip.file].split, source_of(clip)) for clip in chosen.clips())
  assigned = splits.assigned(pairs, validation)
  result = Rows()
  for clip in chosen.clips():
    source = source_of(clip)
    split = assigned.split(lines[clip.file].split, source)
    result.append(_record(clip, texts[clip.name], split, source, fps))
  return result, assigned.conflicts


def _record(
  clip: selection.Clip, caption: captioner.Caption, split: str, source_video: str, fps: float
) -> dataset.Clip:
  part = clip.segment
  as_in_file = part.encoded is None or part.is_image
  seconds = part.end - part.start if as_in_file else part.frames / fps
  facts = decode.Facts(part.frames, seconds, part.height, part.width, clip.source.damage)
  return dataset.Clip(
    clip.file,
    caption.text,
    split,
    facts,
    start=part.start,
    source_video=source_video,
    captioner=caption.version,
    scores=part.scores,
    contents=clip.source.contents,
    stored=part.encoded.read if part.encoded else None,
  )
