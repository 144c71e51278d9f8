"""Metrics of a folder of videos; each score comes with its protocol."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping

import av
import jax
import numpy as np

from core.errors import UserError
from data import synthetic
from data.pipeline import SHAPES
from evaluation import feature_statistics
from evaluation.clips import Reading, batched, clips
from evaluation.features.networks import ClipNetwork, FeatureNetwork, open_clip, open_features
from evaluation.folder import Folder, open_folder
from evaluation.motion import motion_score, summary
from evaluation.shapes.judge import judge
from evaluation.shapes.steadiness import means, steadiness

# The default length of a clip; the other metrics read all frames of a video.
FRAMES = {'fvd': 16, 'inception_score': 16, 'clip_score': 16}
# The facts of a scene that the judge recognises in pixels.
FACTS = ('colour', 'shape', 'motion', 'background')


@dataclasses.dataclass(frozen=True)
class Settings:
  """The settings of all metrics; 0 and '' mean a metric's own default, or nothing.

  frames, fps, stride, windows: which frames of a video are a clip; see `clips.Reading`.
  count: the number of clips, drawn by `seed`; fewer are an error.
  batch: the number of clips that a network sees at once.
  reference, reference_count: the folder of real videos, and the number of clips read from it.
  i3d, c3d, clip: weights; see `networks.open_features`.
  clip_network, vocabulary: which CLIP it is, and the file of its tokenizer.
  splits: the number of splits of the inception score.
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
    """Which frames of a video the metric reads; UserError for values that are not allowed."""
    frames = self.frames or FRAMES.get(metric, 0)
    return Reading(frames, self.fps or None, self.stride, self.windows)


def fvd(videos: Folder, settings: Settings) -> dict:
  """Fréchet video distance to the reference (Unterthiner et al., 2018)."""
  require('fvd', settings)
  network, reading = open_network('fvd', settings), settings.reading('fvd')
  seed, batch, skipped = settings.seed, settings.batch, {}
  reference, digest = _reference(
    network, settings.reference, reading, settings.reference_count, seed, batch
  )
  moments = _moments(network, videos, reading, settings.count, seed, batch, skipped.__setitem__)
  fewest = min(moments.count, reference.count)
  protocol = {
    'reference': digest,
    'reference_clips': reference.count,
    'reference_drawn_by_seed': seed if settings.reference_count else None,
    # The covariance of so few clips is singular, and their distance is too large.
    'fewer_clips_than_features': bool(fewest <= len(moments.mean)),
  }
  score = {'fvd': feature_statistics.frechet_distance(moments, reference)}
  return _result('fvd', videos, score, settings, reading, moments.count, skipped, network, protocol)


def inception_score(videos: Folder, settings: Settings) -> dict:
  """Inception score by C3D; Saito et al., 2020, have a single split."""
  require('inception_score', settings)
  network, reading = open_network('inception_score', settings), settings.reading('inception_score')
  seed, skipped = settings.seed, {}
  batches = _features(
    network, videos, reading, settings.count, seed, settings.batch, skipped.__setitem__
  )
  logits = np.concatenate([*batches])
  # Files are often sorted by class, and a split needs videos of all classes.
  order = np.random.default_rng(seed).permutation(len(logits))
  mean, deviation = feature_statistics.inception_score(logits[order], settings.splits)
  score = {'inception_score': mean, 'spread_of_splits': deviation}
  protocol = {'splits': settings.splits, 'split_by_seed': seed}
  return _result(
    'inception_score', videos, score, settings, reading, len(logits), skipped, network, protocol
  )


