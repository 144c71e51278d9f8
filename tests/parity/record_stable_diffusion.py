"""Records outputs of diffusers for tiny U-Nets of Stable Diffusion.

python -m tests.parity.record_stable_diffusion

Writes tests/stunet/recorded/latent/, folders as `save_pretrained` writes them with an example of
inputs and the output for it.
"""

import pathlib

import numpy as np
import torch

from tests.parity.deepfloyd import random_unet
from tests.parity.stable_diffusion import CONFIGS, inputs, output

RECORDED = pathlib.Path(__file__).resolve().parent.parent / 'stunet' / 'recorded' / 'latent'
# The smallest that have every kind of layer.
_TINY = {
  'block_out_channels': [8, 16],
  'layers_per_block': 1,
  'cross_attention_dim': 8,
  'norm_num_groups': 4,
  'down_block_types': ['CrossAttnDownBlock2D', 'DownBlock2D'],
  'up_block_types': ['UpBlock2D', 'CrossAttnUpBlock2D'],
}
UNETS = {
  'sd_1': CONFIGS['1.x'] | _TINY | {'attention_head_dim': 2},
  'sd_2': CONFIGS['2.x, 9x7'] | _TINY | {'attention_head_dim': [2, 4], 'sample_size': [7, 6]},
}


def main() -> None:
  for name, config in UNETS.items():
    unet = random_unet(config).to(torch.float16)
    unet.save_pretrained(RECORDED / name)
    given = inputs(config)
    np.savez_compressed(RECORDED / f'{name}.npz', **given, output=output(unet.float(), given))


if __name__ == '__main__':
  main()
