"""Every config at every scale fits the functions that read it.  Only shapes are computed."""

import functools
import importlib
import inspect
import json
import math
import pathlib
import re
from unittest import mock

import jax
import jax.numpy as jnp
import pytest

from configs import base
from core.params import matches
from core.sharding import fsdp, make_mesh, require_batch
from data.mixture import open_sources
from data.pipeline import batches
from pipelines.stages import open_stage
from stunet.adapters import ADAPTERS
from stunet.inflate import TEMPORAL, inflate
from stunet.unet import STUNet
from tests.chips import devices_of
from text.encoder import open_encoder
from training import average, checkpoint
from training.optimizer import make_optimizer
from training.ranges import require_in_range
from training.slices import GIB
from training.stage import with_batch
from training.state import State

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What the files of stages import.
PARTS = {'base', 'deepfloyd', 'models', 'scales', 'stable_diffusion', '__init__'}
STAGES = sorted(path.stem for path in (ROOT / 'configs').glob('*.py') if path.stem not in PARTS)
SCALES = {stage: importlib.import_module(f'configs.{stage}').SCALES for stage in STAGES}
# They have the networks of if_m, but wider: tests/stunet/test_convert.py counts their parameters.
WIDER = {'if_l', 'if_xl'}
ALL = [(stage, scale) for stage in STAGES for scale in SCALES[stage] if scale not in WIDER]
every_config = pytest.mark.parametrize(('stage', 'scale'), ALL, ids=map(':'.join, ALL))


def get_config(stage, *scale):
  return importlib.import_module(f'configs.{stage}').get_config(*scale)


@functools.cache
def network(model, structure, *leaves):
  """The shapes of a network's output and variables, for inputs of these shapes.

  To trace a network takes seconds, so one that several stages train is traced once.
  """
  inputs = jax.tree.unflatten(structure, leaves)
  return jax.eval_shape(model.init_with_output, jax.random.key(0), *inputs)


@functools.cache
def traced(stage, scale):
  """The shapes of the output of a stage's network, and of the stage's parameters."""
  config, outputs = get_config(stage, scale), []

  def init(model, key, *inputs):
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: inputs))
    output, variables = network(model, structure, *leaves)
    outputs.append(output)
    return jax.tree.map(jnp.zeros_like, variables)

  with mock.patch.object(STUNet, 'init', init):
    params = jax.eval_shape(open_stage(config).init, jax.random.key(0), *inputs(config))
  return outputs.pop(), params


@functools.cache
def first_video(**data):
  """The shape of the first video of a data source."""
  return open_sources(**data)[0]['video'].shape


def shapes(stage, scale):
  """The shapes of the parameters."""
  return traced(stage, scale)[1]


def inputs(config):
  d, stage = config.data, open_stage(config)
  x = jax.ShapeDtypeStruct((1, d.frames, d.size, d.size, 3), jnp.float32)
  cond = jax.eval_shape(stage.make_condition, jax.random.key(0), x, with_batch(stage.batch, 1))
  return x, jax.ShapeDtypeStruct((1,), jnp.float32), cond


def parameters(tree):
  """The shapes of parameters by name."""
  pairs = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in pairs}


def leaves(tree, head=()):
  """The values of a nested dict, by their path."""
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from leaves(value, (*head, key))
    else:
      yield (*head, key), value


@pytest.mark.parametrize('stage', STAGES)
def test_a_scale_sets_all_keys_that_it_lists(stage):
  for scale, changes in SCALES[stage].items():
    config = dict(leaves(get_config(stage, scale).to_dict()))
    assert {path: config[path] for path, _ in leaves(changes)} == dict(leaves(changes))


@pytest.mark.parametrize('scale', ['paper', 'if_m', 'if_l', 'if_xl'])
def test_large_models_are_trained_by_adafactor(scale):
  stages = [stage for stage in STAGES if scale in SCALES[stage]]
  assert len(stages) >= 4
  for stage in stages:
    expected = 'adamw' if stage == 'style' else 'adafactor'  # adapters are small
    assert get_config(stage, scale).optim.name == expected, stage


# The slices on which large scales are meant to run; a style needs eight chips.
ON = {'paper': 'v5p:4x4x8', 'if': 'v5p:4x4x4'}
FULL_SIZE = [pair for pair in ALL if pair[1].split('_')[0] in ('paper', 'if')]


