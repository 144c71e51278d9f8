r"""Trains one stage of the model.

  python train.py --config=configs/t2i.py:demo --workdir=runs/t2i
  python train.py --config=configs/t2v.py:demo --workdir=runs/t2v --config.init_from=runs/t2i

The workdir holds the config, checkpoints, metrics and samples.  The same command resumes.
"""

import contextlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from core import command, video
from core.condition import Condition
from core.params import count, partition
from core.typing import Params
from data.pipeline import batches, open_source
from diffusion.process import Process
from pipelines.text_to_video import make_text_to_video, video_keys
from stunet.inflate import inflate
from stunet.unet import STUNet
from text.hashed import encoder
from training import checkpoint, loop
from training.optimizer import make_optimizer
from training.sharding import fsdp, make_mesh, put_batch, replicated
from training.state import State
from training.step import make_evaluation, make_step

_CONFIG = config_flags.DEFINE_config_file('config', lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept.')


def train(config: ConfigDict, workdir: pathlib.Path) -> State:
  """The state after the last step; all else is in the workdir.

  ValueError, before anything is written, where a part of the config is wrong.
  """
  mesh = make_mesh(config.mesh)
  # A run that is resumed has all it needs.
  begins = config.init_from and checkpoint.latest_step(workdir) is None
  image = checkpoint.load(pathlib.Path(config.init_from))[1] if begins else {}
  model, process = STUNet(**config.model), Process(**config.schedule)
  model.check_frames(config.data.frames)
  tx = make_optimizer(config.steps, **config.optim)
  encode, source = encoder(**config.text), open_source(**config.data)
  data = batches(source, encode, seed=config.seed, **config.loader)
  fixed = fixed_batch(source, encode, config)
  key_init, key_step, key_evaluate = jax.random.split(jax.random.key(config.seed), 3)

  params = initialise(config, image, model, fixed, mesh, key_init)
  params, frozen = partition(params, config.trainable)
  if frozen and not config.init_from:
    raise ValueError('Frozen parameters need a trained model: --config.init_from=WORKDIR.')
  print(f'{count(params):,} parameters to train, {count(frozen):,} frozen')
  create = lambda params: State.create(params, tx)
  shardings = fsdp(jax.eval_shape(create, params), mesh, config.shard_above)
  state = jax.jit(create, out_shardings=shardings)(params)

  checkpoint.save_config(workdir, config)
  frozen = checkpoint.keep_frozen(workdir, frozen)
  checkpoints = checkpoint.manager(workdir, keep=config.keep)
  state = checkpoint.restore(checkpoints, state, data)

  apply = lambda params, *inputs: model.apply({'params': params}, *inputs)
  options = {k: config[k] for k in ('ema_decay', 'drop_text', 'accumulate', 'high_noise')}
  step = jax.jit(
    make_step(apply, process, tx, **options),
    donate_argnums=0,
    out_shardings=(shardings, replicated(mesh)),
  )
  evaluate = jax.jit(make_evaluation(apply, process, times=config.evaluate_times))
  fixed = put_batch(fixed, mesh)
  with contextlib.closing(data), contextlib.closing(checkpoints):
    return loop.run(
      config, workdir, state, frozen, data, checkpoints,
      step=lambda state, frozen, batch: step(state, frozen, put_batch(batch, mesh), key_step),
      evaluate=lambda params: evaluate(params, fixed, key_evaluate),
      sample=make_sampling(config, apply, process, encode, workdir),
    )  # fmt: skip


def fixed_batch(source, encode, config: ConfigDict) -> dict[str, np.ndarray]:
  """The batch by which evaluation losses compare."""
  data = batches(source, encode, batch=config.evaluate_batch, seed=config.seed + 1)
  batch = next(data)
  data.close()
  return batch


def initialise(config: ConfigDict, image: Params, model: STUNet, batch, mesh, key) -> Params:
  """New parameters, sharded, with those of `image` in their places unless it is empty."""

  def init(key):
    shapes = {k: jnp.zeros((1, *v.shape[1:]), v.dtype) for k, v in batch.items()}
    x = shapes['video'].astype(jnp.float32)
    return model.init(key, x, jnp.ones(1), Condition(shapes['text'], shapes['mask']))['params']

  shardings = fsdp(jax.eval_shape(init, key), mesh, config.shard_above)
  params = jax.jit(init, out_shardings=shardings)(key)
  if image:
    params = jax.device_put(inflate(image, params), shardings)
  return params


def make_sampling(config: ConfigDict, apply, process: Process, encode, workdir: pathlib.Path):
  """Returns `sample(params, step)`, which writes a video of each prompt, and its X-T slice."""
  d = config.data
  generate = make_text_to_video(apply, process, (d.frames, d.size, d.size, 3), **config.sampling)
  cond = Condition(*map(jnp.asarray, encode(config.sample_prompts)))
  keys = video_keys(config.seed, jnp.arange(len(config.sample_prompts)))

  def sample(params: Params, step: int) -> None:
    videos = np.asarray(generate(params, cond, keys))
    folder = workdir / 'samples' / f'step_{step:08}'
    folder.mkdir(parents=True, exist_ok=True)
    for i, (prompt, pixels) in enumerate(zip(config.sample_prompts, map(video.to_uint8, videos))):
      extension = '.mp4' if d.frames > 1 else '.png'
      metadata = {'prompt': prompt, 'step': str(step)}
      video.write(folder / f'{i}{extension}', pixels, fps=d.fps, metadata=metadata)
      if d.frames > 1:
        video.write(folder / f'{i}_xt.png', video.xt_slice(pixels)[None])

  return sample


def main() -> None:
  if not _CONFIG.value or not _WORKDIR.value:
    raise ValueError('Both --config=configs/STAGE.py:SCALE and --workdir=DIR are needed.')
  train(_CONFIG.value, pathlib.Path(_WORKDIR.value))


if __name__ == '__main__':
  command.run(main)