def clip_score(videos: Folder, settings: Settings) -> dict:
  """How well frames fit their prompt and each other, by CLIP.

  Scores are cosines of embeddings, times 100.  `text` is the mean over frames of the cosine to the
  prompt (CLIPSIM, Wu et al., 2021, "GODIVA"); `adjacent_frames` is the mean cosine of adjacent
  frames, for videos of two frames or more.
  """
  require('clip_score', settings)
  prompts, reading, skipped, rows = videos.prompts(), settings.reading('clip_score'), {}, []
  clip = open_network('clip_score', settings)
  for file, frames in _clips(videos, reading, clip.frames.prepare, settings, skipped):
    images, (text,) = clip.frames.extract(frames[None])[0], clip.embed_texts([prompts[file]])
    row = {'text': 100 * float((images @ text).mean())}
    if len(images) > 1:
      row['adjacent_frames'] = 100 * float((images[1:] * images[:-1]).sum(-1).mean())
    rows.append({'file': file, 'prompt': prompts[file]} | row)
  rows.sort(key=lambda row: row['file'])
  score = {key: float(np.mean([other[key] for other in rows if key in other])) for key in row}
  result = _result('clip_score', videos, score, settings, reading, len(rows), skipped, clip.frames)
  return result | {'videos': rows}


def shapes(videos: Folder, settings: Settings) -> dict:
  """The share of videos whose moving shapes are those of the prompt, judged by pixels.

  `all` is the share for which every fact is right.  `steadiness` is the mean of what
  `shapes.steadiness` measures, and `steadiness_of_truth` that of held-out clips in this format.
  UserError where a prompt does not describe a scene of moving shapes.
  """
  scenes = {scene.caption: scene for scene in synthetic.SCENES}
  prompts, reading, skipped, rows = videos.prompts(), settings.reading('shapes'), {}, []
  if unknown := [prompt for prompt in prompts.values() if prompt not in scenes]:
    raise UserError(f'Got the prompt {unknown[0]!r}; allowed are those as {next(iter(scenes))!r}.')
  shape = ()
  for file, clip in _clips(videos, reading, np.asarray, settings, skipped):
    scene, verdict, shape = scenes[prompts[file]], judge(clip), clip.shape
    row = {fact: [getattr(scene, fact), getattr(verdict, fact)] for fact in FACTS}
    rows.append({'file': file, 'caption': scene.caption, **row, **steadiness(clip, scene.motion)})
  rows.sort(key=lambda row: row['file'])
  right = [{fact: row[fact][0] == row[fact][1] for fact in FACTS} for row in rows]
  score = {fact: sum(facts[fact] for facts in right) / len(rows) for fact in FACTS}
  score['all'] = sum(all(facts.values()) for facts in right) / len(rows)
  score['steadiness'] = means(rows)
  score['steadiness_of_truth'] = means(_true_steadiness(len(rows), shape))
  result = _result('shapes', videos, score, settings, reading, len(rows), skipped)
  return result | {'videos': rows}


def _true_steadiness(count: int, shape: tuple[int, ...]) -> Iterator[dict[str, float]]:
  """That of so many held-out clips, as long and as large as one of this shape, `t h w 3`."""
  frames, size = shape[0], shape[1:3]
  for i in range(count):
    fps = frames / synthetic.DURATION
    clip = synthetic.clip(i, size=size, frames=frames, fps=fps, seed=SHAPES['test'])
    yield steadiness(clip['video'], clip['facts'].motion)


def motion(videos: Folder, settings: Settings) -> dict:
  """How much and how steadily videos move, measured at 16 fps.

  See `motion.motion_score`.  Videos of a model with a lower frame rate are read at that rate, since
  repeated frames would count as frozen.  The score is the median over videos; `quantiles` has more
  of each measure.
  """
  fps = settings.fps or min(16.0, float(videos.made_by().get('fps', 16)))
  reading, skipped, rows = dataclasses.replace(settings.reading('motion'), fps=fps), {}, []
  measure = lambda clip: motion_score(clip, reading.fps / reading.stride)
  for file, measures in _clips(videos, reading, measure, settings, skipped):
    rows.append({'file': file} | measures)
  rows.sort(key=lambda row: row['file'])
  quantiles = summary([{k: v for k, v in row.items() if k != 'file'} for row in rows])
  score = {name: values['median'] for name, values in quantiles.items()}
  result = _result('motion', videos, score, settings, reading, len(rows), skipped)
  return result | {'videos': rows, 'quantiles': quantiles}


METRICS: dict[str, Callable[[Folder, Settings], dict]] = {
  metric.__name__: metric for metric in (shapes, fvd, inception_score, clip_score, motion)
}

