"""Builds a dataset from a folder of videos and their captions.

python -m data.builder --videos=DIR --captions=FILE.jsonl --out=DIR
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import math
import multiprocessing
import pathlib
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

import tqdm
from absl import flags, logging

from core import command, interrupt, unicode
from core.folder import new_folder
from core.writable import require_folder
from data import captions, dataset, decode, splits

MAX_BYTES = 2**30  # of a file; a record ends at twice that


@dataclasses.dataclass(frozen=True)
class Probed:
  """What was found of a file."""

  facts: decode.Facts
  contents: str  # a digest of its bytes


def build(
  videos: pathlib.Path,
  lines: dict[str, captions.Line],
  out: pathlib.Path,
  *,
  fps: float = 16.0,
  min_frames: int = 80,
  min_side: int = 0,
  validation: float = 0.0,
  shards: int | None = None,
  workers: int = 2,
  overwrite: bool = False,
) -> dict:
  """The report on the dataset written to `out`, which is also `out/report.json`.

  Every file below `videos`, or behind links there, which has a caption in `lines` is decoded once,
  in `workers` processes.  One which cannot be, is shorter than `min_frames` at `fps`, or is shown
  with a shorter side below `min_side` pixels, is skipped and reported with the reason.  A damaged
  one counts as far as it can be decoded, and is reported too.

  validation: about which fraction of the source videos is held out as the split 'validation', where
    `lines` say no split: see `splits.assigned`.  Files of one `source_video` are of one source, and
    so are files of the same contents.

  `out` appears when all is written.  It may exist only with `overwrite`, and as a dataset.
  """
  _require(fps=fps, min_frames=min_frames, shards=shards or 1, workers=workers)
  if min_side < 0 or not 0 <= validation < 1:
    raise UserError(
      f'Got --min_side={min_side} and --validation={validation:g}; allowed are 0 or more, and 0 or '
      'more but less than 1.'
    )
  _require_free(out, overwrite)
  lines, skipped = captions.found(videos, lines)
  if lines:  # hours before it is known exactly
    splits.require_clips(shards, splits.most([line.split for line in lines.values()], validation))
  found = {}
  for file, probed in _probed(videos, list(lines), workers):
    if isinstance(probed, str):
      skipped[file] = probed
    elif reason := _lacking(probed.facts, fps, min_frames, min_side):
      skipped[file] = reason
    else:
      found[file] = probed
  if not found:
    raise UserError(f'None of the files in {videos} can be used: {_listed(skipped)}.')
  sources = _sources(found, lines)
  assigned = splits.assigned([lines[file].split for file in found], sources, validation)
  clips = [
    dataset.Clip(file, lines[file].caption, split, found[file].facts)
    for file, split in zip(found, assigned)
  ]
  report = _report(clips, splits.straddling(assigned, sources), skipped)
  _write(videos, clips, out, shards, report)
  return report


def _sources(found: dict[str, Probed], lines: dict[str, captions.Line]) -> list[str]:
  """The source video of each file: the one that its line names, or that of a file of the same
  contents does, or else those contents."""
  named = {found[f].contents: lines[f].source_video for f in found if lines[f].source_video}
  return [
    lines[f].source_video or named.get(probed.contents, probed.contents)
    for f, probed in found.items()
  ]


def _report(clips: Sequence[dataset.Clip], straddling: Sequence[int], skipped: dict) -> dict:
  """The report on a dataset.

  straddling: the indices of clips whose source videos were given several splits.
  """
  return {
    'written': len(clips),
    'splits': dict(sorted(collections.Counter(clip.split for clip in clips).items())),
    'seconds': sum(clip.facts.seconds for clip in clips),
    **dataset.known(clips),
    'in_several_splits': [unicode.escaped(clips[i].file) for i in straddling],
    'damaged': {unicode.escaped(c.file): c.facts.fault for c in clips if c.facts.fault},
    'skipped': {unicode.escaped(file): reason for file, reason in sorted(skipped.items())},
  }


def _lacking(facts: decode.Facts, fps: float, min_frames: int, min_side: int) -> str:
  """Why a file is too short or too small, or ''."""
  if (count := decode.available(facts.seconds, fps)) < min_frames:
    return f'{count} frames at {fps:g} a second; at least {min_frames} are needed'
  if min(facts.height, facts.width) < min_side:
    return f'{facts.width} x {facts.height} pixels; at least {min_side} are needed on each side'
  return ''


def _write(videos, clips: Sequence[dataset.Clip], out: pathlib.Path, shards, report: dict) -> None:
  with new_folder(out, replace=True) as incomplete:
    dataset.write(videos, clips, incomplete, shards)
    text = json.dumps(report, indent=2, ensure_ascii=False) + '\n'
    (incomplete / 'report.json').write_text(text, 'utf-8')


def _probed(
  videos: pathlib.Path, files: Sequence[str], workers: int
) -> Iterator[tuple[str, Probed | str]]:
  """Each of `files` with what was found, or with the reason why it has none."""
  pool, block = _pool(workers), 8 * workers
  try:
    with tqdm.tqdm(total=len(files), desc='decoding', unit='file') as bar:
      for first in range(0, len(files), block):
        part = files[first : first + block]
        paths = [videos / file for file in part]
        try:
          with interrupt.not_for_children():  # which begin with the first file
            running = pool.map(_probe, paths)
          found = list(running)
        except BrokenProcessPool:  # a file has ended its process: which one, each shows alone
          pool = _pool(workers)
          found = [_probe_alone(path) for path in paths]
        yield from zip(part, found)
        bar.update(len(part))
  finally:
    pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
  context = multiprocessing.get_context('spawn')  # a fork would copy locks which threads hold
  return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context)


def _probe_alone(path: pathlib.Path) -> Probed | str:
  with _pool(1) as pool:
    try:
      with interrupt.not_for_children():
        running = pool.submit(_probe, path)
      return running.result()
    except BrokenProcessPool:
      return 'decoding it ends the process'


def _probe(path: pathlib.Path) -> Probed | str:
  try:
    if (size := path.stat().st_size) > MAX_BYTES:
      return f'{size} bytes; at most {MAX_BYTES} are allowed'
    contents = path.read_bytes()
    return Probed(decode.probe(contents), hashlib.sha256(contents).hexdigest())
  except (ValueError, OSError) as error:
    return str(error)


def _require(**positive: float | int) -> None:
  for name, value in sorted(positive.items()):
    if not 0 < value < math.inf:
      raise UserError(f'Got --{name}={value:g}; more than 0 is allowed.')


def _require_free(out: pathlib.Path, overwrite: bool) -> None:
  if out.exists() and not overwrite:
    raise UserError(f'{out} exists already; --overwrite replaces a dataset.')
  if out.exists() and not (out / 'dataset_info.json').is_file():
    raise UserError(f'{out} exists and is no dataset; --overwrite replaces nothing else.')
  unicode.require_path(out.absolute())
  require_folder(out)
  require_folder(out.parent)  # which gets it when it is whole


def _listed(reasons: dict[str, str]) -> str:
  shown = [f'{file}: {reason}' for file, reason in sorted(reasons.items())[:3]]
  return '; '.join(shown + ['...'] * (len(reasons) > 3)) or 'there is none'


def _define_flags() -> None:
  # Not when this module is imported: a process has one set of flags, and this one is a command's.
  flags.DEFINE_string('videos', None, 'Folder of video files.', required=True)
  flags.DEFINE_string('captions', None, 'File of JSON lines; see data/captions.py.', required=True)
  flags.DEFINE_string('out', None, 'Folder to write, which is read by its name.', required=True)
  flags.DEFINE_float('fps', 16.0, 'Frames per second at which lengths are counted.')
  flags.DEFINE_integer('min_frames', 80, 'Shorter videos are skipped.')
  flags.DEFINE_integer('min_side', 0, 'Videos with a shorter side of fewer pixels are skipped.')
  flags.DEFINE_float(
    'validation', 0.0, 'Fraction of source videos to hold out, where captions say no split.'
  )
  flags.DEFINE_integer('shards', None, 'Files for each split; as many as TFDS finds good.')
  flags.DEFINE_integer('workers', 2, 'Processes which decode.')
  flags.DEFINE_boolean('overwrite', False, 'Replace the dataset at --out.')


def main() -> None:
  logging.set_verbosity(logging.WARNING)  # TFDS tells of each of its steps
  given = flags.FLAGS
  out = pathlib.Path(given.out)
  options = (
    'fps', 'min_frames', 'min_side', 'validation', 'shards', 'workers', 'overwrite'
  )  # fmt: skip
  report = build(
    pathlib.Path(given.videos),
    captions.read(pathlib.Path(given.captions)),
    out,
    **{name: given[name].value for name in options},
  )
  of_split = ', '.join(f'{count} {split}' for split, count in report['splits'].items())
  print(
    f'{out}: written {report["written"]} ({of_split}), of which {len(report["damaged"])} are '
    f'damaged; skipped {len(report["skipped"])}; reasons in {out / "report.json"}'
  )
  print(
    f'The least height is {report["least_height"]} pixels, the least width '
    f'{report["least_width"]}; the shortest clip has {report["shortest"]:g} seconds.'
  )
  if straddling := report['in_several_splits']:
    print(
      f'{len(straddling)} clips are of source videos that the captions have in several splits: '
      'in_several_splits in the report.'
    )


if __name__ == '__main__':
  _define_flags()
  command.run(main)
