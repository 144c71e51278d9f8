"""Builds a dataset of clips from a folder of videos and images, and their captions.

python -m data.builder --videos=DIR --captions=FILE --out=DIR
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import dataclasses
import itertools
import pathlib
from collections.abc import Iterable

from absl import flags, logging

from core import command, unicode
from core.folder import new_folder
from core.writable import require_folder
from data import (
  beam,
  captioner,
  captions,
  dataset,
  filters,
  folders,
  manifest,
  processing,
  progress,
  records,
  report,
  scenes,
  selection,
  splits,
)
from data.on_disk import Rows, Table
from data.sources import Options

FORMAT = 2  # of the results of a build; another one makes those of an unfinished build useless


def build(
  videos: pathlib.Path,
  listed: manifest.Manifest,
  out: pathlib.Path,
  options: Options,
  *,
  validation: float = 0.0,
  shards: int | None = None,
  workers: int = 2,
  overwrite: bool = False,
  strict: bool = False,
  caption_command: str = '',
  caption_batch: int = 16,
  beam_runner: str = '',
  beam_options: str = '',
) -> dict:
  """Writes a dataset to `out` and returns the report on it, which is also `out/report.json`.

  Every file below `videos`, symbolic links included, that has a caption in `listed` is decoded, in
  `workers` processes, on whose number nothing else depends.  Clips are cut from it, and left out,
  with a reason in the report, as `options` say: see `data.sources`.  An image is a clip of one
  frame.  A damaged video is used up to the damage, and is reported too.

  validation: roughly the fraction of source videos that is held out as the split 'validation',
    among files whose line has no split: see `splits.assigned`.  Clips of one file have one source,
    and so have files with the same `source_video` and files with the same contents.

  strict: whether an entry of the manifest that can't be used is a ValueError, raised before any
    file is decoded.  Otherwise it is only reported.

  caption_command: the program that writes the captions, which gets `caption_batch` clips at a time,
    or '' if the manifest has them: see `data.captioner`.

  beam_runner: the runner of Apache Beam that decodes the files instead of processes of this
    machine, or '', and further options of its pipeline: see `data.beam`.

  `out` appears when everything is written.  It may exist only if it is an empty folder, or if
  `overwrite` is set and it is a dataset.  If this ends before, the results so far stay beside
  `out`, and the same call continues from them: see `data.progress`.
  """
  _require_counts(workers=workers, shards=shards, caption_batch=caption_batch)
  if not 0 <= validation < 1:
    raise UserError(f'Got --validation={validation:g}; allowed is 0 to less than 1.')
  if caption_command:
    captioner.require(caption_command)
  if beam_runner:
    beam.require(beam_runner, beam_options)
  _require_free(out, overwrite, videos)
  lines, unmatched, faults = _usable(videos, listed, blank=bool(caption_command), strict=strict)
  if not options.seconds:  # a mistake shows here before hours of decoding
    stated = (line.split for line in lines.values())
    splits.require_clips(shards, splits.max_clips(stated, validation))
  settings = {'format': FORMAT, 'videos': str(videos.absolute()), **dataclasses.asdict(options)}
  with progress.continued(out, videos, settings) as work:
    processing.process(
      videos, lines, options, work,
      workers=workers, beam_runner=beam_runner, beam_options=beam_options,
    )  # fmt: skip
    for file in [file for file in work.done if file not in lines]:  # of an earlier manifest
      del work.done[file]
    chosen = selection.select(work.done, options.limits, unmatched)
    if not any(chosen.clips()):
      progress.discard(out)
    texts, chosen = captioner.captioned(videos, chosen, lines, caption_command, caption_batch, work)
    if not any(chosen.clips()):
      reasons = Table((name, reason) for name, (_, reason) in chosen.left_out.items())
      raise UserError(f'None of the files in {videos} can be used: {_listed(reasons.items())}.')
    clips, conflicts = records.made(chosen, lines, texts, validation, options.fps)
    summary = report.summary(clips, conflicts, chosen, faults)
    with new_folder(out, replace=True) as incomplete:
      dataset.write(videos, clips, incomplete, shards)
      report.write(
        incomplete, summary, videos, chosen, texts,
        workers=workers, seconds=options.file_seconds,
      )  # fmt: skip
  return summary


def _usable(
  videos: pathlib.Path, listed: manifest.Manifest, *, blank: bool, strict: bool
) -> tuple[Table[str, captions.Line], Table[str, str], Rows[manifest.Fault]]:
  """The lines of files that can be used, why others can't, and the faults of the manifest."""
  lines, unmatched = captions.match(
    videos, listed.lines, listed.sidecars, unlisted=listed.unlisted, blank=blank
  )
  faults = Rows(itertools.chain(listed.faults, manifest.unusable(listed.lines, unmatched)))
  if strict:
    manifest.require_none(faults, listed.name)
  if not lines:
    message = f'None of the files in {videos} can be used: {_listed(unmatched.items())}'
    if faults:
      wrong = _listed((fault.where, fault.reason) for fault in faults)
      message += f'; {len(faults)} entries of {listed.name} cannot be used: {wrong}'
    raise UserError(f'{message}.')
  return lines, unmatched, faults


