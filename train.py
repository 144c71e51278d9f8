r"""Trains one stage of the model.

python train.py --config=configs/t2i.py:demo --workdir=runs/t2i
python train.py --config=configs/t2v.py:demo --workdir=runs/t2v --config.init_from=runs/t2i

The workdir holds the config, checkpoints, metrics and samples; the same command resumes.
"""

import pathlib

import jax
import jax.numpy as jnp
from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from core import command
from core.condition import Condition
from core.params import count, merge, partition
from data.pipeline import batches, open_source
from diffusion.process import Process
from stunet.inflate import inflate
from stunet.unet import STUNet
from text.hashed import encoder
from training import checkpoint
from training.monitor import monitor
from training.optimizer import make_optimizer
from training.sharding import fsdp, make_mesh, put_batch, replicated
from training.state import State
from training.step import make_evaluation, make_step

_CONFIG = config_flags.DEFINE_config_file('config', lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept.')


def fixed_batch(source, encode, config):
  """The batch by which evaluation losses compare."""
  data = batches(source, encode, batch=config.evaluate_batch, seed=config.seed + 1)
  batch = next(data)
  data.close()
  return batch


def train(config: ConfigDict, workdir: pathlib.Path) -> State:
  """The state after the last step; everything else is in the workdir."""
  mesh = make_mesh(config.mesh)
  model = STUNet(**config.model)
  model.check_frames(config.data.frames)
  process = Process(**config.schedule)
  tx = make_optimizer(config.steps, **config.optim)
  encode = encoder(**config.text)
  source = open_source(**config.data)
  data = batches(source, encode, seed=config.seed, **config.loader)
  fixed = fixed_batch(source, encode, config)
  image = checkpoint.load(config.init_from)[1] if config.init_from else None
  checkpoint.save_config(workdir, config)

  key_init, key_step, key_evaluate = jax.random.split(jax.random.key(config.seed), 3)

  def init(key):
    example = {k: jnp.asarray(v[:1]) for k, v in fixed.items()}
    video, cond = example['video'], Condition(example['text'], example['mask'])
    return model.init(key, video.astype(jnp.float32), jnp.ones(1), cond)['params']

  shardings = fsdp(jax.eval_shape(init, key_init), mesh, config.shard_above)
  params = jax.jit(init, out_shardings=shardings)(key_init)
  if image:
    params = jax.device_put(inflate(image, params), shardings)
  params, frozen = partition(params, config.trainable)
  create = lambda params: State.create(params, tx)
  shardings = fsdp(jax.eval_shape(create, params), mesh, config.shard_above)
  state = jax.jit(create, out_shardings=shardings)(params)
  checkpoint.save_frozen(workdir, frozen)
  checkpoints = checkpoint.manager(workdir, keep=config.keep)
  state = checkpoint.restore(checkpoints, state, data)
  logging.info('%d parameters to train, %d frozen.', count(params), count(frozen))

  apply = lambda params, *inputs: model.apply({'params': params}, *inputs)
  options = {k: config[k] for k in ('ema_decay', 'drop_text', 'accumulate')}
  step = jax.jit(
    make_step(apply, process, tx, **options),
    donate_argnums=0,
    out_shardings=(shardings, replicated(mesh)),
  )
  evaluate = jax.jit(make_evaluation(apply, process, times=8))
  fixed = put_batch(fixed, mesh)

  frames = config.loader.batch * config.data.frames
  start = int(state.step)
  with monitor(workdir, start=start, steps=config.steps, frames=frames) as tell:
    for i in range(start, config.steps + 1):
      last = i == config.steps
      if i % config.evaluate_every == 0 or last:
        loss = evaluate(merge(state.ema, frozen), fixed, key_evaluate)
        tell(i, {'evaluation_loss': loss})
      if i > start and (i % config.sample_every == 0 or last):
        ...
      if i > start and (i % config.save_every == 0 or last):
        checkpoint.save(checkpoints, state, data)
      if last:
        break
      state, metrics = step(state, frozen, put_batch(next(data), mesh), key_step)
      if (i + 1) % config.log_every == 0:
        tell(i + 1, metrics, advance=True)
  checkpoints.close()
  data.close()
  return state


def main():
  train(_CONFIG.value, pathlib.Path(_WORKDIR.value))


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  command.run(main)
