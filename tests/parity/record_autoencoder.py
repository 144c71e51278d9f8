"""Records what diffusers makes of a tiny AutoencoderKL of weights that both sides can draw.

python -m tests.parity.record_autoencoder

Writes tests/autoencoder/recorded/: the names and shapes of the weights, the config, and the outputs
for a frame and a latent of odd sizes, but neither weights nor inputs.
"""

import json
import pathlib

import numpy as np
import torch
from diffusers import AutoencoderKL

from tests.evaluation.features import drawn
from tests.parity.record_features import filled, shapes

OUT = pathlib.Path(__file__).resolve().parents[1] / 'autoencoder' / 'recorded'
TINY = {
  'block_out_channels': (8, 16, 12),
  'down_block_types': ('DownEncoderBlock2D',) * 3,
  'up_block_types': ('UpDecoderBlock2D',) * 3,
  'layers_per_block': 1,
  'latent_channels': 4,
  'norm_num_groups': 4,
}
FRAMES, LATENTS = (2, 27, 18, 3), (2, 5, 3, 4)


def answers(model, frames: np.ndarray, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The moments of frames and the decoded latents before scaling, with channels last."""
  with torch.no_grad():
    first = lambda x: torch.from_numpy(x).permute(0, 3, 1, 2)
    made = model.encode(first(frames)).latent_dist.parameters, model.decode(first(latents)).sample
  return tuple(x.permute(0, 2, 3, 1).numpy() for x in made)


def main() -> None:
  OUT.mkdir(parents=True, exist_ok=True)
  model = filled(AutoencoderKL(**TINY))
  config = {key: value for key, value in model.config.items() if key != '_use_default_values'}
  config['_class_name'] = 'AutoencoderKL'
  (OUT / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
  made = answers(model, drawn.normal('frames', FRAMES), drawn.normal('latents', LATENTS))
  answer = np.concatenate([x.ravel() for x in made])
  drawn.record(OUT / 'autoencoder.npz', shapes(model), answer)


if __name__ == '__main__':
  main()
