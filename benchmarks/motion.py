r"""Measures how well the motion metrics distinguish a video from one that is damaged in time.

  python -m benchmarks.motion --videos=DIR --output=motion.json

Every clip is damaged in all `KINDS`.  For each pair of kinds, the table has the area under the ROC
curve of one metric, which is fixed in `PAIRS`: the probability that it is larger for a clip of one
kind than for a clip of the other, where ties count half.  1 is a perfect distinction and 0.5 none.
Areas are measured for clips as they are, and for clips that x264 compresses after the damage.

Moving shapes that stand still are left out, since freezing and shuffling don't change them.  Videos
that cannot be read or have fewer than `MIN_FRAMES` frames are left out too.
"""

import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import flags
from tqdm import tqdm

from benchmarks.distortions import compression, distorted
from core import command
from core.errors import UserError
from core.video import Pixels
from data import synthetic
from data.decode import available, decode, probe
from data.pipeline import SHAPES
from evaluation.motion import motion_score, summary
from evaluation.protocol import write_score

MIN_FRAMES = 16
CRF = 23  # x264's default

# name: (group in `PAIRS`, function from a clip and a seed to the damaged clip)
KINDS: dict[str, tuple[str, Callable[[Pixels, int], Pixels]]] = {
  'original': ('original', lambda clip, seed: clip),
  'shuffled': ('shuffled', lambda clip, seed: distorted(clip, 'frame shuffling', 5, seed)),
  'a third frozen': ('frozen', lambda clip, seed: distorted(clip, 'freezing', 2, seed)),
  'all frozen': ('frozen', lambda clip, seed: distorted(clip, 'freezing', 5, seed)),
  'random gains of 3%': ('flickering', lambda clip, seed: distorted(clip, 'flicker', 3, seed)),
  'every second 3% darker': ('flickering', lambda clip, seed: distorted(clip, 'alternation', 3)),
}

# (group, group): the metric that should be larger for the first.
PAIRS = {
  ('shuffled', 'original'): 'disorder',
  ('shuffled', 'frozen'): 'disorder',
  ('shuffled', 'flickering'): 'disorder',
  ('frozen', 'original'): 'longest_freeze',
  ('flickering', 'original'): 'flicker',
  ('flickering', 'frozen'): 'flicker',
}

Clip = tuple[Pixels, float]  # with its frames per second
Scores = dict[str, list[dict[str, float]]]  # metrics of each clip, by kind


def area(more: Sequence[float], less: Sequence[float]) -> float:
  """The area under the ROC curve: how often a value of `more` is larger than one of `less`."""
  more, less = np.asarray(more)[:, None], np.asarray(less)
  return float(((more > less) + 0.5 * (more == less)).mean())


def score_kinds(clips: Sequence[Clip], compress: Callable[[Pixels], Pixels]) -> Scores:
  """The motion metrics of the clips in all kinds, after `compress`."""
  scores = {kind: [] for kind in KINDS}
  for seed, (clip, fps) in enumerate(tqdm(clips, unit='clip')):
    for kind, (_, damage) in KINDS.items():
      scores[kind].append(motion_score(compress(damage(clip, seed)), fps))
  return scores


def areas(scores: Scores) -> dict[tuple[str, str, str], float]:
  """The area for every pair of kinds, by (kind with more, kind with less, metric)."""
  result = {}
  for more, less in itertools.permutations(KINDS, 2):
    if metric := PAIRS.get((KINDS[more][0], KINDS[less][0])):
      values = ([one[metric] for one in scores[kind]] for kind in (more, less))
      result[more, less, metric] = area(*values)
  return result


def shapes(count: int, size: int, frames: int) -> Iterator[Clip]:
  """The first held-out clips of moving shapes that do not stand still."""
  drawn = (
    synthetic.clip(i, size=size, frames=frames, fps=16, seed=SHAPES['test'])
    for i in itertools.count()
  )
  moving = (clip for clip in drawn if clip['facts'].motion != 'standing still')
  return ((clip['video'], 16.0) for clip in itertools.islice(moving, count))


def videos(
  paths: Sequence[pathlib.Path], size: int, frames: int
) -> tuple[dict[str, Clip], dict[str, str]]:
  """The first frames of videos by name, at up to 16 frames a second; why others are left out."""
  clips, skipped = {}, {}
  for path in tqdm(paths, unit='file'):
    try:
      facts = probe(path)
      fps = min(16.0, facts.frames / facts.seconds)
      count = min(frames, available(facts.seconds, fps))
      if count < MIN_FRAMES:
        raise UserError(f'{count} frames at {fps:.3g} a second; at least {MIN_FRAMES} are needed')
      clips[path.name] = decode(path, fps=fps, count=count, size=size), fps
    except ValueError as error:
      skipped[path.name] = str(error)
  return clips, skipped


def table(results: dict[str, dict[tuple[str, str, str], float]]) -> str:
  """A Markdown table of areas, with a column for each name in `results`."""
  head = ['has more', 'has less', 'of', *results]
  keys = next(iter(results.values()))
  rows = [[*key, *(f'{values[key]:.4f}' for values in results.values())] for key in keys]
  lines = [head, ['---'] * 3 + ['---:'] * len(results), *rows]
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def main() -> None:
  f = flags.FLAGS
  output = command.json_file(f.output)
  sources = {'shapes': list(shapes(f.shapes, f.size, f.frames))}
  if f.videos:
    folder = pathlib.Path(f.videos)
    if not folder.is_dir():
      raise UserError(f'--videos={folder}: there is no such folder.')
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    clips, skipped = videos(files, f.size, f.frames)
    for name, reason in skipped.items():
      print(f'left out: {name}: {reason}')
    if not clips:
      raise UserError(f'--videos={folder}: none of its {len(files)} files can be used.')
    sources['videos'] = list(clips.values())

  results, medians = {}, {}
  for name, clips in sources.items():
    for suffix, compress in {
      '': lambda clip: clip,
      ', x264': lambda clip: compression(clip, CRF),
    }.items():
      scores = score_kinds(clips, compress)
      results[f'{len(clips)} {name}{suffix}'] = areas(scores)
      medians[name + suffix] = {kind: summary(values) for kind, values in scores.items()}
  print(table(results))
  if output:
    score = {
      name: {' > '.join(key[:2]): value for key, value in values.items()}
      for name, values in results.items()
    }
    protocol = dict(size=f.size, frames=f.frames, crf=CRF, fewest_frames=MIN_FRAMES)
    write_score(output, 'auc of motion', 'kinds', score, protocol, summary=medians)


if __name__ == '__main__':
  flags.DEFINE_string('videos', None, 'Folder of real videos to measure besides moving shapes.')
  flags.DEFINE_string('output', None, 'JSON file to write the areas to.')
  flags.DEFINE_integer('shapes', 100, 'Number of clips of moving shapes.', lower_bound=1)
  flags.DEFINE_integer('size', 96, 'Shorter side of a frame in pixels.', lower_bound=16)
  flags.DEFINE_integer('frames', 80, 'Largest number of frames of a clip.', lower_bound=MIN_FRAMES)
  command.run(main)
