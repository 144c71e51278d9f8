r"""Trains one stage of the model.

  python train.py --config=configs/t2i.py:demo --workdir=runs/t2i
  python train.py --config=configs/t2v.py:demo --workdir=runs/t2v --config.init_from=runs/t2i
  python train.py --config=configs/ssr_image.py:demo --workdir=runs/ssr_image
  python train.py --config=configs/ssr.py:demo --workdir=runs/ssr --config.init_from=runs/ssr_image

The workdir holds the config, checkpoints, metrics and samples.  The same command resumes.
"""

import contextlib
import os
import pathlib
import shlex
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from absl import flags
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict, config_flags

from core import command, video
from core.params import count, partition
from core.typing import Params
from data.masks import Masked
from data.pictures import Picture
from data.pipeline import batches, open_source
from pipelines.sampling import video_keys
from pipelines.stage import Stage, open_stage
from stunet.inflate import inflate
from text.hashed import encoder
from training import account, checkpoint, flops, loop, processes
from training.monitor import say
from training.optimizer import make_optimizer
from training.phases import Clock, watched
from training.sharding import fsdp, make_mesh, over_batch, put, put_batch, replicated
from training.state import State
from training.step import draw, make_evaluation, make_step
from training.stops import told_to_stop

_CONFIG = config_flags.DEFINE_config_file('config', lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept.')
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of process 0, where no scheduler says who is who; or auto.'
)
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many there are.', lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them this is.', lower_bound=0)


def train(config: ConfigDict, workdir: pathlib.Path, clock: Clock, stopped=lambda: '') -> State:
  """The state after the last step; all else is in the workdir.

  clock: in the phase `start`.
  stopped: says by which signal this process was told to stop, if it was.

  ValueError, before anything is written, where a part of the config is wrong.
  """
  mesh = make_mesh(config.mesh)
  # A run that is resumed has all it needs.
  begins = config.init_from and not checkpoint.steps(workdir)
  image = checkpoint.load(pathlib.Path(config.init_from))[1] if begins else {}
  stage = open_stage(config)
  tx = make_optimizer(config.steps, **config.optim)
  encode, source = encoder(**config.text), open_examples(config)
  data = batches(source, encode, seed=config.seed, **config.loader)
  fixed = fixed_batch(source, encode, config)
  split = lambda: tuple(jax.random.split(jax.random.key(config.seed), 3))
  key_init, key_step, key_evaluate = jax.jit(split, out_shardings=replicated(mesh))()

  params = initialise(config, image, stage, fixed, mesh, key_init)
  params, frozen = partition(params, config.trainable)
  if frozen and not config.init_from:
    raise ValueError('Frozen parameters need a trained model: --config.init_from=WORKDIR.')
  say(f'{count(params):,} parameters to train, {count(frozen):,} frozen')
  create = lambda params: State.create(params, tx)
  shardings = fsdp(jax.eval_shape(create, params), mesh, config.shard_above)
  state = jax.jit(create, out_shardings=shardings)(params)

  checkpoint.save_config(workdir, config)
  if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    jax.config.update('jax_compilation_cache_dir', str((workdir / 'compiled').resolve()))
    compilation_cache.reset_cache()  # it was asked before, when there was no folder yet
  keep = {name: config[name] for name in ('keep', 'keep_every', 'keep_best')}
  checkpoints = checkpoint.manager(workdir, **keep)
  with contextlib.closing(data), contextlib.closing(checkpoints):
    with clock.during('restore'):
      frozen = checkpoint.keep_frozen(workdir, frozen)
      state = checkpoint.restore(checkpoints, state, data, say)
    fixed = put_batch(fixed, mesh)
    with clock.during('compile'):
      step, step_flops = compiled_step(config, stage, tx, state, frozen, fixed, key_step)
    evaluation = dict(times=config.evaluate_times, conditioning=stage.conditioning)
    evaluate = jax.jit(make_evaluation(stage.apply, stage.process, **evaluation))
    return loop.run(
      config, workdir, state, frozen, data, checkpoints,
      clock=clock, stopped=stopped, step_flops=step_flops,
      step=lambda state, frozen, batch: step(state, frozen, put_batch(batch, mesh), key_step),
      evaluate=lambda params: evaluate(params, fixed, key_evaluate),
      sample=make_sampling(config, stage, fixed, workdir),
    )  # fmt: skip


