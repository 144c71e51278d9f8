"""Records the noise schedules of Stable Diffusion and DDIM of a known network from diffusers.

python -m tests.parity.record_sd

Writes tests/diffusion/recorded/.
"""

import pathlib

import numpy as np
import torch
from diffusers import DDIMScheduler

OUT = pathlib.Path(__file__).resolve().parents[1] / 'diffusion' / 'recorded'
# The scheduler_config.json of Stable Diffusion 1.5 and 2.1.
CONFIG = {
  'beta_start': 0.00085,
  'beta_end': 0.012,
  'beta_schedule': 'scaled_linear',
  'clip_sample': False,
  'set_alpha_to_one': False,
  'steps_offset': 1,
}
V = {'prediction_type': 'v_prediction'}
# As Lin et al., 2023, recommend.
ZERO_SNR = V | {'rescale_betas_zero_snr': True, 'timestep_spacing': 'trailing'}
ZERO_SNR |= {'set_alpha_to_one': True, 'steps_offset': 0}
CASES = {'eps': {}, 'v': V, 'zero_snr': ZERO_SNR}


def trajectory(scheduler: DDIMScheduler, steps: int) -> np.ndarray:
  """The samples x of all steps, of a network that returns  sin(3 x) + i / 1000  at step i."""
  x = np.random.RandomState(1234).standard_normal((2, 4, 3, 5)).astype(np.float32)
  samples = [torch.from_numpy(x)]
  scheduler.set_timesteps(steps)
  for i in scheduler.timesteps:
    output = torch.sin(3 * samples[-1]) + i / 1000
    samples.append(scheduler.step(output, i, samples[-1]).prev_sample)
  return torch.stack(samples).numpy()


def main() -> None:
  made = {}
  for name, changed in CASES.items():
    scheduler = DDIMScheduler(**CONFIG | changed)
    made[f'{name}/samples'] = trajectory(scheduler, 20)
    made[f'{name}/alphas_cumprod'] = scheduler.alphas_cumprod.numpy()
  np.savez_compressed(OUT / 'sd_ddim.npz', **made)


if __name__ == '__main__':
  main()
