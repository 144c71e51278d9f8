r"""Answers whether the measures of motion tell a video from one that was damaged in time.

  python -m benchmarks.motion --videos=DIR --output=motion.json

Every clip is damaged in all `KINDS`, and for each two kinds the table has the area under the ROC
curve of one measure, which is chosen here beforehand: the probability that it is larger for a clip
of the one than for a clip of the other, where equal ones count half.  1 is told apart always, 0.5
never.  Each is told of clips as they are, and of all kinds alike after x264.

Of moving shapes those that stand still are left out: they are frozen, and in any order the same.
Of videos those that cannot be read, and those of less than `FEWEST` frames.
"""

import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import flags
from tqdm import tqdm

from core import command
from core.errors import UserError
from core.video import Pixels
from data import synthetic
from data.decode import available, decode, probe
from data.pipeline import SHAPES
from evaluation.distortions import compression, distorted
from evaluation.motion import motion_score, summary
from evaluation.protocol import write_score

FEWEST = 16  # frames
CRF = 23  # x264's default

# name: what it is, and what makes it of a clip and a seed.
KINDS: dict[str, tuple[str, Callable[[Pixels, int], Pixels]]] = {
  'original': ('original', lambda clip, seed: clip),
  'shuffled': ('shuffled', lambda clip, seed: distorted(clip, 'frame shuffling', 5, seed)),
  'a third frozen': ('frozen', lambda clip, seed: distorted(clip, 'freezing', 2, seed)),
  'all frozen': ('frozen', lambda clip, seed: distorted(clip, 'freezing', 5, seed)),
  'random gains of 3%': ('flickering', lambda clip, seed: distorted(clip, 'flicker', 3, seed)),
  'every second 3% darker': ('flickering', lambda clip, seed: distorted(clip, 'alternation', 3)),
}

# The first has more of the measure than the second.
PAIRS = {
  ('shuffled', 'original'): 'disorder',
  ('shuffled', 'frozen'): 'disorder',
  ('shuffled', 'flickering'): 'disorder',
  ('frozen', 'original'): 'longest_freeze',
  ('flickering', 'original'): 'flicker',
  ('flickering', 'frozen'): 'flicker',
}

Clip = tuple[Pixels, float]  # and its frames a second
Scores = dict[str, list[dict[str, float]]]  # of each kind, of each clip


def area(more: Sequence[float], less: Sequence[float]) -> float:
  """The area under the ROC curve: how often one of the first is more than one of the second."""
  more, less = np.asarray(more)[:, None], np.asarray(less)
  return float(((more > less) + 0.5 * (more == less)).mean())


def score_kinds(clips: Sequence[Clip], then: Callable[[Pixels], Pixels]) -> Scores:
  """The measures of the clips in all kinds, after something that is done to each alike."""
  found = {kind: [] for kind in KINDS}
  for seed, (clip, fps) in enumerate(tqdm(clips, unit='clip')):
    for kind, (_, make) in KINDS.items():
      found[kind].append(motion_score(then(make(clip, seed)), fps))
  return found


def areas(scores: Scores) -> dict[tuple[str, str, str], float]:
  """The area of every two kinds, by (the one with more, the one with less, the measure)."""
  found = {}
  for more, less in itertools.permutations(KINDS, 2):
    if measure := PAIRS.get((KINDS[more][0], KINDS[less][0])):
      values = ([one[measure] for one in scores[kind]] for kind in (more, less))
      found[more, less, measure] = area(*values)
  return found


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
  """The beginnings of videos by name, at their own rate or 16 a second, and why others are none."""
  clips, skipped = {}, {}
  for path in tqdm(paths, unit='file'):
    try:
      facts = probe(path)
      fps = min(16.0, facts.frames / facts.seconds)
      count = min(frames, available(facts.seconds, fps))
      if count < FEWEST:
        raise UserError(f'{count} frames at {fps:.3g} a second; at least {FEWEST} are needed')
      clips[path.name] = decode(path, fps=fps, count=count, size=size), fps
    except ValueError as error:
      skipped[path.name] = str(error)
  return clips, skipped


def table(found: dict[str, dict[tuple[str, str, str], float]]) -> str:
  """In Markdown, a column for each name."""
  head = ['has more', 'has less', 'of', *found]
  rows = [
    [*key, *(f'{of[key]:.4f}' for of in found.values())] for key in next(iter(found.values()))
  ]
  lines = [head, ['---'] * 3 + ['---:'] * len(found), *rows]
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

  found, medians = {}, {}
  for name, clips in sources.items():
    for after, then in {
      '': lambda clip: clip,
      ', x264': lambda clip: compression(clip, CRF),
    }.items():
      scores = score_kinds(clips, then)
      found[f'{len(clips)} {name}{after}'] = areas(scores)
      medians[name + after] = {kind: summary(of) for kind, of in scores.items()}
  print(table(found))
  if output:
    score = {
      name: {' > '.join(key[:2]): value for key, value in of.items()} for name, of in found.items()
    }
    protocol = dict(size=f.size, frames=f.frames, crf=CRF, fewest_frames=FEWEST)
    write_score(output, 'auc of motion', 'kinds', score, protocol, summary=medians)


if __name__ == '__main__':
  flags.DEFINE_string('videos', None, 'A folder of real videos.')
  flags.DEFINE_string('output', None, 'A .json file.')
  flags.DEFINE_integer('shapes', 100, 'Clips of moving shapes.', lower_bound=1)
  flags.DEFINE_integer('size', 96, 'The shorter side of a frame.', lower_bound=16)
  flags.DEFINE_integer('frames', 80, 'Of a clip at most.', lower_bound=FEWEST)
  command.run(main)
