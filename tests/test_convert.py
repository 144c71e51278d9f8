"""Conversion of what diffusers wrote: tests/parity/record_if.py."""

import functools
import importlib
import json
import pathlib
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from convert import from_diffusers, to_diffusers
from core import weights
from core.condition import Condition
from core.params import count, merge, names, partition
from stunet import deepfloyd
from stunet.inflate import TEMPORAL, inflate
from stunet.unet import STUNet
from tests.oracles import fresh, random_params, relative_error
from training import checkpoint
from training.export import write_model

RECORDED = pathlib.Path(__file__).resolve().parent / 'stunet' / 'recorded'
LATENT = RECORDED / 'latent'  # of Stable Diffusion: tests/parity/record_stable_diffusion.py
UNETS = ('if_i', 'if_ii')
shapes = functools.cache(deepfloyd.shapes)  # two scales have one network, which takes long to trace


def ours(name, frames=1):
  """The recorded inputs, as clips that stand still, and the answer."""
  given = np.load(RECORDED / f'{name}.npz')
  still = lambda x: jnp.repeat(jnp.asarray(rearrange(x, 'b c h w -> b 1 h w c')), frames, 1)
  time = lambda index: jnp.float32((index + 1) / 1000)
  x, large = still(given['x']), given['x'].shape[1] == 6
  cond = Condition(jnp.asarray(given['text']))
  if large:
    cond = cond.replace(low_res=x[..., 3:], noise_level=time(given['level']))
  return (x[..., :3], time(given['step']), cond), still(given['answer'])


def network(config, **options):
  return STUNet(**{**config.model, 'temporal': False, 'dtype': 'float32', **options})


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
  """A folder with the converted networks by name, and the numbers of their parameters."""
  folder = tmp_path_factory.mktemp('converted')
  return folder, {name: from_diffusers(RECORDED / name, folder / name) for name in UNETS}


@pytest.mark.parametrize('name', UNETS)
def test_a_converted_network_answers_as_diffusers_did(name, converted):
  folder, counts = converted
  config, params, step = checkpoint.load(folder / name)
  assert counts[name] == count(params)
  assert step == 0
  assert config.stage == ('t2i' if name == 'if_i' else 'ssr_image')
  inputs, want = ours(name)
  got = jax.jit(lambda params: network(config).apply({'params': params}, *inputs))(params)
  assert relative_error(got, want) <= 1e-4


def test_a_still_clip_through_the_inflated_network_is_the_images_answer_in_every_frame(converted):
  config, image, _ = checkpoint.load(converted[0] / 'if_i')
  options = {'temporal': True, 'temporal_strides': (1, 2), 'temporal_attentions': (0, 1)}
  model = network(config, **options)
  inputs, want = ours('if_i', frames=4)
  temporal = fresh(model, *inputs, select=lambda params: partition(params, TEMPORAL)[0])
  assert names(temporal)
  # To compile how all others are initialised takes long, and none of them may be left.
  video = merge(jax.tree.map(lambda p: jnp.full(p.shape, jnp.nan), image), temporal)
  apply = jax.jit(lambda params: model.apply({'params': params}, *inputs))
  assert relative_error(apply(inflate(image, video)), want) <= 1e-4


@pytest.mark.parametrize('name', UNETS)
def test_what_goes_back_is_what_came(name, converted, tmp_path):
  assert to_diffusers(converted[0] / name, tmp_path / 'back') > 0
  before, after = weights.find(RECORDED / name), weights.find(tmp_path / 'back')
  assert before.keys() == after.keys()
  for key, stored in before.items():
    np.testing.assert_array_equal(after[key].read(), np.float32(stored.read()), err_msg=key)
  again = json.loads((tmp_path / 'back' / 'config.json').read_text())
  was = json.loads((RECORDED / name / 'config.json').read_text())
  again, was = deepfloyd.model_config(again), deepfloyd.model_config(was)
  assert again.pop('residual_scale') == pytest.approx(was.pop('residual_scale'))
  assert again == was