# The settings without which a metric cannot be computed.
REQUIRED = {
  'fvd': ('reference', 'i3d'),
  'inception_score': ('c3d',),
  'clip_score': ('clip', 'vocabulary'),
}


def require(metric: str, settings: Settings) -> None:
  """Raises UserError where a metric is unknown, or its settings are missing or not allowed."""
  if metric not in METRICS:
    raise UserError(f'Unknown metric: {metric!r}.  Allowed: {", ".join(sorted(METRICS))}.')
  if missing := [name for name in REQUIRED.get(metric, ()) if not getattr(settings, name)]:
    raise UserError(f'{metric} needs {" and ".join(missing)}.')
  settings.reading(metric)
  if 'reference' in REQUIRED.get(metric, ()):
    open_folder(settings.reference)


def open_network(metric: str, settings: Settings) -> FeatureNetwork | ClipNetwork | None:
  """The feature network of a metric, or None; errors as in `networks.open_features`."""
  match metric:
    case 'fvd':
      return _open_features('i3d', settings.i3d, settings.batch)
    case 'inception_score':
      return _open_features('c3d', settings.c3d, settings.batch)
    case 'clip_score':
      return _open_clip(settings.clip_network, settings.clip, settings.vocabulary, 1)
  return None


# A training that is scored repeatedly opens each network once.
_open_features = functools.lru_cache(maxsize=4)(open_features)
_open_clip = functools.lru_cache(maxsize=1)(open_clip)


def _clips(videos, reading, prepare, settings, skipped: dict) -> Iterator[tuple]:
  count = settings.count or None
  return clips(videos, reading, prepare, skip=skipped.__setitem__, count=count, seed=settings.seed)


def _features(
  network: FeatureNetwork, folder, reading, count, seed, batch, skip
) -> Iterator[np.ndarray]:
  prepared = clips(folder, reading, network.prepare, skip=skip, count=count or None, seed=seed)
  return map(network.extract, batched(prepared, batch))


def _moments(network, *args) -> feature_statistics.Moments:
  moments = map(feature_statistics.feature_moments, _features(network, *args))
  return functools.reduce(feature_statistics.merge_moments, moments)


@functools.lru_cache(maxsize=4)
def _reference(network, folder: str, reading, count, seed, batch):
  """The moments of the real videos, and the digest of their folder.

  A video that cannot be read is an error.  The results are cached for a training that is scored
  repeatedly.
  """

  def refuse(file, reason):  # at the first such file, not after hours
    raise UserError(f'{file} of the reference cannot be used: {reason}')

  videos = open_folder(folder)
  return _moments(network, videos, reading, count, seed, batch, refuse), videos.digest()


def _result(
  metric: str,
  videos: Folder,
  score: Mapping[str, float],
  settings: Settings,
  reading: Reading,
  count: int,
  skipped: Mapping[str, str],
  network: FeatureNetwork | None = None,
  more: Mapping[str, object] | None = None,
) -> dict:
  """The arguments of `protocol.write_score`, and the videos that were skipped.

  more: entries of the protocol that only this metric has.
  """
  made_by = videos.made_by()
  models = ', '.join(made_by[key] for key in ('model', 'ssr_model') if key in made_by)
  # The protocol has how a model is sampled, but not which model it is: models are compared.
  sampling = {k: v for k, v in made_by.items() if not k.endswith(('model', 'weights'))}
  protocol = {
    'clips': count,
    'reading': dataclasses.asdict(reading) | {'pixels': 'upright and square'},
    'sampling': sampling or None,
    'drawn_by_seed': settings.seed if settings.count else None,
    'stored': sorted({pathlib.Path(file).suffix.lower() for file in videos.files}),
    'versions': {'jax': jax.__version__, 'av': av.__version__, 'numpy': np.__version__},
  }
  if network:
    protocol['network'] = {key: getattr(network, key) for key in ('name', 'weights', 'prepared')}
  return {
    'metric': metric,
    'of': models or str(videos.path),
    'score': score,
    'protocol': protocol | dict(more or {}),
    'made_by': made_by,
    'digest': videos.digest(),
    'skipped': dict(sorted(skipped.items())),
  }
