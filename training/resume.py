"""How a run goes on from its workdir, and when it must not.

Nothing is moved, and nothing is written, before it is known what the run goes on from: a checkpoint
of other shapes or types is not of this run, and a run that has lost all its checkpoints does not
begin anew unless it is told so.
"""

import contextlib
import errno
import functools
import pathlib
import textwrap
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from core.errors import UserError, UserFileError
from core.typing import Params
from training import account, checkpoint, integrity
from training.agreement import agreed, from_first
from training.arrays import save_args, saved_arrays
from training.state import State

_LISTED = 5  # names in a message
# What fails for reasons that have nothing to do with the files: they may be whole.
_ENVIRONMENT = {
  errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE,
  errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH,
}  # fmt: skip
_STATUSES = (
  'RESOURCE_EXHAUSTED', 'PERMISSION_DENIED', 'UNAUTHENTICATED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED',
  'CANCELLED', 'ABORTED', 'UNIMPLEMENTED', 'Permission denied', 'Too many open files',
)  # fmt: skip


def require_checkpoints(workdir: pathlib.Path) -> None:
  """ValueError, in all processes, where a run has saved checkpoints and none is left.

  One that was killed before it had saved any may begin again.
  """
  if problem := from_first(_lost(workdir)):
    raise UserError(problem)


def _lost(workdir: pathlib.Path) -> str:
  """Why a run can't begin at step 0, '' where it can or has a checkpoint to go on from."""
  if checkpoint.steps(workdir):
    return ''
  step, aside = account.last_saved(workdir / 'metrics.jsonl'), workdir / 'damaged'
  lost = sorted(path.name for path in aside.iterdir()) if aside.is_dir() else []
  if not step and not lost:
    return ''
  has = f'has saved step {step}' if step else f'has damaged checkpoints in {aside}'
  return (
    f'The run in {workdir} {has}, and {checkpoint.folder(workdir)} holds none it could go on from.'
    '  Put one back there; or begin at step 0, by --start_over here, or in another --workdir.'
  )


def restore(
  workdir: pathlib.Path,
  state: State,
  data: Iterator,
  tell: Callable[[str], None],
  *,
  start_over: bool = False,
) -> State | None:
  """The latest whole state, in the shapes, types and shardings of `state`, with `data` moved to its
  position; None where there is no checkpoint.

  A damaged one is told of, and moved to `damaged/` when an earlier one is restored, or where all
  are damaged and `start_over` allows to begin anew.  ValueError, with all left where it is, where
  they are all damaged, where what is saved is not what `state` has, and where it can't be read for
  a reason of this process.
  """
  path = checkpoint.folder(workdir)
  for stray in integrity.strays(path):
    tell(f'{stray} is not a whole checkpoint; it is not used.')
  saved, damaged = None, {}
  for step in from_first(checkpoint.steps(workdir)):
    saved, problem = _restored(path / str(step), state)
    if saved is not None:
      break
    damaged[step] = problem
  if damaged and saved is None and not start_over:
    problems = '; '.join(f'{n}: {textwrap.shorten(what, 100)}' for n, what in damaged.items())
    problems = textwrap.shorten(problems, 300)
    raise UserError(
      f'All checkpoints in {path} are damaged: {problems}.  They are left there.  Put a whole one '
      'in their place; or begin at step 0, by --start_over here, or in another --workdir.'
    )
  for step, problem in damaged.items():
    where = integrity.set_aside(path / str(step))
    tell(f'checkpoint {path / str(step)} is damaged: {problem}.  It is now {where}.')
  if saved is None:
    return None
  data.set_state(saved.data)
  return State(ema=saved.ema, **saved.train)


def _restored(path, state):
  """What is saved in a checkpoint, None where it is damaged, and how, '' where it is not."""
  missing = f'{path} is not there for process {jax.process_index()}, but for process 0.'
  _refuse('' if path.is_dir() else missing)  # a process may see an older state of a shared disk
  ema, train = shapes(state.ema), shapes({k: v for k, v in vars(state).items() if k != 'ema'})
  found, problem = _tried(path, lambda: integrity.damage(path))
  if problem := agreed(found or problem):
    return None, problem

  def differ():
    return differences(
      {'ema': saved_arrays(path / 'ema'), **saved_arrays(path / 'train')}, {'ema': ema, **train}
    )

  def read():
    args = dict(ema=ocp.args.StandardRestore(ema), train=ocp.args.StandardRestore(train))
    args |= dict(data=ocp.args.JsonRestore(), digest=ocp.args.JsonRestore())
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
      saved = checkpointer.restore(path, ocp.args.Composite(**args))
    return saved, integrity.compare({'ema': saved.ema, **saved.train}, saved.digest)

  found, problem = _tried(path, differ)
  _refuse(f'{path} is not of this config, or not of this code.  {found}' if found else '')
  if problem:
    return None, problem
  found, problem = _tried(path, read)
  saved, differs = found or (None, '')
  problem = agreed(problem or differs)
  return (None if problem else saved), problem