@pytest.mark.parametrize(('stage', 'scale'), FULL_SIZE, ids=map(':'.join, FULL_SIZE))
def test_a_stage_of_full_size_has_room_and_work_for_its_slice(stage, scale):
  config = get_config(stage, scale)
  on = 'v5p:2x2x2' if stage == 'style' else ON[scale.split('_')[0]]
  mesh = make_mesh(config.mesh, devices_of(on))
  require_in_range(config)
  assert config.optim.warmup <= config.steps / 10
  require_batch(config.loader.batch, mesh, config.accumulate)
  shardings = fsdp(shapes(stage, scale), mesh, config.shard_above)
  stored = jax.tree.map(
    lambda x, s: 4 * math.prod(s.shard_shape(x.shape)), shapes(stage, scale), shardings
  )
  # Parameters and their average, in float32.
  assert 2 * sum(jax.tree.leaves(stored)) < 0.25 * 95 * GIB
  # At 0.5 s a step, and 0.4 s for a clip on each chip in evaluation and for a step of sampling:
  each = config.evaluate_times * config.evaluate_clips / mesh.size
  between = 0.4 * each / config.evaluate_every
  between += 0.4 * config.sampling.steps / config.sample_every + 10 / config.save_every
  assert stage == 'style' or between < 0.05 * 0.5


@pytest.mark.parametrize('stage', ['t2i', 't2v', 't2v_masked', 'ssr'])
def test_a_demo_that_ships_was_trained_by_its_config(stage):
  """All that decides what a network learns, but for keys that are newer than the checkpoint."""
  groups = ('model', 'schedule', 'optim', 'degrade', 'data', 'text', 'loader', 'masks', 'sampling')
  single = ('stage', 'steps', 'seed', 'high_noise', 'ema_decay', 'drop_text', 'residual')
  shipped = checkpoint.load_config(ROOT / 'checkpoints/demo' / stage).to_dict()
  config = json.loads(get_config(stage, 'demo').to_json())  # lists in place of tuples
  for group in groups:
    for key, value in shipped.get(group, {}).items():
      assert config[group][key] == value, f'{group}.{key}'
  for key in single:
    assert config[key] == shipped.get(key, config[key]), key


def row(stage, scale):
  """How many parameters a scale has and how many of them are trained, as its stage's docstring
  says: two texts like `5.45B`."""
  docstring = importlib.import_module(f'configs.{stage}').__doc__
  return re.search(rf'^ *{scale} +([\d.]+[kMB]) +([\d.]+[kMB]) ', docstring, re.MULTILINE).groups()


@pytest.mark.parametrize('stage', STAGES)
def test_a_stage_says_what_each_of_its_scales_is(stage):
  for scale in SCALES[stage]:
    assert row(stage, scale)


@every_config
def test_a_stage_says_how_many_parameters_it_has_and_trains(stage, scale):
  sizes = {name: math.prod(leaf.shape) for name, leaf in parameters(shapes(stage, scale)).items()}
  patterns = get_config(stage, scale).trainable
  counts = sum(sizes.values()), sum(n for name, n in sizes.items() if matches(name, patterns))
  assert row(stage, scale) == tuple(map(rounded, counts))


def rounded(count):
  """Three digits, as in `5.45B`."""
  unit, letter = next((u, c) for u, c in ((1e9, 'B'), (1e6, 'M'), (1e3, 'k')) if count >= u)
  return f'{count / unit:#.3g}'.rstrip('.') + letter


def test_wider_scales_have_the_stages_and_keys_of_if_m():
  for stage, scales in SCALES.items():
    for scale in WIDER & scales.keys():
      expected, changes = dict(leaves(scales['if_m'])), dict(leaves(scales[scale]))
      assert changes.keys() == expected.keys()
      widths = {('model', key) for key in ('channels', 'text_features', 'emb_features')}
      assert {path for path in expected if expected[path] != changes[path]} <= widths
      STUNet(**get_config(stage, scale).model)


def test_every_file_is_a_stage_of_its_name():
  for stage in STAGES:
    assert get_config(stage).stage == stage