def compiled_step(config: ConfigDict, stage: Stage, tx, state: State, frozen: Params, batch, key):
  """The step, compiled for the mesh of the state, and its operations but for recomputation.

  batch: an example of what it will be given, whose number may be another.
  """
  options = {k: config[k] for k in ('ema_decay', 'drop_text', 'accumulate', 'high_noise')}
  options |= {'spike': config.guard.spike, 'conditioning': stage.conditioning}
  shardings = jax.tree.map(lambda x: x.sharding, state)
  mesh = state.step.sharding.mesh
  rows = lambda x: jax.ShapeDtypeStruct(
    (config.loader.batch, *x.shape[1:]), x.dtype, sharding=over_batch(mesh)
  )
  batch = jax.tree.map(rows, batch | {'stop': batch['mask'][:, 0]})

  def trace(stage):
    step = jax.jit(
      make_step(stage.apply, stage.process, tx, **options),
      donate_argnums=0,
      out_shardings=(shardings, replicated(mesh)),
    )
    return step.trace(state, frozen, batch, key)

  traced = trace(stage)
  once = traced
  if config.model.remat:
    plain = config.copy_and_resolve_references()
    plain.model.remat = False
    once = trace(open_stage(plain))
  return traced.lower().compile(), flops.count(once.jaxpr.jaxpr)


def open_examples(config: ConfigDict):
  """The source of what is trained on."""
  if s := config.style:
    caption = f'{s.content} {s.descriptor}'.strip()
    return Picture(pathlib.Path(s.image), caption, config.data.size)
  source = open_source(**config.data)
  return Masked(source, config.masks) if config.masks else source


def fixed_batch(source, encode, config: ConfigDict) -> dict[str, np.ndarray]:
  """The batch by which evaluation losses compare."""
  data = batches(source, encode, batch=config.evaluate_batch, seed=config.seed + 1)
  batch = next(data)
  data.close()
  return batch


def initialise(config: ConfigDict, image: Params, stage: Stage, batch, mesh, key) -> Params:
  """New parameters, sharded, with those of `image` in their places unless it is empty."""

  def init(key):
    shapes = {k: jnp.zeros((1, *v.shape[1:]), v.dtype) for k, v in batch.items()}
    x0, t, _, cond = draw(shapes, key, 0.0, conditioning=stage.conditioning)
    return stage.init(key, x0, t, cond)

  shardings = fsdp(jax.eval_shape(init, key), mesh, config.shard_above)
  params = jax.jit(init, out_shardings=shardings)(key)
  if image:
    params = jax.tree.map(put, inflate(image, params), shardings)
  return params


def make_sampling(config: ConfigDict, stage: Stage, batch, workdir: pathlib.Path):
  """Returns `sample(params, step)`, which writes a video of each example, and its X-T slice, from
  the first process; to be called in all."""
  d, (titles, cond) = config.data, stage.examples(batch)
  keys = video_keys(config.seed, jnp.arange(len(titles)))

  def sample(params: Params, step: int) -> None:
    videos = processes.gathered(stage.generate(params, cond, keys))
    if jax.process_index() > 0:
      return
    folder = workdir / 'samples' / f'step_{step:08}'
    folder.mkdir(parents=True, exist_ok=True)
    for i, (title, frames) in enumerate(zip(titles, map(video.to_uint8, videos))):
      extension = '.mp4' if d.frames > 1 else '.png'
      metadata = {'prompt': title, 'step': str(step)}
      video.write(folder / f'{i}{extension}', frames, fps=d.fps, metadata=metadata)
      if d.frames > 1:
        video.write(folder / f'{i}_xt.png', video.xt_slice(frames)[None])

  return sample


def main() -> None:
  if not _CONFIG.value or not _WORKDIR.value:
    raise ValueError('Both --config=configs/STAGE.py:SCALE and --workdir=DIR are needed.')
  config, workdir = _CONFIG.value, pathlib.Path(_WORKDIR.value)
  began = psutil.Process().create_time()
  with (
    watched(workdir, config.watchdog, started=began) as clock,
    told_to_stop() as stopped,
  ):
    processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    processes.require_same(config.to_json(), command.ROOT, workdir)
    state = train(config, workdir, clock, stopped)
  if int(state.step) < config.steps:
    again = shlex.join([sys.executable, *sys.argv])
    say(f'Stopped after step {int(state.step)} of {config.steps}.  What resumes it: {again}')
  starts = account.starts(workdir / 'metrics.jsonl')
  say(account.table(account.account(starts, time.time())))


if __name__ == '__main__':
  command.run(main)
