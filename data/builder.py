"""Builds a dataset from a folder of videos and their captions.

python -m data.builder --videos=DIR --captions=FILE --out=DIR
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
from data import captions, dataset, decode, manifest, splits

MAX_BYTES = 2**30  # of a file; the format of records allows at most twice that


@dataclasses.dataclass(frozen=True)
class Probed:
  """The result of decoding one file."""

  facts: decode.Facts
  contents: str  # a digest of its bytes


def build(
  videos: pathlib.Path,
  listed: manifest.Manifest,
  out: pathlib.Path,
  *,
  fps: float = 16.0,
  min_frames: int = 80,
  min_side: int = 0,
  validation: float = 0.0,
  shards: int | None = None,
  workers: int = 2,
  overwrite: bool = False,
  strict: bool = False,
) -> dict:
  """Writes a dataset to `out` and returns the report on it, which is also `out/report.json`.

  Every file below `videos`, symbolic links included, that has a caption in `listed` is decoded, in
  `workers` processes.  A file is skipped, and reported with the reason, if it can't be decoded,
  if it has fewer than `min_frames` at `fps`, or if its shorter side has fewer than `min_side`
  pixels.  A damaged file is used up to the damage, and is reported too.

  validation: roughly the fraction of source videos that is held out as the split 'validation',
    among files whose line has no split: see `splits.assigned`.  Files with the same `source_video`
    have one source, and so have files with the same contents.

  strict: whether an entry of the manifest that can't be used is a ValueError, raised before any
    file is decoded.  Otherwise it is only reported.

  `out` appears when everything is written.  It may exist only if `overwrite` is set and it is a
  dataset.
  """
  _require(fps=fps, min_frames=min_frames, shards=shards or 1, workers=workers)
  if min_side < 0 or not 0 <= validation < 1:
    raise UserError(
      f'Got --min_side={min_side} and --validation={validation:g}; allowed are --min_side of 0 or '
      'more and --validation from 0 to less than 1.'
    )
  _require_free(out, overwrite)
  lines, skipped = captions.match(videos, listed.lines, listed.sidecars)
  faults = [*listed.faults, *manifest.unusable(listed.lines, skipped)]
  if strict:
    manifest.require_none(faults, listed.name)
  if lines:  # a mistake shows here before hours of decoding
    stated = [line.split for line in lines.values()]
    splits.require_clips(shards, splits.max_clips(stated, validation))
  usable = {}
  for file, probed in _probed(videos, list(lines), workers):
    if isinstance(probed, str):
      skipped[file] = probed
    elif reason := _too_small(probed.facts, fps, min_frames, min_side):
      skipped[file] = reason
    else:
      usable[file] = probed
  if not usable:
    raise UserError(f'None of the files in {videos} can be used: {_listed(skipped)}.')
  sources = _sources(usable, lines)
  assigned = splits.assign([lines[file].split for file in usable], sources, validation)
  clips = [
    dataset.Clip(file, lines[file].caption, split, usable[file].facts)
    for file, split in zip(usable, assigned)
  ]
  report = _report(clips, splits.in_several_splits(assigned, sources), skipped, faults)
  _write(videos, clips, out, shards, report)
  return report


def _sources(usable: dict[str, Probed], lines: dict[str, captions.Line]) -> list[str]:
  """The source video of each file.

  It is the `source_video` of the file's line, or of the line of a file with the same contents.  If
  neither is given, the digest of the contents stands for it.
  """
  named = {usable[f].contents: lines[f].source_video for f in usable if lines[f].source_video}
  return [
    lines[f].source_video or named.get(probed.contents, probed.contents)
    for f, probed in usable.items()
  ]


def _report(
  clips: Sequence[dataset.Clip],
  conflicts: Sequence[int],
  skipped: dict[str, str],
  faults: Sequence[manifest.Fault],
) -> dict:
  """The report on a dataset.

  conflicts: the indices of clips whose source video is in several splits.
  """
  return {
    'written': len(clips),
    'splits': dict(sorted(collections.Counter(clip.split for clip in clips).items())),
    'seconds': sum(clip.facts.seconds for clip in clips),
    **dataset.summary(clips),
    'in_several_splits': [unicode.escaped(clips[i].file) for i in conflicts],
    'damaged': {unicode.escaped(c.file): c.facts.fault for c in clips if c.facts.fault},
    'manifest': {
      'faults': dict(sorted(collections.Counter(fault.kind for fault in faults).items())),
      'lines': [f'{fault.where}: {unicode.escaped(fault.reason)}' for fault in faults],
    },
    'skipped': {unicode.escaped(file): reason for file, reason in sorted(skipped.items())},
  }


def _too_small(facts: decode.Facts, fps: float, min_frames: int, min_side: int) -> str:
  """Why a file is too short or too small, or '' if it is not."""
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
  """Each of `files` with its `Probed`, or with the reason why it can't be decoded."""
  pool, block = _pool(workers), 8 * workers
  try:
    with tqdm.tqdm(total=len(files), desc='decoding', unit='file') as bar:
      for first in range(0, len(files), block):
        part = files[first : first + block]
        paths = [videos / file for file in part]
        try:
          with interrupt.not_for_children():  # workers start with the first file
            running = pool.map(_probe, paths)
          results = list(running)
        except BrokenProcessPool:  # with a process for each file, only the bad file crashes
          pool = _pool(workers)
          results = [_probe_alone(path) for path in paths]
        yield from zip(part, results)
        bar.update(len(part))
  finally:
    pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
  context = multiprocessing.get_context('spawn')  # a fork would copy locks that threads hold
  return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context)