@every_config
def test_the_network_makes_a_video_of_the_size_of_the_data(stage, scale):
  config = get_config(stage, scale)
  model = STUNet(**config.model)
  model.check_frames(config.data.frames)
  d, (video, _) = config.data, traced(stage, scale)
  assert video.shape == (1, d.frames, d.size, d.size, model.out_channels)
  assert video.dtype == jnp.float32


@pytest.mark.parametrize('stage', STAGES)
def test_a_stage_makes_a_video_of_the_size_of_the_data(stage):
  config = get_config(stage, 'tiny')
  video = jax.eval_shape(open_stage(config).apply, shapes(stage, 'tiny'), *inputs(config))
  d = config.data
  assert video.shape[:4] == (1, d.frames, d.size, d.size)
  assert video.dtype == jnp.float32


@every_config
def test_the_keys_of_every_part_are_arguments_of_its_function(stage, scale):
  config = get_config(stage, scale)
  open_stage(config)
  make_mesh(config.mesh)
  inspect.signature(open_encoder).bind(**config.text)
  encode = open_encoder(tokens=config.text.tokens, width=config.text.width)
  source = open_sources(**config.data)
  inspect.signature(batches).bind(source, encode, seed=0, **config.loader)
  d = config.data
  shape = (d.frames, d.size, d.size, 3)
  tx = make_optimizer(config.steps, **config.optim)
  jax.eval_shape(lambda params: State.create(params, tx), shapes(stage, 'tiny'))
  assert first_video(**config.data) == shape


def test_only_models_of_deepfloyd_if_attend_to_the_padding_of_t5():
  of_t5 = {(stage, scale) for stage, scale in ALL if not get_config(stage, scale).text.source}
  masked = {(stage, scale) for stage, scale in of_t5 if get_config(stage, scale).text.mask_padding}
  assert masked == {(stage, scale) for stage, scale in of_t5 if scale.startswith('paper')}
  assert {scale for _, scale in of_t5 - masked} == {'if_m'}


@every_config
def test_the_average_has_its_full_length_before_the_end(stage, scale):
  config = get_config(stage, scale)
  last = average.weight(jnp.asarray(config.steps - 1), config.steps, config.ema_decay)
  assert last == pytest.approx(1 - config.ema_decay, rel=1e-3)


@every_config
def test_what_is_trained_is_there(stage, scale):
  names = parameters(shapes(stage, scale))
  for pattern in get_config(stage, scale).trainable:
    assert any(matches(name, [pattern]) for name in names)


GROWN = {'t2v': 't2i', 'ssr': 'ssr_image'}


@pytest.mark.parametrize(('stage', 'scale'), [pair for pair in ALL if pair[0] in GROWN])
def test_the_video_model_grows_from_the_image_model_and_trains_what_is_new(stage, scale):
  image, video = shapes(GROWN[stage], scale.removesuffix('_sparse')), shapes(stage, scale)
  grown = jax.eval_shape(inflate, image, video)
  same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)
  assert jax.tree.all(jax.tree.map(same, grown, video))
  trainable = get_config(stage, scale).trainable
  new = parameters(video).keys() - parameters(image).keys()
  trained = {name for name in parameters(video) if matches(name, trainable)}
  assert trained < new if (stage, scale) == ('t2v', 'demo') else trained == new


@pytest.mark.parametrize('stage', ['t2v', 't2v_masked'])
def test_a_model_of_few_frames_becomes_that_of_all(stage):
  same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)
  assert jax.tree.all(jax.tree.map(same, shapes(stage, 'demo_sparse'), shapes(stage, 'demo')))
  sparse, all_ = (get_config(stage, scale) for scale in ('demo_sparse', 'demo'))
  position_rate = lambda config: config.model.get('frame_step', 1) * config.data.fps
  assert position_rate(sparse) == position_rate(all_)
  assert sparse.data.frames / sparse.data.fps == all_.data.frames / all_.data.fps


def test_names_of_parameters_are_those_of_the_network():
  assert (base.TEMPORAL, base.ADAPTERS) == (TEMPORAL, ADAPTERS)
  for stage, patterns in (('t2v', TEMPORAL), ('ssr', TEMPORAL), ('style', ADAPTERS)):
    assert get_config(stage).trainable == patterns