def test_temporal_layers_stay_here(converted, tmp_path):
  config, image, _ = checkpoint.load(converted[0] / 'if_i')
  config.model.update(temporal=True, temporal_strides=(1, 2), temporal_attentions=(0, 1))
  inputs, _ = ours('if_i', frames=2)
  model = STUNet(**config.model)
  shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)['params']
  video = inflate(image, random_params(shapes))
  write_model(tmp_path / 'video', config, video, 5)
  to_diffusers(tmp_path / 'video', tmp_path / 'back')
  assert weights.find(tmp_path / 'back').keys() == weights.find(RECORDED / 'if_i').keys()


@pytest.mark.parametrize(
  ('stage', 'scale', 'published'),
  [
    ('t2i', 'if_m', 371_605_830),
    ('t2i', 'if_l', 935_365_830),
    ('t2i', 'if_xl', 4_304_695_110),
    ('ssr_image', 'if_l', 1_243_277_190),
    ('ssr_image', 'if_xl', 1_243_277_190),
  ],
)
def test_image_models_have_the_parameters_of_the_published(stage, scale, published):
  """As diffusers counts them, of the configs that are published."""
  config = importlib.import_module(f'configs.{stage}').get_config(scale)
  assert count(shapes(network(config), config.text.width)) == published


def changed(tmp_path, **config):
  """The first recorded folder, with another config."""
  folder = tmp_path / 'unet'
  shutil.copytree(RECORDED / 'if_i', folder)
  path = folder / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | config))
  return folder


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'_class_name': 'UNet2DModel'}, 'It is a UNet2DModel; allowed is UNet2DConditionModel'),
    ({'addition_embed_type': None}, "addition_embed_type is None; in DeepFloyd IF it is 'text'"),
    ({'in_channels': 4}, 'in_channels is 4; in DeepFloyd IF it is 3'),
    ({'norm_num_groups': 16}, 'norm_num_groups is 16; in DeepFloyd IF it is 32'),
    ({'mid_block_scale_factor': 1.5}, 'mid_block_scale_factor'),
    ({'down_block_types': ['DownBlock2D'] * 2}, 'down_block_types has DownBlock2D; in DeepFloyd'),
    ({'resnet_skip_time_act': True}, 'time_embedding_act_fn'),
    ({'act_fn': 'mish'}, "activation is 'mish'; allowed are gelu, silu"),
    ({'layers_per_block': [1, 1]}, 'missing: down_blocks.0.resnets.0.conv1.bias, '),
    ({'cross_attention_dim': 64}, 'which makes'),
  ],
)
def test_another_family_is_refused(config, message, tmp_path):
  refused(changed(tmp_path, **config), message, tmp_path)


def refused(folder, message, tmp_path):
  with pytest.raises(ValueError) as error:  # noqa: PT011
    from_diffusers(folder, tmp_path / 'out')
  assert message in str(error.value)
  assert '\n' not in str(error.value)
  left = {p.name for p in tmp_path.iterdir()} - {'unet'}
  assert not left


def test_tensors_that_are_missing_or_left_over_are_named(tmp_path):
  folder = changed(tmp_path)
  path = folder / 'diffusion_pytorch_model.safetensors'
  tensors = {k: t.read() for k, t in weights.find(folder).items()}
  path.unlink()
  extra = {k: v for k, v in tensors.items() if k != 'conv_in.bias'} | {'lora.up': np.ones(2, 'f4')}
  weights.write(folder, 'diffusion_pytorch_model', extra.items())
  refused(folder, 'missing: conv_in.bias; not used: lora.up.', tmp_path)


def test_a_shard_cut_short_is_refused(tmp_path):
  folder = changed(tmp_path)
  path = folder / 'diffusion_pytorch_model.safetensors'
  path.write_bytes(path.read_bytes()[:-100])
  refused(folder, 'is damaged or truncated', tmp_path)


def test_a_missing_file_is_named(tmp_path):
  folder = changed(tmp_path)
  (folder / 'config.json').unlink()
  refused(folder, 'There is no ', tmp_path)
  folder.joinpath('config.json').write_text('{')
  refused(folder, 'is not JSON', tmp_path)
  folder.joinpath('config.json').write_bytes(b'\xff')
  refused(folder, 'is not JSON', tmp_path)
  folder.joinpath('config.json').write_text('[1]')
  refused(folder, 'is not a JSON object', tmp_path)