def _probe_alone(path: pathlib.Path) -> Probed | str:
  with _pool(1) as pool:
    try:
      with interrupt.not_for_children():
        running = pool.submit(_probe, path)
      return running.result()
    except BrokenProcessPool:
      return 'decoding it crashes the process'


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
    raise UserError(f'{out} exists and is not a dataset; --overwrite replaces only datasets.')
  unicode.require_path(out.absolute())
  require_folder(out)
  require_folder(out.parent)  # the finished dataset is renamed to `out` there


def _listed(reasons: dict[str, str]) -> str:
  shown = [f'{file}: {reason}' for file, reason in sorted(reasons.items())[:3]]
  return '; '.join(shown + ['...'] * (len(reasons) > 3)) or 'it has no files'


def _define_flags() -> None:
  # Not at import: a process has one set of flags, and importing this module must not add to it.
  flags.DEFINE_string(
    'videos', None, 'Folder of video files, which may be in folders inside it.', required=True
  )
  flags.DEFINE_string(
    'captions', None,
    'File with the caption of each video: .jsonl, with objects such as {"file": "a/b.mp4", '
    '"caption": "a dog runs"}, or .csv, .tsv or .parquet with the same columns; docs/data.md '
    'describes them.  By default, the caption of a/b.mp4 is read from a/b.txt or a/b.json.',
  )  # fmt: skip
  flags.DEFINE_string(
    'out', None, 'Folder to write the dataset to, for data.source of a config.', required=True
  )
  flags.DEFINE_float('fps', 16.0, 'Frames per second at which --min_frames is counted.')
  flags.DEFINE_integer('min_frames', 80, 'Videos with fewer frames at --fps are skipped.')
  flags.DEFINE_integer('min_side', 0, 'Videos whose shorter side has fewer pixels are skipped.')
  flags.DEFINE_float(
    'validation', 0.0,
    'Fraction of source videos to hold out for validation, among those without a "split" in '
    'the captions.',
  )  # fmt: skip
  flags.DEFINE_integer('shards', None, 'Number of files of each split; by default TFDS chooses it.')
  flags.DEFINE_integer('workers', 2, 'Number of processes that decode videos.')
  flags.DEFINE_boolean(
    'overwrite', False, 'Whether to replace the dataset at --out, if there is one.'
  )
  flags.DEFINE_boolean(
    'strict',
    False,
    'Whether one wrong line of the captions ends the command; it is only reported otherwise.',
  )


def main() -> None:
  logging.set_verbosity(logging.WARNING)  # TFDS logs each of its steps
  values = flags.FLAGS
  out = pathlib.Path(values.out)
  options = (
    'fps', 'min_frames', 'min_side', 'validation', 'shards', 'workers', 'overwrite', 'strict'
  )  # fmt: skip
  videos = pathlib.Path(values.videos)
  listed = (
    manifest.read(pathlib.Path(values.captions)) if values.captions else manifest.beside(videos)
  )
  report = build(
    videos,
    listed,
    out,
    **{name: values[name].value for name in options},
  )
  splits_written = ', '.join(f'{count} {split}' for split, count in report['splits'].items())
  print(
    f'{out}: written {report["written"]} ({splits_written}), of which {len(report["damaged"])} are '
    f'damaged; skipped {len(report["skipped"])}; reasons in {out / "report.json"}'
  )
  print(
    f'The least height is {report["least_height"]} pixels, the least width '
    f'{report["least_width"]}; the shortest clip has {report["shortest"]:g} seconds.'
  )
  if faults := report['manifest']['faults']:
    kinds = ', '.join(f'{count} {kind}' for kind, count in faults.items())
    print(f'Lines of the captions that cannot be used: {kinds}; see manifest of the report.')
  if conflicts := report['in_several_splits']:
    print(
      f'{len(conflicts)} clips have a source video that the captions put into several splits: see '
      'in_several_splits of the report.'
    )


if __name__ == '__main__':
  _define_flags()
  command.run(main)