def _require_counts(**counts: int | None) -> None:
  for name, value in counts.items():
    if value is not None and value < 1:
      raise UserError(f'Got --{name}={value}; 1 or more is allowed.')


def _require_free(out: pathlib.Path, overwrite: bool, videos: pathlib.Path) -> None:
  if (out / 'dataset_info.json').is_file():
    if not overwrite:
      raise UserError(f'{out} exists already; --overwrite replaces a dataset.')
  elif out.exists() and not (out.is_dir() and not any(out.iterdir())):
    raise UserError(
      f'{out} exists and is not a dataset; allowed is a new or an empty folder, or with '
      '--overwrite a dataset.'
    )
  if out.resolve().is_relative_to(videos.resolve()):  # later builds would read the dataset's files
    raise UserError(f'Got --out={out} inside of --videos={videos}; allowed is a folder elsewhere.')
  unicode.require_path(out.absolute())
  require_folder(out)
  require_folder(out.parent)  # the finished dataset is renamed to `out` there


def _listed(reasons: Iterable[tuple[str, str]]) -> str:
  shown = [f'{place}: {reason}' for place, reason in itertools.islice(reasons, 4)]
  return '; '.join([*shown[:3], *['...'] * (len(shown) > 3)]) or 'it has no files'


# Flags that are fields of `Options` and of `filters.Limits`.
_OPTIONS = tuple(f.name for f in dataclasses.fields(Options) if f.name != 'limits')
_LIMITS = tuple(field.name for field in dataclasses.fields(filters.Limits))


