"""Scores of a folder of videos, each with all that has to be the same for another to compare."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import av
import jax
import numpy as np

from core.errors import UserError
from data import synthetic
from evaluation import frechet
from evaluation.features.networks import Clip, Features, open_clip, open_features
from evaluation.inception_score import inception_score as _inception_score
from evaluation.motion import motion_score, summary
from evaluation.shapes.judge import judge
from evaluation.videos import Folder, Reading, batched, clips, open_folder

# Of a clip, by metric, where nothing else is told; all there are for the others.
FRAMES = {'fvd': 16, 'inception_score': 16, 'clip_score': 16}
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
  splits: int = 1

  def reading(self, metric: str) -> Reading:
    """What of a video is a clip; ValueError for numbers that are none."""
    frames = self.frames or FRAMES.get(metric, 0)
    return Reading(frames, self.fps or None, self.stride, self.windows)


def fvd(videos: Folder, s: Settings) -> dict:
  """Fréchet video distance to the reference: Unterthiner et al., 2018."""
  require('fvd', s)
  network, reading, skipped = network_of('fvd', s), s.reading('fvd'), {}
  reference, digest = _reference(network, s.reference, reading, s.reference_count, s.seed, s.batch)
  found = _moments(network, videos, reading, s.count, s.seed, s.batch, skipped.__setitem__)
  dimensions = len(found.mean)
  protocol = {
    'reference': digest,
    'reference_clips': reference.count,
    'reference_drawn_by_seed': s.seed if s.reference_count else None,
    # Below this a covariance is singular, and the distance of few samples is too large.
    'fewer_clips_than_features': bool(min(found.count, reference.count) <= dimensions),
  }
  score = {'fvd': frechet.distance(found, reference)}
  return _score('fvd', videos, score, s, reading, found.count, skipped, network, protocol)


def inception_score(videos: Folder, s: Settings) -> dict:
  """Inception score by C3D: Saito et al., 2020, who have one split, of all."""
  require('inception_score', s)
  network, reading, skipped = network_of('inception_score', s), s.reading('inception_score'), {}
  skip = skipped.__setitem__
  logits = np.concatenate([*_features(network, videos, reading, s.count, s.seed, s.batch, skip)])
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
  "GODIVA"), and that of adjacent frames' cosines, where there are two.
  """
  require('clip_score', s)
  prompts, reading, skipped, rows = videos.prompts(), s.reading('clip_score'), {}, []
  clip = network_of('clip_score', s)
  for file, frames in _clips(videos, reading, clip.frames.prepare, s, skipped):
    seen, (said,) = clip.frames.see(frames[None])[0], clip.texts([prompts[file]])
    row = {'text': 100 * float((seen @ said).mean())}
    if len(seen) > 1:
      row['adjacent_frames'] = 100 * float((seen[1:] * seen[:-1]).sum(-1).mean())
    rows.append({'file': file, 'prompt': prompts[file]} | row)
  rows.sort(key=lambda row: row['file'])
  score = {key: float(np.mean([of[key] for of in rows if key in of])) for key in row}
  of = _score('clip_score', videos, score, s, reading, len(rows), skipped, clip.frames, {})
  return of | {'videos': rows}


def shapes(videos: Folder, s: Settings) -> dict:
  """The share of moving shapes which are what their prompts say, judged by their pixels alone.

  ValueError where a prompt is no scene of them.
  """
  scenes = {scene.caption: scene for scene in synthetic.SCENES}
  prompts, reading, skipped, rows = videos.prompts(), s.reading('shapes'), {}, []
  if strange := [prompt for prompt in prompts.values() if prompt not in scenes]:
    raise UserError(f'Got the prompt {strange[0]!r}; allowed are those as {next(iter(scenes))!r}.')
  for file, seen in _clips(videos, reading, judge, s, skipped):
    asked = scenes[prompts[file]]
    row = {fact: [getattr(asked, fact), getattr(seen, fact)] for fact in FACTS}
    rows.append({'file': file, 'caption': asked.caption, **row})
  rows.sort(key=lambda row: row['file'])
  score = {fact: sum(row[fact][0] == row[fact][1] for row in rows) / len(rows) for fact in FACTS}
  return _score('shapes', videos, score, s, reading, len(rows), skipped) | {'videos': rows}


