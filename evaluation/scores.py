"""Scores of a folder of videos, each with all that has to be the same for another to compare."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import av
import jax
import numpy as np

from data import synthetic
from evaluation import frechet
from evaluation.features import Features, open_clip, open_features
from evaluation.inception_score import inception_score as _inception_score
from evaluation.motion import motion_score, summary
from evaluation.shapes import judge
from evaluation.videos import Folder, Reading, batched, clips, open_folder

# The facts of a scene that a judge can tell from pixels.
FACTS = ('colour', 'shape', 'motion', 'background')


@dataclasses.dataclass(frozen=True)
class Settings:
  """What scores are told; 0 and '' are what each takes by itself, or nothing.

  frames, fps, stride, windows: what of a video is a clip, `videos.Reading`.
  count: of clips, drawn by `seed`; fewer are an error.
  reference, reference_count: the folder of real videos, and of how many clips of it.
  i3d, c3d, clip: weights, see `features.open_features`; clip_network: of which CLIP.
  splits: of the inception score.
  """

  frames: int = 0
  fps: float = 0.0
  stride: int = 1
  windows: str = 'first'
  count: int = 0
  seed: int = 0
  batch: int = 8
  reference: str = ''
  reference_count: int = 0
  i3d: str = ''
  c3d: str = ''
  clip: str = ''
  clip_network: str = 'clip_b32'
  vocabulary: str = ''
  splits: int = 10

  def reading(self, frames: int) -> Reading:
    """That of clips which have `frames` where nothing else is told."""
    return Reading(self.frames or frames, self.fps or None, self.stride, self.windows)


def fvd(videos: Folder, s: Settings) -> dict:
  """Fréchet video distance to the reference: Unterthiner et al., 2018."""
  require('fvd', s)
  network, reading, skipped = _network('i3d', s.i3d, s.batch), s.reading(16), {}
  reference, digest = _reference(network, s.reference, reading, s.reference_count, s.seed, s.batch)
  found = _moments(network, videos, reading, s.count, s.seed, s.batch, skipped)
  dimensions = len(found.mean)
  protocol = {
    'reference': digest,
    'reference_clips': reference.count,
    # Below this a covariance is singular, and the distance of few samples is too large.
    'fewer_clips_than_features': bool(min(found.count, reference.count) <= dimensions),
  }
  score = {'fvd': frechet.distance(found, reference)}
  return _score('fvd', videos, score, s, reading, found.count, skipped, network, protocol)


def inception_score(videos: Folder, s: Settings) -> dict:
  """Inception score by C3D: Saito et al., 2020."""
  require('inception_score', s)
  network, reading, skipped = _network('c3d', s.c3d, s.batch), s.reading(16), {}
  logits = np.concatenate(
    list(_features(network, videos, reading, s.count, s.seed, s.batch, skipped))
  )
  # Files are often in order of classes, and a split has to have them all.
  order = np.random.default_rng(s.seed).permutation(len(logits))
  mean, spread = _inception_score(logits[order], s.splits)
  score = {'inception_score': mean, 'spread_of_splits': spread}
  protocol = {'splits': s.splits, 'split_by_seed': s.seed}
  return _score(
    'inception_score', videos, score, s, reading, len(logits), skipped, network, protocol
  )


def clip_score(videos: Folder, s: Settings) -> dict:
  """How well frames fit their prompt, and each other, by CLIP's cosines, times 100.

  Of a video it is the mean over frames of the cosine to its prompt (CLIPSIM, Wu et al., 2021,
  "GODIVA"), and that of adjacent frames' cosines.
  """
  require('clip_score', s)
  prompts, reading, skipped, rows = videos.prompts(), s.reading(16), {}, []
  clip = _clip(s.clip_network, s.clip, s.vocabulary, 1)
  for file, frames in _clips(clip.frames.prepare, videos, reading, s.count, s.seed, skipped):
    seen, (said,) = clip.frames.see(frames[None])[0], clip.texts([prompts[file]])
    adjacent = (seen[1:] * seen[:-1]).sum(-1).mean() if len(seen) > 1 else 1.0
    row = {'text': 100 * float((seen @ said).mean()), 'adjacent_frames': 100 * float(adjacent)}
    rows.append({'file': file, 'prompt': prompts[file]} | row)
  rows.sort(key=lambda row: row['file'])
  score = {key: float(np.mean([row[key] for row in rows])) for key in ('text', 'adjacent_frames')}
  of = _score('clip_score', videos, score, s, reading, len(rows), skipped, clip.frames, {})
  return of | {'videos': rows}


def shapes(videos: Folder, s: Settings) -> dict:
  """The share of moving shapes which are what their prompts say, judged by their pixels alone.

  ValueError where a prompt is no scene of them.
  """
  scenes = {scene.caption: scene for scene in synthetic.SCENES}
  prompts, reading, skipped, rows = videos.prompts(), s.reading(0), {}, []
  if strange := [prompt for prompt in prompts.values() if prompt not in scenes]:
    raise ValueError(f'Got the prompt {strange[0]!r}; allowed are those as {next(iter(scenes))!r}.')
  for file, seen in _clips(judge, videos, reading, s.count, s.seed, skipped):
    asked = scenes[prompts[file]]
    row = {fact: [getattr(asked, fact), getattr(seen, fact)] for fact in FACTS}
    rows.append({'file': file, 'caption': asked.caption, **row})
  rows.sort(key=lambda row: row['file'])
  score = {fact: sum(row[fact][0] == row[fact][1] for row in rows) / len(rows) for fact in FACTS}
  return _score('shapes', videos, score, s, reading, len(rows), skipped) | {'videos': rows}


def motion(videos: Folder, s: Settings) -> dict:
  """How much and how steadily videos move, as `motion.motion_score` tells, at 16 frames a second.

  The score is a median over videos; `quantiles` has more of each measure.
  """
  reading, skipped, rows = dataclasses.replace(s.reading(0), fps=s.fps or 16.0), {}, []
  measure = lambda clip: motion_score(clip, reading.fps / reading.stride)
  for file, found in _clips(measure, videos, reading, s.count, s.seed, skipped):
    rows.append({'file': file} | found)
  rows.sort(key=lambda row: row['file'])
  every = summary([{k: v for k, v in row.items() if k != 'file'} for row in rows])
  score = {name: of['median'] for name, of in every.items()}
  of = _score('motion', videos, score, s, reading, len(rows), skipped)
  return of | {'videos': rows, 'quantiles': every}


METRICS: dict[str, Callable[[Folder, Settings], dict]] = {
  of.__name__: of for of in (shapes, fvd, inception_score, clip_score, motion)
}


# What of the settings each can't be without.
NEEDED = {
  'fvd': ('reference', 'i3d'),
  'inception_score': ('c3d',),
  'clip_score': ('clip', 'vocabulary'),
}


def require(metric: str, s: Settings) -> None:
  """Raises ValueError for a metric that is unknown, or that lacks what it needs."""
  if metric not in METRICS:
    raise ValueError(f'Unknown metric: {metric!r}.  Allowed: {", ".join(sorted(METRICS))}.')
  if missing := [name for name in NEEDED.get(metric, ()) if not getattr(s, name)]:
    raise ValueError(f'{metric} needs {" and ".join(missing)}.')


# A run that is scored again and again opens each once.
_network = functools.lru_cache(maxsize=4)(open_features)
_clip = functools.lru_cache(maxsize=1)(open_clip)


def _clips(prepare, folder, reading, count, seed, skipped):
  options = dict(count=count or None, seed=seed, skip=skipped.__setitem__)
  return clips(folder, reading, prepare, **options)


def _features(network: Features, folder, reading, count, seed, batch, skipped):
  for some in batched(_clips(network.prepare, folder, reading, count, seed, skipped), batch):
    yield network.see(some)


def _moments(network, *args) -> frechet.Moments:
  return functools.reduce(frechet.joined, map(frechet.moments, _features(network, *args)))


@functools.lru_cache(maxsize=4)
def _reference(network, folder: str, reading, count, seed, batch):
  """The moments of real videos, none of which may be skipped, and their digest.

  They are kept, for a run that is scored again and again.
  """
  videos, skipped = open_folder(folder), {}
  found = _moments(network, videos, reading, count, seed, batch, skipped)
  if skipped:
    file, reason = next(iter(skipped.items()))
    raise ValueError(f'{len(skipped)} videos of the reference cannot be used, as {file}: {reason}')
  return found, videos.digest()


def _score(metric, videos, score, s, reading, count, skipped, network=None, more=()) -> dict:
  """What `protocol.write_score` writes."""
  stored = sorted({pathlib.Path(file).suffix for file in videos.files})
  protocol = {
    'clips': count,
    'reading': dataclasses.asdict(reading),
    'drawn_by_seed': s.seed if s.count else None,
    'stored': stored,
    'versions': {'jax': jax.__version__, 'av': av.__version__, 'numpy': np.__version__},
  }
  if network:
    protocol['network'] = {key: getattr(network, key) for key in ('name', 'weights', 'prepared')}
  facts = {'digest': videos.digest(), 'skipped': dict(sorted(skipped.items()))}
  of = {'metric': metric, 'of': str(videos.path), 'score': score, 'protocol': protocol | dict(more)}
  return of | facts