def _define_flags() -> None:
  # Not at import: a process has one set of flags, and importing this module must not add to it.
  flags.DEFINE_string(
    'videos', None, 'Folder of videos and images, which may be in folders in it.', required=True
  )
  flags.DEFINE_string(
    'captions', None,
    'File with the caption of each video: .jsonl, with objects such as {"file": "a/b.mp4", '
    '"caption": "a dog runs"}, or .csv, .tsv or .parquet with the same columns; docs/data.md '
    'describes them.  By default, the caption of a/b.mp4 is read from metadata.csv or .jsonl, from '
    'a/b.txt or a/b.json, or is the name of its folder.',
  )  # fmt: skip
  flags.DEFINE_string(
    'caption_template', '',
    "Caption of a file that has only a label, as 'a video of {label}'; by default its words.",
  )  # fmt: skip
  flags.DEFINE_string(
    'out', None, 'Folder to write the dataset to, for data.source of a config.', required=True
  )
  flags.DEFINE_float('fps', 16.0, 'Frames per second at which clips are counted, cut and scored.')
  flags.DEFINE_float(
    'seconds', 5.0,
    'Length of the clips that longer videos are cut into; 0 makes one clip of each file.',
  )  # fmt: skip
  flags.DEFINE_float(
    'cut_threshold', scenes.THRESHOLD,
    'Contrast of a frame at which a new scene begins, so that a clip ends; 64 or more finds none.',
  )  # fmt: skip
  flags.DEFINE_integer('min_frames', 80, 'Clips of videos with fewer frames at --fps are left out.')
  flags.DEFINE_integer('min_side', 0, 'Videos whose shorter side has fewer pixels are left out.')
  flags.DEFINE_float('max_black', 0.5, 'Clips with a larger share of black frames are left out.')
  flags.DEFINE_float(
    'max_frozen', 0.9,
    'Clips in which a larger share of the frames equals the one before are left out.',
  )  # fmt: skip
  flags.DEFINE_float(
    'min_motion', 0.1, 'Clips whose frames differ by less, in levels of 0 to 255, are left out.'
  )
  flags.DEFINE_float(
    'max_motion', 255.0, 'Clips whose frames differ by more, in levels of 0 to 255, are left out.'
  )
  flags.DEFINE_integer(
    'max_distance', 20,
    'Clips are left out if at most so many of the 252 bits of their perceptual hash differ from '
    "an earlier clip's; -1 leaves out none.",
  )  # fmt: skip
  flags.DEFINE_integer(
    'store_side', 0,
    'Shorter side to which larger clips are reduced; 0 keeps their size.',
  )  # fmt: skip
  flags.DEFINE_integer(
    'crf', 15, "x264's rate factor for clips that are cut or reduced: 0 is the best, 51 the least."
  )
  flags.DEFINE_float(
    'file_seconds', 3600.0,
    'Files that take longer to be decoded, scored and encoded are left out.',
  )  # fmt: skip
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
  flags.DEFINE_string(
    'caption_command', '',
    'Program that writes the captions of clips, with its arguments; docs/data.md has its protocol.',
  )  # fmt: skip
  flags.DEFINE_integer(
    'caption_batch', 16, 'Number of clips that --caption_command gets at a time.'
  )
  flags.DEFINE_string(
    'beam_runner', '',
    'Runner of Apache Beam that decodes videos in place of --workers, such as DataflowRunner, '
    'FlinkRunner, SparkRunner or DirectRunner; docs/data.md says what it needs.',
  )  # fmt: skip
  flags.DEFINE_string('beam_options', '', "Options of Beam's pipeline, such as '--region=x --y=z'.")
  flags.DEFINE_boolean(
    'strict', False,
    'Whether one wrong line of the captions ends the command; otherwise it is only reported.',
  )  # fmt: skip


def main() -> None:
  logging.set_verbosity(logging.WARNING)  # TFDS logs each of its steps
  values = flags.FLAGS.flag_values_dict()
  for name in ('videos', 'out'):
    if not values[name]:  # pathlib would take it for the current folder
      raise UserError(f'--{name} is empty; allowed is the path of a folder.')
  videos, out = pathlib.Path(values['videos']), pathlib.Path(values['out'])
  limits = filters.Limits(**{name: values[name] for name in _LIMITS})
  options = Options(**{name: values[name] for name in _OPTIONS}, limits=limits)
  if values['captions']:
    listed = manifest.read(pathlib.Path(values['captions']), videos)
  else:
    listed = folders.read(videos, blank=bool(values['caption_command']))
  lines = captions.described(listed.lines, values['caption_template'])
  listed = dataclasses.replace(listed, lines=lines)
  if (listed.lines or listed.faults) and not values['caption_command']:
    print(f'Captions are read from {listed.name}.')
  others = (
    'validation',
    'shards',
    'workers',
    'overwrite',
    'strict',
    'caption_command',
    'caption_batch',
    'beam_runner',
    'beam_options',
  )
  result = build(videos, listed, out, options, **{name: values[name] for name in others})
  print(report.text(out, result))


if __name__ == '__main__':
  _define_flags()
  command.run(main)
