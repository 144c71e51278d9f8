r"""Trains one stage of the model.

  python train.py --config=configs/t2i.py:demo --workdir=runs/t2i
  python train.py --config=configs/t2v.py:demo --workdir=runs/t2v --config.init_from=runs/t2i
  python train.py --config=configs/ssr_image.py:demo --workdir=runs/ssr_image
  python train.py --config=configs/ssr.py:demo --workdir=runs/ssr --config.init_from=runs/ssr_image

The workdir holds the config, checkpoints, metrics and samples.  The same command resumes.

  python train.py --config=configs/t2v.py:paper --compile_for=v5p:4x4x8 --output=forecast.json

says, without a TPU, what a step would take of such a slice.
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import contextlib
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import psutil
from absl import flags
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict, config_flags

from core import command, interrupt, unicode, video
from core.condition import Condition
from core.params import cast_kernels, count
from core.sharding import fsdp, make_mesh, of_each, put_batch, replicated, rows
from core.typing import Key, Params
from core.writable import require_folder
from data.pipeline import batches
from diffusion.sampling import video_keys
from evaluation.in_training import make_scoring
from pipelines.stages import open_stage
from text.encoder import open_encoder
from training import account, checkpoint, failures, loop, processes, resume
from training.agreement import from_first
from training.compile_for import forecast_step, report
from training.lock import locked
from training.monitor import say
from training.phases import Clock, watched
from training.plan import Plan, initialise, lower_step, make_plan
from training.ranges import require_in_range
from training.sampling import GenerateOnHost, make_generate_on_host, to_every_host, videos_at_once
from training.stage import Stage
from training.state import State
from training.stops import told_to_stop
from training.validation import (
  evaluation_rows,
  fixed_batches,
  make_losses,
  mean_loss,
  open_validation,
)

_CONFIG = config_flags.DEFINE_config_file('config', lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept.')
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of process 0, where no scheduler says who is who; or auto.'
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'How many there are; 1 alone: whatever a scheduler says.', lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them this is.', lower_bound=0)
_START_OVER = flags.DEFINE_bool(
  'start_over', False, 'Begins at step 0 where all checkpoints of the run are damaged or gone.'
)
_COMPILE_FOR = flags.DEFINE_string(
  'compile_for',
  None,
  'A TPU slice, v5p:4x4x8, or several, 2xv5p:4x4x8, for which the step is compiled, and not run.',
)
_OUTPUT = flags.DEFINE_string('output', None, 'With --compile_for: a .json file for what it says.')


LOST = 1  # exit status of a run that could not save its last steps


def train(
  config: ConfigDict,
  workdir: pathlib.Path,
  clock: Clock,
  stopped: Callable[[], str] = lambda: '',
  *,
  start_over: bool = False,
) -> State:
  """The state after the last step; all else is in the workdir.

  clock: in the phase `start`.
  stopped: says by which signal this process was told to stop, if it was.
  start_over: whether a run of which no checkpoint can be used begins at step 0.

  ValueError, before anything is written, where a part of the config is wrong, and where the workdir
  holds a run that can't go on: see `training.resume`.
  """
  require_in_range(config)
  mesh = make_mesh(config.mesh)
  if config.init_from and not checkpoint.steps(workdir):  # one that is resumed has all it needs
    require_same_texts(pathlib.Path(config.init_from), config)
  plan = make_plan(config, mesh, open_stage)
  data, validation, fixed = open_batches(config, plan.stage, mesh)
  keys = lambda: tuple(jax.random.split(jax.random.key(config.seed), 3))
  key_init, key_step, key_evaluate = jax.jit(keys, out_shardings=replicated(mesh))()
  if plan.frozen and not config.init_from:
    raise UserError('Frozen parameters need a trained model: --config.init_from=WORKDIR.')
  at_once = videos_at_once(config, mesh)
  generate = make_generate_on_host(plan.stage.generate, at_once, mesh)
  score = make_scoring(config, plan.stage, generate, workdir, at_once=at_once, **config.scores)
  checkpoint.check_config(workdir, config)
  if not start_over:
    resume.require_checkpoints(workdir)
  say(f'{count(plan.state.params):,} parameters to train, {count(plan.frozen):,} frozen')
  keep = {name: config[name] for name in ('keep', 'keep_every', 'keep_best')}
  with contextlib.closing(data):
    with clock.during('restore'):
      state = resume.restore(workdir, plan.state, data, say, start_over=start_over)
      frozen = resume.restore_frozen(workdir, plan.frozen) if state else None
    begins = state is None
    if begins:
      state, frozen = begin(config, plan, key_init)
    checkpoint.save_config(workdir, config)
    if begins:
      resume.save_frozen(workdir, frozen)
    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
      jax.config.update('jax_compilation_cache_dir', str((workdir / 'compiled').resolve()))
      compilation_cache.reset_cache()  # it was asked before, when there was no folder yet
    checkpoints = checkpoint.manager(workdir, **keep)
    with contextlib.closing(checkpoints), jax.set_mesh(mesh):
      frozen = cast_kernels(frozen, config.model.dtype)
      with clock.during('compile'):
        lowered, step_flops = lower_step(plan, key_step)
        step = lowered.compile()
      losses = make_losses(config, plan.stage, mesh)
      shown = to_every_host(
        put_batch(fixed[0], mesh), min(len(config.sample_prompts), config.evaluate_batch), mesh
      )
      inputs = lambda batch, stop: put_batch(batch, mesh) | {'stop': of_each(stop, mesh)}
      return loop.run(
        config, workdir, state, frozen, data, checkpoints,
        clock=clock, stopped=stopped, step_flops=step_flops,
        step=lambda state, frozen, batch, stop: step(state, frozen, inputs(batch, stop), key_step),
        evaluate=lambda params: {validation.metric: mean_loss(
          lambda number, batch: losses(params, put_batch(batch, mesh), key_evaluate, number),
          fixed, len(validation.examples),
        )},
        sample=make_sampling(config, plan.stage.preview(shown), generate, workdir),
        score=score,
      )  # fmt: skip


def begin(config: ConfigDict, plan: Plan, key: Key) -> tuple[State, Params]:
  """The state before the first step and the frozen parameters, from the model of `init_from` if the
  config names one."""
  image = {}
  if config.init_from:
    place = lambda shapes: fsdp(shapes, plan.mesh, config.shard_above)
    _, image, _ = checkpoint.load(pathlib.Path(config.init_from), place)
  return initialise(plan, image, key)


def require_same_texts(workdir: pathlib.Path, config: ConfigDict) -> None:
  """ValueError unless the model there is conditioned on texts as that of the config is."""
  theirs, ours = text_settings(checkpoint.load_config(workdir)), text_settings(config)
  if differ := sorted(key for key in theirs if theirs[key] != ours[key]):
    how = ' '.join(f'--config.text.{key}={theirs[key]}' for key in differ)
    raise UserError(f'{workdir} is a model of other texts; it needs {how}.')


def text_settings(config: ConfigDict) -> dict:
  """What decides how the model of a config is told a text."""
  source = config.text.get('source', 'hashed')
  if source not in ('', 'hashed'):
    source = str(pathlib.Path(source).resolve())
  told = {'source': source, 'tokens': config.text.tokens, 'width': config.text.width}
  # One of words is masked always; a workdir of before there was a choice attends to padding.
  masked = source != 'hashed' and config.text.get('mask_padding', False)
  return told | {'mask_padding': masked}


def open_batches(config: ConfigDict, stage: Stage, mesh: jax.sharding.Mesh):
  """The batches of training, what is evaluated, and the batches of that: of each, the rows that
  this process loads."""
  encode, source = open_encoder(**config.text), stage.data.open('train')
  validation = open_validation(config, stage, source)
  say(f'{len(source):,} examples to train on; {validation.metric} is of {validation.description}')
  clips = config.evaluate_batch
  fixed = fixed_batches(validation.examples, encode, stage, clips, evaluation_rows(clips, mesh))
  mine = rows(config.loader.batch, mesh)
  data = batches(source, encode, keys=stage.batch, seed=config.seed, rows=mine, **config.loader)
  return data, validation, fixed


def make_sampling(
  config: ConfigDict,
  preview: tuple[Sequence[str], Condition],
  generate: GenerateOnHost,
  workdir: pathlib.Path,
):
  """Returns `sample(params, step)`, which generates videos and writes them with their X-T slices.

  All processes call it; the first one writes.

  preview: the titles and the condition of the videos: see `training.stage.Stage`.
  generate: see `make_generate_on_host`.
  """
  d, (titles, cond) = config.data, preview
  keys = video_keys(config.seed, jnp.arange(len(titles)))

  def sample(params: Params, step: int) -> None:
    videos = generate(params, cond, keys)
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
  if _COMPILE_FOR.value is not None:
    if not _CONFIG.value:
      raise UserError('--compile_for needs --config=configs/STAGE.py:SCALE.')
    output = command.json_file(_OUTPUT.value)
    forecast = forecast_step(_CONFIG.value, _COMPILE_FOR.value, open_stage)
    return report([forecast], output)
  if not _CONFIG.value or not _WORKDIR.value:
    raise UserError('Both --config=configs/STAGE.py:SCALE and --workdir=DIR are needed.')
  if status := run(_CONFIG.value, pathlib.Path(_WORKDIR.value)):
    sys.exit(status)


def run(config: ConfigDict, workdir: pathlib.Path) -> int:
  """Trains, and says what came of it; returns the exit status.

  0 where the run is at its end or was stopped by a scheduler, 130 where it was by Ctrl-C, 1 where
  steps are lost because the last checkpoint could not be saved.
  """
  unicode.require_path(workdir.absolute())
  require_folder(workdir)
  began = psutil.Process().create_time()
  stalled = lambda status: failures.end_all(status, 'it took too long, as its own message says')
  limits = config.watchdog.to_dict()
  with (
    watched(workdir, limits, started=began, end=stalled) as clock,
    told_to_stop(clock) as stopped,
  ):
    processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    with failures.ending_together(command.report), locked(workdir):
      processes.require_same(config.to_json(), command.ROOT, workdir)
      start_over = from_first(_START_OVER.value)
      state = train(config, workdir, clock, stopped, start_over=start_over)
      step, saved = int(state.step), from_first(max(checkpoint.steps(workdir), default=0))
      starts = account.starts(workdir / 'metrics.jsonl')
  again = shlex.join([sys.executable, *sys.argv])
  if step < config.steps:
    say(f'Stopped after step {step} of {config.steps}.  What resumes it: {again}')
  if starts:  # else metrics could not be written
    say(account.table(account.account(starts, time.time())))
  if saved < step:
    say(
      f'error: the last checkpoint could not be saved: steps {saved + 1} to {step} are lost.  '
      f'Make room for it; what makes them again: {again}'
    )
    return LOST
  return interrupt.STATUS if stopped() == 'SIGINT' and step < config.steps else 0


if __name__ == '__main__':
  command.run(main)
