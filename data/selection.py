"""Which clips of a dataset's sources are kept, and why each of the others is left out."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from data import captions, duplicates, filters
from data.sources import Segment, Source

# The kinds of reasons that `captions.match` gives; any other one is of a file with two names.
_UNMATCHED = {
  captions.MISSING: filters.ABSENT,
  captions.BLANK: filters.UNCAPTIONED,
  captions.UNLISTED: filters.UNLISTED,
}


@dataclasses.dataclass(frozen=True)
class Clip:
  """A clip of a source."""

  file: str
  source: Source
  segment: Segment

  @property
  def name(self) -> str:
    """The file, and where the clip is not all of it, the time at which it begins."""
    return self.file if self.segment.whole else f'{self.file} at {self.segment.start:.3f} s'


@dataclasses.dataclass(frozen=True)
class Selection:
  """The clips that are kept, in order of their files and times, and what is left out."""

  clips: Sequence[Clip]
  left_out: Mapping[str, tuple[str, str]]  # by name: the kind and the reason
  dropped: Sequence[Clip]  # the clips among them


def select(
  results: Mapping[str, Source | str], limits: filters.Limits, unmatched: Mapping[str, str]
) -> Selection:
  """The selection from the results of all files, in the order in which they are given.

  A clip that looks like an earlier one, or is the same, is left out if `limits.max_distance` is not
  negative.

  unmatched: the files that have no result, with the reasons of `captions.match`.
  """
  left_out = {
    file: (_UNMATCHED.get(reason, filters.DUPLICATE), reason) for file, reason in unmatched.items()
  }
  left_out |= {f: (filters.UNREADABLE, r) for f, r in results.items() if isinstance(r, str)}
  clips = [
    Clip(file, source, segment)
    for file, source in results.items()
    if isinstance(source, Source)
    for segment in source.segments
  ]
  left_out |= {clip.name: clip.segment.fault for clip in clips if clip.segment.fault}
  passed = [clip for clip in clips if not clip.segment.fault]
  kept = []
  for clip, earlier in zip(passed, _earlier(passed, limits.max_distance)):
    if earlier is None:
      kept.append(clip)
    else:
      left_out[clip.name] = (filters.DUPLICATE, f'it looks like {passed[earlier].name}')
  names = {clip.name for clip in kept}
  return Selection(kept, left_out, [clip for clip in clips if clip.name not in names])


def _earlier(clips: Sequence[Clip], distance: int) -> Iterator[int | None]:
  """The index of an earlier clip of which each one is a duplicate, or None."""
  if distance < 0:
    yield from (None for _ in clips)
    return
  # Clips without structure have no hash, but are duplicates if their files are the same.
  same = {}
  looks = duplicates.of_earlier((clip.segment.scores.look for clip in clips), distance)
  for index, (clip, look) in enumerate(zip(clips, looks)):
    first = same.setdefault((clip.source.contents, clip.segment.start), index)
    yield look if look is not None or first == index else first


def without_captions(chosen: Selection, captions: Mapping[str, str | None]) -> Selection:
  """The selection without the clips that have no caption in `captions`, which is by their names."""
  blank = [clip for clip in chosen.clips if not captions[clip.name]]
  reasons = {
    clip.name: (filters.UNCAPTIONED, 'no caption in the manifest, and none from the program')
    for clip in blank
  }
  kept = [clip for clip in chosen.clips if clip.name not in reasons]
  return Selection(kept, {**chosen.left_out, **reasons}, [*chosen.dropped, *blank])


def source_videos(clips: Sequence[Clip], lines: Mapping[str, captions.Line]) -> list[str]:
  """The source video of each clip.

  It is the `source_video` of the file's line, or of the line of a file with the same contents.  If
  neither is given, the digest of the contents stands for it.
  """
  contents = [clip.source.contents for clip in clips]
  stated = [lines[clip.file].source_video for clip in clips]
  named = {digest: name for digest, name in zip(contents, stated) if name}
  return [name or named.get(digest, digest) for digest, name in zip(contents, stated)]