def _tried(path, read):
  """What `read()` returns, and what is damaged where it can't, '' where it can, in any process."""
  found, problem, refusal = None, '', ''
  try:
    with _readable(path):
      found = read()
  except ValueError as error:
    problem = str(error)
  except OSError as error:
    refusal = str(error)
  _refuse(refusal)
  return found, agreed(problem)


def _refuse(reason: str) -> None:
  """ValueError, in all processes, where one has a reason."""
  if reason := agreed(reason):
    raise UserError(reason)


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
  """ValueError for what can't be read because it is damaged, OSError where that is not known."""
  try:
    yield
  except Exception as error:  # whatever a library makes of damaged files
    said = textwrap.shorten(str(error), 200)
    number = getattr(error, 'errno', None)
    unknown = isinstance(error, MemoryError) or number in _ENVIRONMENT
    if unknown or any(status in str(error) for status in _STATUSES):
      raise UserFileError(f'{path} cannot be read here, and may be whole: {said}.') from error
    raise UserError(f'it cannot be read: {said}') from error


def shapes(tree):
  """The shapes, types and shardings of a tree of arrays or of such shapes."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, 'sharding', None)), tree
  )


def differences(saved, wanted) -> str:
  """Which arrays are in one tree alone, or are of another shape or type; '' where none is."""
  saved, wanted = _facts(saved), _facts(wanted)
  other = lambda i: {
    n: f'{n} is {saved[n][i]}, not {wanted[n][i]}'
    for n in wanted.keys() & saved.keys()
    if saved[n][i] != wanted[n][i]
  }
  shape, dtype = other(0), other(1)
  parts = {
    'Not saved': wanted.keys() - saved.keys(),
    'Saved alone': saved.keys() - wanted.keys(),
    'Other shapes': shape.values(),
    'Other types': dtype.values(),
  }
  said = '  '.join(f'{title}: {_few(found)}.' for title, found in parts.items() if found)
  if any('64' in saved[n][1] + wanted[n][1] for n in dtype):
    said += (
      f'  JAX_ENABLE_X64 is {jax.config.jax_enable_x64}; a run goes on with what it began with.'
    )
  return said


def _few(found) -> str:
  found = sorted(found)
  more = f' and {len(found) - _LISTED} others' if len(found) > _LISTED else ''
  return ', '.join(found[:_LISTED]) + more


def _facts(tree) -> dict[str, tuple[tuple, str]]:
  keystr = functools.partial(jax.tree_util.keystr, simple=True, separator='/')
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {keystr(path): (tuple(x.shape), jnp.dtype(x.dtype).name) for path, x in leaves}


def save_frozen(workdir: pathlib.Path, frozen: Params) -> None:
  """Writes the parameters with which a run begins and that are not trained, in place of others."""
  integrity.sweep(workdir)  # of a run that was killed in this
  if frozen:
    with ocp.StandardCheckpointer() as checkpointer:
      path, options = (workdir / 'frozen').resolve(), save_args(frozen)
      checkpointer.save(path, frozen, save_args=options, force=True)


def restore_frozen(workdir: pathlib.Path, frozen: Params) -> Params:
  """The parameters with which the run has begun and that are not trained, in the shardings of
  `frozen`.

  Later ones do not count.  ValueError where they are not there, are others, or can't be read.
  """
  if not frozen:
    return frozen
  path, problem, found = (workdir / 'frozen').resolve(), '', None
  try:
    with _readable(path):
      if differ := differences(saved_arrays(path), frozen):
        problem = f'{path} is not of this config, or not of this code.  {differ}'
      else:
        with ocp.StandardCheckpointer() as checkpointer:
          found = checkpointer.restore(path, shapes(frozen))
  except (ValueError, OSError) as error:
    problem = f'The frozen parameters of the run, {path}, are not there or damaged: {error}.'
  _refuse(problem)
  return found
