"""Converted networks answer as diffusers' do, and go back to them unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from einops import rearrange, repeat

from convert import from_diffusers, to_diffusers
from core.condition import Condition
from core.params import names
from stunet.inflate import inflate
from stunet.unet import STUNet
from tests.parity.deepfloyd import CONFIGS, answer, inputs, random_unet
from training import checkpoint


def relative(got, want) -> float:
  return np.linalg.norm(got - want) / np.linalg.norm(want)


def ours(given, width: int, frames: int = 1):
  """The same inputs for a network of ours: still clips."""
  video = repeat(given['x'], 'b c h w -> b t h w c', t=frames)
  time = lambda index: jnp.float32((index + 1) / 1000)
  large = video.shape[-1] == 6
  condition = Condition(jnp.asarray(given['text']))
  if large:
    condition = condition.replace(low_res=video[..., 3:], noise_level=time(given['level']))
  return jnp.asarray(video[..., :3]), time(given['step']), condition


def image_half(config) -> dict:
  return {**config.model, 'temporal': False, 'dtype': 'float32'}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_converted_network_answers_as_diffusers_does_and_so_does_what_goes_back(name, tmp_path):
  unet, given = random_unet(CONFIGS[name]), inputs(CONFIGS[name])
  unet.save_pretrained(tmp_path / 'unet', max_shard_size='2MB')
  n = from_diffusers(tmp_path / 'unet', tmp_path / 'ours')
  assert n == sum(p.numel() for p in unet.parameters())
  config, params, _ = checkpoint.load(tmp_path / 'ours')
  model = STUNet(**image_half(config))
  apply = jax.jit(lambda params, *inputs: model.apply({'params': params}, *inputs))
  got = apply(params, *ours(given, config.text.width))
  want = rearrange(answer(unet, given), 'b c h w -> b 1 h w c')
  error = relative(got, want)
  print(f'{name}: {error:.1e}')
  assert error <= 1e-4

  to_diffusers(tmp_path / 'ours', tmp_path / 'again')
  again = UNet2DConditionModel.from_pretrained(tmp_path / 'again').state_dict()
  assert again.keys() == unet.state_dict().keys()
  for key, value in unet.state_dict().items():
    assert torch.equal(again[key], value), key
  back = answer(UNet2DConditionModel.from_pretrained(tmp_path / 'again').eval(), given)
  np.testing.assert_allclose(back, answer(unet, given), rtol=1e-5, atol=1e-5)


def test_a_still_clip_through_the_inflated_network_is_diffusers_answer_in_every_frame(tmp_path):
  unet, given = random_unet(CONFIGS['IF-I-M']), inputs(CONFIGS['IF-I-M'])
  unet.save_pretrained(tmp_path / 'unet')
  from_diffusers(tmp_path / 'unet', tmp_path / 'ours')
  config, image, _ = checkpoint.load(tmp_path / 'ours')
  model = STUNet(**{**image_half(config), 'temporal': True})
  x, t, cond = ours(given, config.text.width, frames=model.temporal_factor)
  video = jax.jit(model.init)(jax.random.key(0), x, t, cond)['params']
  assert any('temporal' in name for name in names(video))
  got = jax.jit(lambda params: model.apply({'params': params}, x, t, cond))(inflate(image, video))
  want = rearrange(answer(unet, given), 'b c h w -> b 1 h w c')
  for frame in range(x.shape[1]):
    assert relative(got[:, frame : frame + 1], want) <= 1e-4
