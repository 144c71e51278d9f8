"""U-Nets of Stable Diffusion that diffusers wrote: tests/parity/record_stable_diffusion.py."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from configs import base
from configs import stable_diffusion as sizes
from core import weights
from core.condition import Condition
from core.params import count, names, nest, partition
from stunet import stable_diffusion, torch_axes
from stunet.unet import STUNet
from tests.oracles import relative_error

RECORDED = pathlib.Path(__file__).resolve().parent / 'recorded' / 'latent'
ONE_FRAME = {'temporal': False, 'temporal_strides': (1, 1), 'temporal_attentions': (0, 0)}


def read(name):
  return json.loads((RECORDED / name / 'config.json').read_text())


@pytest.mark.parametrize('name', ['sd_1', 'sd_2'])
def test_the_output_is_that_of_diffusers(name):
  stored, given = weights.find(RECORDED / name), np.load(RECORDED / f'{name}.npz')
  model = STUNet(**stable_diffusion.model_config(read(name)), **ONE_FRAME)
  shapes = names(stable_diffusion.shapes(model, given['text'].shape[-1]))
  theirs = stable_diffusion.diffusers_names(model, shapes)
  assert {*theirs.values()} == stored.keys()
  array = lambda name, shape: np.float32(torch_axes.from_diffusers(stored[name].read(), shape))
  params = nest({name: array(theirs[name], p.shape) for name, p in shapes.items()})
  x, want = (jnp.asarray(rearrange(given[k], 'b c h w -> b 1 h w c')) for k in ('x', 'output'))
  t, cond = jnp.float32((given['step'] + 1) / 1000), Condition(jnp.asarray(given['text']))
  got = jax.jit(lambda params: model.apply({'params': params}, x, t, cond))(params)
  assert relative_error(got, want) <= 1e-5


@pytest.mark.parametrize('name', ['sd_1', 'sd_2'])
def test_a_config_goes_back_as_it_came(name):
  unet = read(name)
  options = stable_diffusion.model_config(unet)
  size = unet['sample_size']
  size = tuple(size) if isinstance(size, list) else size
  back = stable_diffusion.unet_config(
    STUNet(**options, **ONE_FRAME), unet['cross_attention_dim'], size
  )
  assert stable_diffusion.model_config(back) == options
  assert back['attention_head_dim'] == unet['attention_head_dim']
  assert back['sample_size'] == unet['sample_size']


@pytest.mark.parametrize(('scale', 'published'), [('SD15', 859_520_964), ('SD21', 865_910_724)])
def test_image_models_have_the_parameters_of_the_published(scale, published):
  """And no others that a video model has are trained in the stage t2v."""
  config = getattr(sizes, scale)
  width = config['text']['width']
  image, video = (STUNet(**config['model'], temporal=temporal) for temporal in (False, True))
  image = stable_diffusion.shapes(image, width)
  assert count(image) == published
  assert video.temporal_factor == 8
  _, frozen = partition(stable_diffusion.shapes(video, width), base.TEMPORAL)
  assert names(frozen) == names(image)


def test_every_parameter_has_a_name_of_its_own_in_both_layouts():
  config = sizes.SD_TINY
  model = STUNet(**config['model'], temporal=False)
  ours = names(stable_diffusion.shapes(model, config['text']['width']))
  for layout in (stable_diffusion.diffusers_names, stable_diffusion.original_names):
    theirs = layout(model, ours)
    assert theirs.keys() == ours.keys()
    assert len({*theirs.values()}) == len(ours)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'in_channels': 9}, 'in_channels is 9; in Stable Diffusion it is 4.'),
    ({'norm_eps': 1e-6}, 'norm_eps is 1e-06; in Stable Diffusion it is 1e-05.'),
    ({'class_embed_type': 'timestep'}, 'class_embed_type is '),
    ({'down_block_types': ['AttnDownBlock2D'] * 2}, 'down_block_types has AttnDownBlock2D; in'),
    ({'attention_head_dim': [2, 2, 2]}, 'the number of attention_head_dim is 3'),
    ({'addition_embed_type': 'text_time'}, "addition_embed_type is 'text_time'"),
    ({'transformer_layers_per_block': [1, 2]}, 'transformer_layers_per_block is 2'),
  ],
)
def test_another_network_is_refused(change, message):
  with pytest.raises(ValueError, match=r'.+') as error:
    stable_diffusion.model_config(read('sd_1') | change)
  assert message in str(error.value)
