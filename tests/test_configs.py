"""Every config at every scale makes all that its run needs, without computing anything."""

import functools
import importlib
import inspect
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from configs import scales
from core.params import matches
from core.sharding import make_mesh
from data.pipeline import batches, open_source
from pipelines.stages import open_stage
from stunet.inflate import TEMPORAL, inflate
from stunet.unet import STUNet
from text.encoder import open_encoder
from training import average
from training.optimizer import make_optimizer
from training.state import State

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTS = {'base', 'deepfloyd', 'scales', '__init__'}  # of configs, none of them one itself
STAGES = sorted(path.stem for path in (ROOT / 'configs').glob('*.py') if path.stem not in PARTS)
# Of other widths than if_m, and nothing else: tests/stunet/test_convert.py counts their parameters.
WIDER = {'if_l', 'if_xl'}
ALL = [(s, scale) for scale in sorted(scales.SCALES.keys() - WIDER) for s in scales.SCALES[scale]]
every_config = pytest.mark.parametrize(('stage', 'scale'), ALL, ids=map(':'.join, ALL))


def get_config(stage, *scale):
  return importlib.import_module(f'configs.{stage}').get_config(*scale)


@functools.cache
def traced(stage, scale):
  """The shapes of a network's answer, and of its parameters.

  To trace a network takes seconds, so the answer is that which is computed while the parameters
  are initialised.
  """
  config, answers = get_config(stage, scale), []

  def keep(call, args, kwargs, context):
    answer = call(*args, **kwargs)
    if isinstance(context.module, STUNet) and context.method_name == '__call__':
      answers.append(jax.ShapeDtypeStruct(answer.shape, answer.dtype))
    return answer

  with nn.intercept_methods(keep):
    params = jax.eval_shape(open_stage(config).init, jax.random.key(0), *inputs(config))
  (answer,) = answers
  return answer, params


def shapes(stage, scale):
  """Of the parameters."""
  return traced(stage, scale)[1]


def inputs(config):
  d, text = config.data, config.text
  x = jax.ShapeDtypeStruct((1, d.frames, d.size, d.size, 3), jnp.float32)
  tokens = jax.ShapeDtypeStruct((1, text.tokens, text.width), jnp.float32)
  mask = jax.ShapeDtypeStruct((1, text.tokens), bool)
  batch = {'text': tokens, 'text_mask': mask, 'mask': jax.ShapeDtypeStruct(x.shape[:4], bool)}
  cond = jax.eval_shape(open_stage(config).conditioning, jax.random.key(0), x, batch)
  return x, jax.ShapeDtypeStruct((1,), jnp.float32), cond


def parameter_names(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves}


def test_wider_scales_have_the_stages_and_keys_of_if_m():
  for scale in WIDER:
    for stage, changes in scales.SCALES[scale].items():
      known = scales.SCALES['if_m'][stage]
      assert {k: v for k, v in changes.items() if k != 'model'} == {
        k: v for k, v in known.items() if k != 'model'
      }
      differ = {k for k in known['model'] if known['model'][k] != changes['model'][k]}
      assert differ <= {'channels', 'text_features', 'emb_features'}
      STUNet(**get_config(stage, scale).model)


def test_every_file_is_a_stage_of_a_scale():
  assert {stage for stage, _ in ALL} == set(STAGES)
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
  source = open_source(**config.data)
  inspect.signature(batches).bind(source, encode, seed=0, **config.loader)
  d = config.data
  shape = (d.frames, d.size, d.size, 3)
  tx = make_optimizer(config.steps, **config.optim)
  jax.eval_shape(lambda params: State.create(params, tx), shapes(stage, scale))
  assert source[0]['video'].shape == shape


def test_of_t5_only_models_of_if_attend_to_padding():
  of_t5 = {(stage, scale) for stage, scale in ALL if not get_config(stage, scale).text.source}
  masked = {(stage, scale) for stage, scale in of_t5 if get_config(stage, scale).text.mask_padding}
  assert masked == {(stage, scale) for stage, scale in of_t5 if scale == 'paper'}
  assert {scale for _, scale in of_t5 - masked} == {'if_m'}


@every_config
def test_the_average_has_its_full_length_before_the_end(stage, scale):
  config = get_config(stage, scale)
  last = average.weight(jnp.asarray(config.steps - 1), config.steps, config.ema_decay)
  assert last == pytest.approx(1 - config.ema_decay, rel=1e-3)


@every_config
def test_what_is_trained_is_there(stage, scale):
  names = parameter_names(shapes(stage, scale))
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
  new = parameter_names(video) - parameter_names(image)
  assert new == {name for name in parameter_names(video) if matches(name, trainable)}
  assert tuple(trainable) == TEMPORAL


@pytest.mark.parametrize('stage', sorted(scales.SCALES['demo_sparse']))
def test_a_model_of_few_frames_becomes_that_of_all(stage):
  same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)
  assert jax.tree.all(jax.tree.map(same, shapes(stage, 'demo_sparse'), shapes(stage, 'demo')))
  sparse, all_ = (get_config(stage, scale) for scale in ('demo_sparse', 'demo'))
  apart = lambda config: config.model.get('frame_step', 1.0) * config.data.fps
  assert apart(sparse) == apart(all_)
  assert sparse.data.frames / sparse.data.fps == all_.data.frames / all_.data.fps


@pytest.mark.parametrize('stage', STAGES)
def test_an_unknown_scale_is_told_the_known_ones(stage):
  known = ', '.join(sorted(scales.SCALES))
  with pytest.raises(ValueError, match='scale') as error:
    get_config(stage, 'huge')
  assert str(error.value) == f"No scale 'huge'; allowed are {known}."


def test_a_stage_which_a_scale_has_not_is_told_those_it_has():
  config = get_config('t2i')
  config.stage = 't2x'
  with pytest.raises(ValueError, match='stage') as error:
    scales.apply(config, 'tiny')
  known = ', '.join(sorted(scales.SCALES['tiny']))
  assert str(error.value) == f"Scale 'tiny' has no stage 't2x'; it has {known}."


def test_a_config_is_made_anew_each_time():
  get_config('t2i', 'tiny').model.groups = 1
  assert get_config('t2i', 'tiny').model.groups != 1
  get_config('t2i', 'tiny').model.temporal = True
  assert get_config('t2i', 'tiny').model.temporal is False


def test_a_misspelt_key_ends_the_command_in_one_line(tmp_path):
  command = [sys.executable, 'train.py', '--config=configs/t2i.py', f'--workdir={tmp_path}/run']
  done = subprocess.run(
    [*command, '--config.model.grups=8'], cwd=ROOT, capture_output=True, text=True
  )
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith("error: Unknown key of the config: 'grups'")
  assert done.stderr.count('\n') == 1
  assert not (tmp_path / 'run').exists()
