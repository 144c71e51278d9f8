"""Which clips of a dataset's sources are kept, and why each of the others is left out."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

from data import captions, duplicates, filters
from data.on_disk import Rows, Table
from data.sources import Segment, Source

# The kinds of reasons that `captions.match` gives; any other one is of a file with two names.
_UNMATCHED = {
  captions.MISSING: filters.ABSENT,
  captions.BLANK: filters.UNCAPTIONED,
  captions.UNLISTED: filters.UNLISTED,
  captions.ALONE: filters.UNCAPTIONED,
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
  """The clips of all files, and those that are left out: by name, the kind and the reason."""

  results: Mapping[str, Source | str]
  left_out: Table[str, tuple[str, str]]

  def all(self) -> Iterator[tuple[Clip, tuple[str, str] | None]]:
    """Each clip, in order of files and times, and why it is left out, or None if it is kept."""
    for clip in _clips(self.results):
      yield clip, self.left_out.get(clip.name)

  def clips(self) -> Iterator[Clip]:
    """The clips that are kept."""
    return (clip for clip, fault in self.all() if not fault)


def _clips(results: Mapping[str, Source | str]) -> Iterator[Clip]:
  for file, source in results.items():
    if isinstance(source, Source):
      for segment in source.segments:
        yield Clip(file, source, segment)


def select(
  results: Mapping[str, Source | str], limits: filters.Limits, unmatched: Mapping[str, str]
) -> Selection:
  """The selection from the results of all files, in the order in which they are given.

  A clip that looks like an earlier one, or is the same, is left out if `limits.max_distance` is not
  negative.

  unmatched: the files that have no result, with the reasons of `captions.match`.
  """
  left_out = Table()
  for file, reason in unmatched.items():
    left_out[file] = (_UNMATCHED.get(reason, filters.DUPLICATE), reason)
  for file, result in results.items():
    if isinstance(result, str):
      left_out[file] = (filters.UNREADABLE, result)
  for clip in _clips(results):
    if clip.segment.fault:
      left_out[clip.name] = clip.segment.fault
  if limits.max_distance >= 0:
    passed = (clip for clip in _clips(results) if not clip.segment.fault)
    for name, earlier in _duplicates(passed, limits.max_distance):
      left_out[name] = (filters.DUPLICATE, f'it looks like {earlier}')
  return Selection(results, left_out)


def _duplicates(clips: Iterable[Clip], distance: int) -> Iterator[tuple[str, str]]:
  """The name of each duplicate, and that of the earlier clip that it looks like."""
  names, same, copies = Rows(), Table(), Table()

  def looks() -> Iterator[str]:
    for clip in clips:
      # Clips without structure have no hash, but are duplicates if their files are the same.
      if not clip.segment.scores.look:
        first = same.setdefault(f'{clip.source.contents} {clip.segment.start}', len(names))
        if first < len(names):
          copies[len(names)] = first
      names.append(clip.name)
      yield clip.segment.scores.look

  for index, earlier in enumerate(duplicates.of_earlier(looks(), distance)):
    if earlier is None and index in copies:
      earlier = copies[index]
    if earlier is not None:
      yield names[index], names[earlier]


def without_captions(chosen: Selection, captions: Mapping) -> Selection:
  """The selection without the clips whose `captioner.Caption`, by their names, has no text."""
  left_out = Table(chosen.left_out)
  for clip in chosen.clips():
    if not captions[clip.name].text:
      reason = 'no caption in the manifest, and none from the program'
      left_out[clip.name] = (filters.UNCAPTIONED, reason)
  return Selection(chosen.results, left_out)


def source_videos(
  clips: Iterable[Clip], lines: Mapping[str, captions.Line]
) -> Callable[[Clip], str]:
  """A function from each of the clips to its source video.

  It is the `source_video` of the file's line, or of the line of a file with the same contents.  If
  neither is given, the digest of the contents stands for it.
  """
  named = Table()
  for clip in clips:
    if name := lines[clip.file].source_video:
      named[clip.source.contents] = name
  return lambda clip: (
    lines[clip.file].source_video or named.get(clip.source.contents, clip.source.contents)
  )