def motion(videos: Folder, s: Settings) -> dict:
  """How much and how steadily videos move, as `motion.motion_score` tells, at 16 frames a second.

  Samples of a model that makes fewer are seen at its own rate: frames shown twice would be frozen.
  The score is a median over videos; `quantiles` has more of each measure.
  """
  fps = s.fps or min(16.0, float(videos.made_by().get('fps', 16)))
  reading, skipped, rows = dataclasses.replace(s.reading('motion'), fps=fps), {}, []
  measure = lambda clip: motion_score(clip, reading.fps / reading.stride)
  for file, found in _clips(videos, reading, measure, s, skipped):
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
  """Raises ValueError for a metric that is unknown, lacks what it needs, or has wrong settings."""
  if metric not in METRICS:
    raise UserError(f'Unknown metric: {metric!r}.  Allowed: {", ".join(sorted(METRICS))}.')
  if missing := [name for name in NEEDED.get(metric, ()) if not getattr(s, name)]:
    raise UserError(f'{metric} needs {" and ".join(missing)}.')
  s.reading(metric)
  if 'reference' in NEEDED.get(metric, ()):
    open_folder(s.reference)


def network_of(metric: str, s: Settings) -> Features | Clip | None:
  """What the metric sees with, if it does; the errors of `features.open_features`."""
  match metric:
    case 'fvd':
      return _network('i3d', s.i3d, s.batch)
    case 'inception_score':
      return _network('c3d', s.c3d, s.batch)
    case 'clip_score':
      return _clip(s.clip_network, s.clip, s.vocabulary, 1)
  return None


# A run that is scored again and again opens each once.
_network = functools.lru_cache(maxsize=4)(open_features)
_clip = functools.lru_cache(maxsize=1)(open_clip)


def _clips(videos, reading, prepare, s, skipped):
  skip = skipped.__setitem__
  return clips(videos, reading, prepare, skip=skip, count=s.count or None, seed=s.seed)


def _features(network: Features, folder, reading, count, seed, batch, skip):
  found = clips(folder, reading, network.prepare, skip=skip, count=count or None, seed=seed)
  for some in batched(found, batch):
    yield network.see(some)


def _moments(network, *args) -> frechet.Moments:
  return functools.reduce(frechet.joined, map(frechet.moments, _features(network, *args)))


@functools.lru_cache(maxsize=4)
def _reference(network, folder: str, reading, count, seed, batch):
  """The moments of real videos, none of which may be skipped, and their digest.

  They are kept, for a run that is scored again and again.
  """

  def refuse(file, reason):  # at the first, and not after hours
    raise UserError(f'{file} of the reference cannot be used: {reason}')

  videos = open_folder(folder)
  return _moments(network, videos, reading, count, seed, batch, refuse), videos.digest()


def _score(metric, videos, score, s, reading, count, skipped, network=None, more=()) -> dict:
  """What `protocol.write_score` writes."""
  stored = sorted({pathlib.Path(file).suffix.lower() for file in videos.files})
  made_by = videos.made_by()
  models = ', '.join(made_by[key] for key in ('model', 'ssr_model') if key in made_by)
  protocol = {
    'clips': count,
    'reading': dataclasses.asdict(reading) | {'pixels': 'upright and square'},
    # How it samples is of a model's protocol; which model it is, is what is compared.
    'sampling': {k: v for k, v in made_by.items() if not k.endswith(('model', 'weights'))} or None,
    'drawn_by_seed': s.seed if s.count else None,
    'stored': stored,
    'versions': {'jax': jax.__version__, 'av': av.__version__, 'numpy': np.__version__},
  }
  if network:
    protocol['network'] = {key: getattr(network, key) for key in ('name', 'weights', 'prepared')}
  of = {'metric': metric, 'of': models or str(videos.path), 'score': score}
  of |= {'protocol': protocol | dict(more), 'made_by': made_by, 'digest': videos.digest()}
  return of | {'skipped': dict(sorted(skipped.items()))}
