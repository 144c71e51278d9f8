"""A dry run: all that a run does, in small, on as many devices as it is to have.

The mesh, the batch, the data, the text encoder, and the shape of the network are those of the
config.  Its features, the frames and the number of sampling steps are as small as they can be, so
that many devices can be imitated by one CPU.
"""

import math
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from core.frame_size import height_width
from core.sharding import make_mesh
from training.export import write_model
from training.plan import OpenStage, initialise, make_plan
from training.state import State

SMALLER = 8  # the factor by which sides of frames are reduced, where the network allows it
FEATURES = 8  # of the narrowest level


def use_virtual_devices(count: int) -> None:
  """Imitates so many devices on this CPU; call it before JAX has devices."""
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', count)


def narrowed(config: ConfigDict, devices: int) -> ConfigDict:
  """The config of a dry run of one step.

  devices: their number, which divides the features of the coarsest level, so that its parameters
    are sharded as those of the whole network are.
  """
  config = config.copy_and_resolve_references()
  model, data = config.model, config.data
  levels = len(model.channels)
  # Levels of the same width stay so: between others, a block has a projection more.
  widths = {width: FEATURES + 4 * i for i, width in enumerate(sorted({*model.channels}))}
  widths[model.channels[-1]] = math.lcm(FEATURES, devices)
  model.channels = tuple(widths[width] for width in model.channels)
  with model.unlocked():
    model.update(groups=4, head_features=4, pool_heads=2, emb_features=16)
  if model.get('text_features'):
    model.text_features = FEATURES
  if config.text.source in ('', 'hashed'):
    config.text.update(source='hashed', width=FEATURES, cache='', stored_dtype='')
  multiple = model.get('patch', 1) * 2 ** (levels - 1) * config.degrade.get('factor', 1)
  smaller = lambda side: multiple * max(1, math.ceil(side / SMALLER / multiple))
  with config.ignore_type():  # a size may be one number or two
    data.size = tuple(smaller(side) for side in height_width(data.size))
  data.buckets = tuple((t, smaller(h), smaller(w)) for t, h, w in data.get('buckets', ()))
  if data.shorter_side:
    data.shorter_side = max(min(data.size), data.shorter_side // SMALLER)
  config.shard_above = 0
  config.steps = config.save_every = config.log_every = 1
  config.update(evaluate_every=0, sample_every=0, score_every=0)
  config.evaluate_clips = config.evaluate_batch
  config.evaluate_times = 1
  config.scores.metrics = ()
  config.tracker.name = ''
  config.optim.warmup = 0
  if not config.get('distill'):  # a student is trained for the steps of its sampling
    config.sampling.steps = 2
  return config


def write_parent(config: ConfigDict, open_stage: OpenStage, workdir: pathlib.Path) -> None:
  """Writes a model with random parameters from which a run of the config can start."""
  config = config.copy_and_resolve_references()
  if config.get('distill'):
    config.stage = config.distill.stage
    config.distill = ConfigDict()
  config.trainable = ('.*',)
  plan = make_plan(config, make_mesh((('data', 1),), jax.devices()[:1]), open_stage)
  state, _ = initialise(plan, {}, jax.random.key(1))
  write_model(workdir, config, state.params, 0)


def differing(saved: State, restored: State) -> list[str]:
  """The names of the arrays of a state that are not the same bits as those of another."""
  pairs = zip(jax.tree.leaves_with_path(vars(saved)), jax.tree.leaves(vars(restored)), strict=True)
  equal = lambda a, b: np.array_equal(*map(_bits, (a, b)))
  return [jax.tree_util.keystr(path) for (path, a), b in pairs if not equal(a, b)]


def _bits(x):
  x = np.asarray(x)
  return x.view(np.uint8) if x.ndim else x[None].view(np.uint8)
