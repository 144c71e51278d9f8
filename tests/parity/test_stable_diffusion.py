"""Converted U-Nets of Stable Diffusion have the outputs of diffusers', and go back unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from einops import rearrange

from convert import from_diffusers, to_diffusers
from core.condition import Condition
from core.params import names
from stunet import stable_diffusion
from stunet.unet import STUNet
from tests.parity.deepfloyd import random_unet
from tests.parity.stable_diffusion import CONFIGS, inputs, output
from training import checkpoint


@pytest.mark.parametrize('name', CONFIGS)
def test_the_output_is_that_of_diffusers_and_so_is_what_goes_back(name, tmp_path):
  unet, given = random_unet(CONFIGS[name]), inputs(CONFIGS[name])
  unet.save_pretrained(tmp_path / 'unet')
  assert from_diffusers(tmp_path / 'unet', tmp_path / 'ours') == unet.num_parameters()
  config, params, _ = checkpoint.load(tmp_path / 'ours')
  model = STUNet(**{**config.model, 'dtype': 'float32'})
  x, want = (
    jnp.asarray(rearrange(a, 'b c h w -> b 1 h w c')) for a in (given['x'], output(unet, given))
  )
  t, cond = jnp.float32((given['step'] + 1) / 1000), Condition(jnp.asarray(given['text']))
  got = jax.jit(lambda params: model.apply({'params': params}, x, t, cond))(params)
  error = np.linalg.norm(got - want) / np.linalg.norm(want)
  print(f'{name}: {error:.1e}')
  assert error <= 1e-5

  to_diffusers(tmp_path / 'ours', tmp_path / 'again')
  again = UNet2DConditionModel.from_pretrained(tmp_path / 'again').state_dict()
  assert again.keys() == unet.state_dict().keys()
  for key, value in unet.state_dict().items():
    assert torch.equal(again[key], value), key


# diffusers converts U-Nets alone that have as many units at every level.
@pytest.mark.parametrize('name', ['1.x', '2.x'])
def test_names_of_the_original_layout_are_those_that_diffusers_converts(name):
  unet = random_unet(CONFIGS[name])
  options = stable_diffusion.model_config(dict(unet.config))
  levels = len(options['channels'])
  frame = {'temporal_strides': (1,) * levels, 'temporal_attentions': (0,) * levels}
  model = STUNet(**options, **frame, temporal=False)
  ours = names(stable_diffusion.shapes(model, CONFIGS[name]['cross_attention_dim']))
  stored, diffusers = unet.state_dict(), stable_diffusion.diffusers_names(model, ours)
  original = stable_diffusion.original_names(model, ours)
  converted = convert_ldm_unet_checkpoint(
    {original[n]: stored[diffusers[n]] for n in ours}, dict(unet.config)
  )
  assert converted.keys() == stored.keys()
  for key, value in stored.items():
    assert converted[key] is value, key