def test_a_missing_shard_is_named(tmp_path):
  folder = changed(tmp_path)
  index = {'weight_map': {'conv_in.bias': 'model-00002-of-00002.safetensors'}}
  (folder / 'a.safetensors.index.json').write_text(json.dumps(index))
  refused(folder, 'names model-00002-of-00002.safetensors, but there is no such file', tmp_path)


def test_a_pickle_is_refused_with_the_reason(tmp_path):
  folder = changed(tmp_path)
  (folder / 'diffusion_pytorch_model.safetensors').unlink()
  (folder / 'diffusion_pytorch_model.bin').write_bytes(pickle.dumps({}))
  refused(folder, 'pickles are not read because they can run any code', tmp_path)


def test_nothing_is_written_over(tmp_path):
  (tmp_path / 'out').mkdir()
  with pytest.raises(ValueError, match='out exists already; --out is a new folder'):
    from_diffusers(RECORDED / 'if_i', tmp_path / 'out')
  assert not [*(tmp_path / 'out').iterdir()]


@pytest.mark.parametrize('name', ['sd_1', 'sd_2'])
def test_a_unet_of_stable_diffusion_becomes_a_workdir_and_goes_back(name, tmp_path):
  count_here = from_diffusers(LATENT / name, tmp_path / 'ours')
  config, params, step = checkpoint.load(tmp_path / 'ours')
  assert (config.stage, step, count(params)) == ('t2i', 0, count_here)
  to_diffusers(tmp_path / 'ours', tmp_path / 'back')
  before, after = weights.find(LATENT / name), weights.find(tmp_path / 'back')
  assert before.keys() == after.keys()
  for key, stored in before.items():
    np.testing.assert_array_equal(after[key].read(), np.float32(stored.read()), err_msg=key)


def latent_pipeline(tmp_path, **scheduler):
  """The U-Net of a pipeline of Stable Diffusion and its scheduler."""
  shutil.copytree(LATENT / 'sd_1', tmp_path / 'unet')
  (tmp_path / 'scheduler').mkdir()
  published = {
    'num_train_timesteps': 1000, 'beta_schedule': 'scaled_linear', 'beta_start': 0.00085,
    'beta_end': 0.012, 'prediction_type': 'v_prediction',
  }  # fmt: skip
  path = tmp_path / 'scheduler' / 'scheduler_config.json'
  path.write_text(json.dumps(published | scheduler))
  return tmp_path / 'unet'


def test_a_scheduler_of_stable_diffusion_gives_the_prediction(tmp_path):
  from_diffusers(latent_pipeline(tmp_path), tmp_path / 'out')
  config = checkpoint.load_config(tmp_path / 'out')
  assert (config.schedule.schedule, config.schedule.prediction) == ('scaled_linear', 'v')


@pytest.mark.parametrize(
  ('scheduler', 'message'),
  [
    (
      {'beta_end': 0.02},
      'scheduler_config.json: beta_end is 0.02; in Stable Diffusion it is 0.012',
    ),
    (
      {'prediction_type': 'sample'},
      "prediction_type is 'sample'; allowed are epsilon, v_prediction",
    ),
  ],
)
def test_another_scheduler_is_refused(scheduler, message, tmp_path):
  folder = tmp_path / 'pipeline'
  folder.mkdir()
  latent_pipeline(folder, **scheduler)
  with pytest.raises(ValueError, match=r'.+') as error:
    from_diffusers(folder / 'unet', tmp_path / 'out')
  assert message in str(error.value)
  assert [p.name for p in tmp_path.iterdir()] == ['pipeline']


def test_a_truncated_unet_of_stable_diffusion_leaves_nothing(tmp_path):
  folder = tmp_path / 'unet'
  shutil.copytree(LATENT / 'sd_1', folder)
  path = folder / 'diffusion_pytorch_model.safetensors'
  path.write_bytes(path.read_bytes()[:-100])
  refused(folder, 'is damaged or truncated', tmp_path)
