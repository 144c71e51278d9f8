"""Experiment trackers, which are optional: Weights & Biases and trackio.

Neither is a requirement: the package is imported only if the config names it.
"""

import contextlib
import dataclasses
import importlib.util
import pathlib
import secrets
from collections.abc import Callable, Iterator, Mapping

import jax

from core.errors import UserError
from core.folder import new_file


@dataclasses.dataclass(frozen=True)
class Tracker:
  """One run in a tracker."""

  write: Callable[[int, Mapping[str, float]], None]  # (step, values)
  write_video: Callable[[int, str, pathlib.Path, str], None]  # (step, name, file, caption)
  close: Callable[[bool], None]  # (whether the run failed)


def require_tracker(*, name: str, project: str, run: str) -> None:
  """UserError if the tracker is unknown, its package is not installed, or nobody is logged in.

  A `name` of '' is no tracker.
  """
  if not name:
    return
  if name not in TRACKERS:
    allowed = ', '.join(TRACKERS)
    raise UserError(f"Got tracker.name={name!r}; allowed are {allowed}, and '' for none.")
  spec = importlib.util.find_spec(name)
  # A folder `wandb` in the current directory, where that package puts its files, has no origin.
  if spec is None or spec.origin is None:
    raise UserError(f'tracker.name={name} needs a package: pip install {name}')
  if not project:
    raise UserError(f"Got tracker.project=''; {name} needs the name of a project.")
  if name == 'wandb' and jax.process_index() == 0:
    with _refusing() as wandb:
      wandb.login()


def open_tracker(
  workdir: pathlib.Path, config: dict, *, name: str, project: str, run: str
) -> Tracker | None:
  """The run of this workdir in the tracker, new or resumed; None if `name` is ''.

  The keywords are the keys of `config.tracker`: see `require_tracker`.  `run` is the name to show;
  '' is the name of the workdir.  Only the first process has a tracker.
  """
  if not name or jax.process_index() > 0:
    return None
  shown = run or workdir.resolve().name
  return TRACKERS[name](workdir, config, project, shown)


def _wandb(workdir: pathlib.Path, config: dict, project: str, name: str) -> Tracker:
  with _refusing() as wandb:
    run = wandb.init(
      project=project, name=name, id=_identifier(workdir, name), resume='allow',
      dir=str(workdir), config=config, settings=wandb.Settings(console='off'),
    )  # fmt: skip
  # W&B's own step only ever rises, and a resumed run goes back to its checkpoint.
  run.define_metric('*', step_metric='step')

  def write_video(step, name, path, caption):
    kind = wandb.Image if path.suffix == '.png' else wandb.Video
    run.log({'step': step, name: kind(str(path), caption=caption)})

  return Tracker(
    write=lambda step, values: run.log({'step': step, **values}),
    write_video=write_video,
    close=lambda failed: run.finish(exit_code=int(failed)),
  )


@contextlib.contextmanager
def _refusing() -> Iterator:
  """The package wandb, whose errors become a UserError."""
  import wandb

  try:
    yield wandb
  except wandb.errors.Error as error:
    raise UserError(f'tracker.name=wandb: {error}') from error


def _trackio(workdir: pathlib.Path, config: dict, project: str, name: str) -> Tracker:
  import trackio

  # trackio resumes a run by its name, which therefore has to be unlike that of other workdirs.
  name = _identifier(workdir, name)
  run = trackio.init(project=project, name=name, resume='allow', config=config)

  def write_video(step, name, path, caption):
    kind = trackio.Image if path.suffix == '.png' else trackio.Video
    run.log({name: kind(str(path), caption=caption)}, step=step)

  return Tracker(
    write=lambda step, values: run.log(dict(values), step=step),
    write_video=write_video,
    close=lambda failed: run.finish(),
  )


TRACKERS = {'trackio': _trackio, 'wandb': _wandb}  # (workdir, config, project, name) -> Tracker


def _identifier(workdir: pathlib.Path, name: str) -> str:
  """The run's identifier, which its workdir keeps so that a resumed run continues the same one."""
  path = workdir / 'tracker_id'
  if not path.exists():
    with new_file(path) as file:
      file.write_text(f'{name}-{secrets.token_hex(4)}')
  return path.read_text()
