r"""Trains one stage of the model.

  python train.py --config=configs/t2i.py:demo --workdir=runs/t2i
  python train.py --config=configs/t2v.py:demo_sparse --workdir=runs/t2v_sparse \
    --config.init_from=runs/t2i
  python train.py --config=configs/t2v.py:demo --workdir=runs/t2v --config.init_from=runs/t2v_sparse
  python train.py --config=configs/ssr_image.py:demo --workdir=runs/ssr_image
  python train.py --config=configs/ssr.py:demo --workdir=runs/ssr --config.init_from=runs/ssr_image

The workdir holds the config, checkpoints, metrics and samples.  The same command resumes a run.

  python train.py --config=configs/t2v.py:paper --compile_for=v5p:4x4x8 --output=forecast.json

predicts, without a TPU, the memory and the time of a step on such a slice, and

  python train.py --config=configs/t2v.py:paper --dry_run --devices=128

does all that a run does, in small, on so many devices that a CPU imitates.
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import contextlib
import functools
import os
import pathlib
import shlex
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import psutil
from absl import flags
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict, config_flags

from core import command, config_help, interrupt, unicode
from core.params import cast_kernels, count, merge
from core.sharding import make_mesh, of_each, over_batch, put_batch, replicated
from core.writable import require_folder
from evaluation.in_training import make_scoring
from pipelines.model import Model
from pipelines.stages import open_stage
from training import account, checkpoint, dry_run, failures, hooks, loop, processes, resume
from training.agreement import from_first
from training.batches import open_batches
from training.compile_for import forecast_step, report
from training.lock import locked
from training.metrics import Metrics
from training.monitor import log, progress_bar
from training.phases import Clock, watched
from training.plan import compile_steps, make_plan
from training.ranges import require_in_range
from training.samples import make_write_samples, videos_at_once
from training.start import open_state, require_parent
from training.state import State
from training.stops import catching_signals
from training.texts import open_texts
from training.trackers import open_tracker, require_tracker
from training.validation import make_evaluate

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'A run trains the stage in this file at a scale, as in configs/t2v.py:demo; --config.KEY=VALUE '
  'overrides one of its keys.',
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'The checkpoints, metrics and samples of the run are in this folder.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'Process 0 of a run of many processes has this address, HOST:PORT; with auto, JAX finds it.  It '
  'is not needed under a job scheduler that JAX supports.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes',
  None,
  'A run has this number of processes; 1 runs this process alone, even under a job scheduler.',
  lower_bound=1,
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'This process has this number among those of the run, from 0.', lower_bound=0
)
_START_OVER = flags.DEFINE_bool(
  'start_over',
  False,
  'The run starts again at step 0 if all of its checkpoints are damaged or missing.',
)
_COMPILE_FOR = flags.DEFINE_string(
  'compile_for',
  None,
  'Instead of a run, a step is compiled for a TPU slice, as v5p:4x4x8, or for several slices, as '
  '2xv5p:4x4x8, and its memory and time are predicted.',
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'The prediction of --compile_for is also written to this .json file.'
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run',
  False,
  'Instead of a run, a narrow network of the same structure does one step and an evaluation, makes '
  'samples, and saves and restores a checkpoint, in a temporary folder.',
)
_DEVICES = flags.DEFINE_integer(
  'devices', 1, 'A CPU imitates this number of devices in --dry_run.', lower_bound=1
)


LOST = 1  # exit status of a run that could not save its last steps


def train(
  config: ConfigDict,
  workdir: pathlib.Path,
  clock: Clock,
  stop_signal: Callable[[], str] = lambda: '',
  *,
  start_over: bool = False,
) -> State:
  """The state after the last step; everything else that a run makes is in the workdir.

  clock: in the phase `start`.
  stop_signal: returns the name of the signal that asks this process to stop, '' if there is none.
  start_over: whether a run whose checkpoints are all unusable starts again at step 0.

  UserError, before anything is written, if a part of the config is wrong, or if the workdir holds a
  run that cannot be resumed: see `training.resume`.
  """
  require_valid(config, workdir, start_over=start_over)
  mesh = make_mesh(config.mesh)
  encode = open_texts(config)
  plan = make_plan(config, mesh, functools.partial(open_stage, encode=encode))
  if plan.frozen and not config.init_from:
    raise UserError('Frozen parameters need a trained model: --config.init_from=WORKDIR.')
  log(f'{count(plan.state.params):,} parameters to train, {count(plan.frozen):,} frozen')
  split = lambda: tuple(jax.random.split(jax.random.key(config.seed), 3))
  key_init, key_step, key_evaluate = jax.jit(split, out_shardings=replicated(mesh))()

  model = Model(config, plan.stage, videos_at_once(config, mesh), over_batch(mesh))
  score = make_scoring(model, workdir, **config.scores)
  data, validation, fixed = open_batches(config, plan.stage, mesh)
  with contextlib.closing(data):
    state, frozen = open_state(workdir, plan, data, key_init, clock, start_over=start_over)
    start = int(state.step)
    use_compilation_cache(workdir)
    keep = {name: config[name] for name in ('keep', 'keep_every', 'keep_best')}
    with (
      contextlib.closing(checkpoint.manager(workdir, **keep)) as checkpoints,
      Metrics(workdir, open_tracker(workdir, config.to_dict(), **config.tracker)) as metrics,
      jax.set_mesh(mesh),
    ):
      frozen = cast_kernels(frozen, config.model.dtype)
      with clock.during('compile'):
        programs, step_flops = compile_steps(plan, key_step, data.shares)

      def step(state: State, batch: dict) -> tuple[State, dict]:
        stop = {'stop': of_each(bool(stop_signal()), mesh)}
        program = programs[batch['video'].shape[1:]]
        return program(state, frozen, put_batch(batch, mesh) | stop, key_step)

      evaluate = make_evaluate(config, plan.stage, mesh, validation, fixed, key_evaluate)
      write_samples = make_write_samples(
        config, plan.stage, mesh, fixed[0], model.generate_by, workdir, metrics
      )
      average = lambda state: merge(state.ema, frozen)
      loss_by_step = {}  # of evaluation: the first hook adds it, and the second saves it
      between_steps = [
        hooks.evaluation(config.evaluate_every, evaluate, average, metrics, clock, loss_by_step),
        hooks.saving(
          config.save_every, checkpoints, data, start, metrics, clock, loss_by_step,
          stop_if_failed=config.stop_on_failed_save,
        ),
        hooks.sampling(config.sample_every, write_samples, average, clock),
        hooks.scoring(config.score_every, score, average, metrics, clock),
      ]  # fmt: skip

      frames = config.loader.batch * sum(
        float(share) * plan.examples[bucket]['video'].shape[0]
        for bucket, share in data.shares.items()
      )
      with progress_bar(
        start=start, steps=config.steps, frames=frames, step_flops=step_flops
      ) as advance:
        goodput = account.open_account(workdir, start, clock, metrics.write)
        read_metrics = hooks.make_read_metrics(
          metrics, advance, goodput, data, clock,
          start=start, log_every=config.log_every, abort_after=config.guard.abort_after,
        )  # fmt: skip
        state = loop.run(
          state, data, step, read_metrics, between_steps, steps=config.steps, clock=clock
        )
      metrics.write(int(state.step), goodput())
      return state


def require_valid(config: ConfigDict, workdir: pathlib.Path, *, start_over: bool) -> None:
  """UserError for what is wrong with a config or a workdir, before data or models are opened."""
  require_in_range(config)
  require_tracker(**config.tracker)
  checkpoint.check_config(workdir, config)
  if not start_over:
    resume.require_checkpoints(workdir)
  if config.init_from and not checkpoint.steps(workdir):  # a run that is resumed needs no parent
    require_parent(pathlib.Path(config.init_from), config)


def use_compilation_cache(workdir: pathlib.Path) -> None:
  """Keeps what XLA compiles in the workdir, unless the user has a folder for it."""
  if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    jax.config.update('jax_compilation_cache_dir', str((workdir / 'compiled').resolve()))
    compilation_cache.reset_cache()  # JAX opened it before there was a folder


def main() -> None:
  if _COMPILE_FOR.value is not None:
    if not _CONFIG.value:
      raise UserError('--compile_for needs --config=configs/STAGE.py:SCALE.')
    output = command.json_file(_OUTPUT.value)
    forecast = forecast_step(_CONFIG.value, _COMPILE_FOR.value, open_stage)
    return report([forecast], output)
  if _DRY_RUN.value:
    if not _CONFIG.value or _WORKDIR.value:
      raise UserError('--dry_run needs --config=configs/STAGE.py:SCALE, and no --workdir.')
    return rehearse(_CONFIG.value, _DEVICES.value)
  if _DEVICES.present:
    raise UserError('--devices is of no use without --dry_run.')
  if not _CONFIG.value or not _WORKDIR.value:
    raise UserError('Both --config=configs/STAGE.py:SCALE and --workdir=DIR are needed.')
  if status := run(_CONFIG.value, pathlib.Path(_WORKDIR.value)):
    sys.exit(status)


def rehearse(config: ConfigDict, devices: int) -> None:
  """Does in small all that a run does on so many devices, and prints what was done.

  The errors of `train`.  RuntimeError if a restored checkpoint is not the state that was saved.
  """
  require_in_range(config)
  dry_run.use_virtual_devices(devices)
  config = dry_run.narrowed(config, devices)
  with tempfile.TemporaryDirectory() as folder:
    workdir, parent = pathlib.Path(folder, 'run'), pathlib.Path(folder, 'parent')
    if config.init_from or tuple(config.trainable) != ('.*',):
      dry_run.write_parent(config, open_stage, parent)
      config.init_from = str(parent)
    states = []
    for _ in ('a new run', 'its resumption'):
      clock = Clock()
      states.append(train(config, workdir, clock))
    if differ := dry_run.differing(*states):
      raise RuntimeError(f'These arrays are not restored as they were saved: {", ".join(differ)}.')
    log(account.table(account.account(account.starts(workdir / 'metrics.jsonl'), time.time())))
  axes = ', '.join(f'{axis} {size}' for axis, size in make_mesh(config.mesh).shape.items())
  log(
    f'The dry run is complete on {axes}: a step of {config.loader.batch} clips, an evaluation, '
    'samples, and a checkpoint that is restored to the same bits.'
  )


def run(config: ConfigDict, workdir: pathlib.Path) -> int:
  """Trains, and prints how the run ended; returns the exit status.

  That is 0 if the run is at its end or a scheduler stopped it, 130 after Ctrl-C, and 1 if steps are
  lost because the last checkpoint could not be saved.
  """
  unicode.require_path(workdir.absolute())
  require_folder(workdir)
  started = psutil.Process().create_time()
  stalled = lambda status: failures.end_all(status, 'it took too long, as its own message says')
  limits = config.watchdog.to_dict()
  with (
    watched(workdir, limits, started=started, end=stalled) as clock,
    catching_signals(clock) as stop_signal,
  ):
    processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    with failures.ending_together(command.report), locked(workdir):
      token = processes.token_of_first(workdir)
      facts = {'config': config.to_json(), 'files in --workdir': token}
      processes.require_same(command.ROOT, facts)
      start_over = from_first(_START_OVER.value)
      state = train(config, workdir, clock, stop_signal, start_over=start_over)
      step, saved = int(state.step), from_first(max(checkpoint.steps(workdir), default=0))
      starts = account.starts(workdir / 'metrics.jsonl')
  command_line = shlex.join([sys.executable, *sys.argv])
  if step < config.steps:
    log(f'Stopped after step {step} of {config.steps}.  What resumes it: {command_line}')
  if starts:  # else metrics could not be written
    log(account.table(account.account(starts, time.time())))
  if saved < step:
    log(
      f'error: the last checkpoint could not be saved: steps {saved + 1} to {step} are lost.  '
      f'Make room for it; what makes them again: {command_line}'
    )
    return LOST
  return interrupt.STATUS if stop_signal() == 'SIGINT' and step < config.steps else 0


if __name__ == '__main__':
  command.run(main, config_help.of_configs)
