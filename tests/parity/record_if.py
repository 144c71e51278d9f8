"""Records what diffusers makes of tiny U-Nets of DeepFloyd IF, and its sampler of a known network.

python -m tests.parity.record_if

Writes tests/stunet/recorded/, folders as `save_pretrained` writes them with an example of inputs
and the answer to it, and tests/diffusion/recorded/.
"""

import pathlib

import numpy as np
import torch
from diffusers import DDPMScheduler

from tests.parity.deepfloyd import CONFIGS, answer, inputs, random_unet

TESTS = pathlib.Path(__file__).resolve().parent.parent
# The smallest that have every kind of layer; in the two dtypes in which weights are published.
_TINY = {
  'block_out_channels': [32, 32],
  'layers_per_block': [0, 1],
  'encoder_hid_dim': 16,
  'cross_attention_dim': 32,
  'addition_embed_type_num_heads': 2,
  'down_block_types': ['ResnetDownsampleBlock2D', 'SimpleCrossAttnDownBlock2D'],
  'up_block_types': ['SimpleCrossAttnUpBlock2D', 'ResnetUpsampleBlock2D'],
  'sample_size': 8,
}
UNETS = {
  'if_i': (CONFIGS['IF-I-M'] | _TINY, torch.float16),
  'if_ii': (CONFIGS['IF-II-M'] | _TINY | {'time_embedding_dim': 64}, torch.bfloat16),
}
# The scheduler_config.json of IF-I.
SCHEDULER = {
  'beta_schedule': 'squaredcos_cap_v2',
  'clip_sample': True,
  'dynamic_thresholding_ratio': 0.95,
  'num_train_timesteps': 1000,
  'prediction_type': 'epsilon',
  'sample_max_value': 1.5,
  'thresholding': True,
  'variance_type': 'learned_range',
}


def trajectory(scheduler: DDPMScheduler, steps: int) -> dict[str, np.ndarray]:
  """The samples x of all steps of a network that answers  2 sin(3 x) + i / 1000  at step i of 1000,
  and  cos(5 x)  of the variance."""
  rng = np.random.RandomState(1234)
  draw = lambda: torch.from_numpy(rng.standard_normal((2, 3, 4, 4)).astype(np.float32))
  scheduler.set_timesteps(steps)
  x, noises = draw(), [draw() for _ in range(steps)]
  drawn, samples = iter(noises), [x]
  for i in scheduler.timesteps:
    output = torch.cat([2 * torch.sin(3 * x) + i / 1000, torch.cos(5 * x)], 1)
    x = _stepped(scheduler, output, i, x, next(drawn))
    samples.append(x)
  return {'samples': torch.stack(samples).numpy(), 'noises': torch.stack(noises).numpy()}


def _stepped(scheduler, output, i, x, noise):
  """A step whose noise is given: diffusers draws its own."""
  import diffusers.schedulers.scheduling_ddpm as module

  drawing, module.randn_tensor = module.randn_tensor, lambda *args, **kwargs: noise
  try:
    return scheduler.step(output, i, x).prev_sample
  finally:
    module.randn_tensor = drawing


def main() -> None:
  for name, (config, dtype) in UNETS.items():
    folder = TESTS / 'stunet' / 'recorded' / name
    unet = random_unet(config).to(dtype)
    unet.save_pretrained(folder)
    given = inputs(config)
    np.savez_compressed(folder.parent / f'{name}.npz', **given, answer=answer(unet.float(), given))
  out = TESTS / 'diffusion' / 'recorded'
  out.mkdir(exist_ok=True)
  scheduler = DDPMScheduler(**SCHEDULER)
  scheduler.save_pretrained(TESTS / 'stunet' / 'recorded' / 'scheduler')
  np.savez_compressed(out / 'if_ddpm.npz', **trajectory(scheduler, 100))


if __name__ == '__main__':
  main()
