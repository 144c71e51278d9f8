"""The autoencoder against AutoencoderKL of diffusers, from a folder that diffusers saves."""

import jax
import jax.numpy as jnp
import pytest
import torch
from diffusers import AutoencoderKL

from autoencoder import latents
from autoencoder.convert import convert, to_diffusers
from autoencoder.stored import open_autoencoder
from tests.evaluation.features import drawn
from tests.oracles import relative_error
from tests.parity.record_autoencoder import TINY, answers
from tests.parity.record_features import filled, shapes

SD = {
  'block_out_channels': (128, 256, 512, 512),
  'down_block_types': ('DownEncoderBlock2D',) * 4,
  'up_block_types': ('UpDecoderBlock2D',) * 4,
  'layers_per_block': 2,
}
CONFIGS = {
  'tiny': (TINY, (27, 18)),
  'of many units': (TINY | {'layers_per_block': 3, 'norm_num_groups': 2}, (32, 52)),
  'of one level': (
    TINY
    | {
      'block_out_channels': (16,),
      'down_block_types': ('DownEncoderBlock2D',),
      'up_block_types': ('UpDecoderBlock2D',),
      'latent_channels': 3,
    },
    (7, 9),
  ),
  'of stable diffusion': (SD, (75, 56)),
}


@pytest.mark.parametrize('name', CONFIGS)
def test_both_ways(name, tmp_path):
  config, (height, width) = CONFIGS[name]
  model = filled(AutoencoderKL(**config))
  model.save_pretrained(tmp_path / 'theirs')
  convert(tmp_path / 'theirs', tmp_path / 'ours')
  ours, params = open_autoencoder(tmp_path / 'ours')
  frames = drawn.normal('frames', (2, height, width, 3))
  small = (2, height // ours.factor, width // ours.factor, ours.latent_channels)
  latent = drawn.normal('latents', small)
  encode, decode = (
    jax.jit(lambda params, x, f=f: f(ours, params, x, 1)[0])
    for f in (latents.encode, latents.decode)
  )
  got = encode(params, frames[None]), decode(params, ours.scaling * jnp.asarray(latent[None]))
  errors = [relative_error(*pair) for pair in zip(got, answers(model, frames, latent))]
  print(f'{name}: encoding {errors[0]:.1e}, decoding {errors[1]:.1e}')
  assert max(errors) <= 1e-5


def test_diffusers_loads_what_is_written_back(tmp_path):
  model = filled(AutoencoderKL(**TINY))
  model.save_pretrained(tmp_path / 'theirs')
  convert(tmp_path / 'theirs', tmp_path / 'ours')
  to_diffusers(tmp_path / 'ours', tmp_path / 'back')
  back = AutoencoderKL.from_pretrained(tmp_path / 'back')
  assert shapes(back) == shapes(model)
  for name, x in back.state_dict().items():
    torch.testing.assert_close(x, model.state_dict()[name], rtol=0, atol=0)
