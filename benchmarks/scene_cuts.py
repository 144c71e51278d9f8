r"""Measures how often the scene detector of the dataset builder detects cuts, and invents some.

  python -m benchmarks.scene_cuts --videos=DIR --with_cuts=a.mp4,b.mp4 --output=scene_cuts.json

Clips of two videos are joined in 60 ways: at every rate in `RATES`, with every size in `SIDES` and
every rate factor of x264 in `CRFS`.  The two videos are drawn for each way, and where each is
joined too.  A cut is detected if the detector has one within one frame of it.  Videos without cuts
are those that `--with_cuts` does not name; each in which the detector has a cut is printed.
"""

import contextlib
import itertools
import json
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from absl import flags
from tqdm import tqdm

from core import command, video
from core.errors import UserError
from core.folder import new_file
from data import decode, scenes, trace, transforms
from data.timing import SLACK

RATES = (12.0, 16.0, 24.0, 30.0, 60.0)  # frames a second
SIDES = (64, 128, 240)  # pixels
CRFS = (0, 15, 28, 40)
FRAMES = (8, 40)  # of each of the two parts, at least and at most
WAYS = tuple(itertools.product(RATES, SIDES, CRFS))


def uncut(
  paths: Sequence[pathlib.Path], threshold: float
) -> tuple[dict[pathlib.Path, decode.Facts], dict[str, list[float]]]:
  """The videos that can be decoded, with their facts, and the cuts that are detected, by name."""
  usable, detected = {}, {}
  for path in tqdm(paths, desc='uncut', unit='file'):
    followed = _followed(path)
    if followed and followed[0].frames >= FRAMES[0]:
      usable[path], traced = followed
      if cuts := scenes.cuts(traced, threshold):
        detected[path.name] = cuts
  return usable, detected


def _followed(path: pathlib.Path) -> tuple[decode.Facts, trace.Trace] | None:
  """The facts and the trace of a video, or None for a file that is none or can't be decoded."""
  try:
    return trace.follow(path, 16.0)
  except ValueError:
    return None


def joined(
  usable: Mapping[pathlib.Path, decode.Facts], threshold: float, seed: int
) -> Iterator[dict]:
  """What is detected in a join of each way: `hit`, and the number of `others`."""
  rng = np.random.default_rng(seed)
  for rate, side, crf in tqdm(WAYS, desc='joined', unit='join'):
    long = [p for p, f in usable.items() if decode.available(f.seconds, rate) >= FRAMES[0]]
    both = [long[i] for i in rng.choice(len(long), 2, replace=False)]
    parts = [_part(path, usable[path], rate, side, rng) for path in both]
    with tempfile.TemporaryDirectory() as folder:
      file = pathlib.Path(folder, 'joined.mp4')
      video.encode_mp4(file, itertools.chain(*parts), fps=rate, crf=crf)
      _, traced = trace.follow(file, 16.0)
    cuts, true = scenes.cuts(traced, threshold), len(parts[0]) / rate
    near = [cut for cut in cuts if abs(cut - true) <= 1 / rate + SLACK]
    yield {
      'way': f'{rate:g} frames/s, {side} pixels, crf {crf}',
      'videos': [path.name for path in both],
      'hit': bool(near),
      'others': len(cuts) - len(near),
    }


def _part(path, facts, rate: float, side: int, rng: np.random.Generator) -> np.ndarray:
  count = min(int(rng.integers(FRAMES[0], FRAMES[1] + 1)), decode.available(facts.seconds, rate))
  start = rng.uniform(0, max(facts.seconds - count / rate, 0))
  shown = decode.pictures(path, fps=rate, start=start, size=side)
  with contextlib.closing(shown):
    frames = np.stack(list(itertools.islice(shown, count)))
  return transforms.crop('center', side)(frames, rng)


def main() -> None:
  values = flags.FLAGS
  output, folder = command.json_file(values.output), pathlib.Path(values.videos)
  if not folder.is_dir():
    raise UserError(f'--videos={folder}: there is no such folder.')
  paths = sorted(path for path in folder.rglob('*') if path.is_file())
  if missing := {*values.with_cuts} - {path.name for path in paths}:
    raise UserError(f'--with_cuts: {folder} has no {", ".join(sorted(missing))}.')
  paths = [path for path in paths if path.name not in values.with_cuts]
  usable, detected = uncut(paths, values.cut_threshold)
  if len(usable) < 2:
    raise UserError(f'--videos={folder} has {len(usable)} usable videos; at least 2 are needed.')
  joins = list(joined(usable, values.cut_threshold, values.seed))
  hits = sum(join['hit'] for join in joins)
  for join in joins:
    if not join['hit'] or join['others']:
      print(f'{"hit" if join["hit"] else "MISSED"}, {join["others"]} others: {join}')
  for name, cuts in detected.items():
    print(f'cut: {name} at {", ".join(f"{cut:.3f}" for cut in cuts)} s')
  result = {
    'joins': len(joins),
    'joins_detected': hits / len(joins),
    'cuts_elsewhere_in_joins': sum(join['others'] for join in joins),
    'uncut_videos': len(usable),
    'uncut_videos_cut': len(detected) / len(usable),
    'threshold': values.cut_threshold,
    'seed': values.seed,
  }
  print(json.dumps(result))
  if output:
    with new_file(output) as file:
      file.write_text(json.dumps(result | {'each_join': joins}, indent=2) + '\n', 'utf-8')


if __name__ == '__main__':
  flags.DEFINE_string('videos', None, 'Folder of videos.', required=True)
  flags.DEFINE_list('with_cuts', [], 'Names of videos that have cuts; they are left out.')
  flags.DEFINE_float('cut_threshold', scenes.THRESHOLD, 'As in data.builder.')
  flags.DEFINE_integer('seed', 0, 'Seed of the draw of joins.')
  flags.DEFINE_string('output', None, 'JSON file to write the result to.')
  command.run(main)
