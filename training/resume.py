"""Resuming a run from its workdir, and refusing to where that would lose something.

Nothing is moved or written before it is known which checkpoint the run resumes from.  A checkpoint
with other shapes or types is not of this run, and a run that has lost all its checkpoints starts
again at step 0 only if the user says so.
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
# Errors that say nothing about the files, which may be intact.
_ENVIRONMENT = {
  errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE,
  errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH,
}  # fmt: skip
_STATUSES = (
  'RESOURCE_EXHAUSTED', 'PERMISSION_DENIED', 'UNAUTHENTICATED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED',
  'CANCELLED', 'ABORTED', 'UNIMPLEMENTED', 'Permission denied', 'Too many open files',
)  # fmt: skip


def require_checkpoints(workdir: pathlib.Path) -> None:
  """UserError, in all processes, if a run has saved checkpoints and none is left.

  A run that was killed before its first checkpoint may start again.
  """
  if problem := from_first(_lost(workdir)):
    raise UserError(problem)


def _lost(workdir: pathlib.Path) -> str:
  """Why a run must not start at step 0, '' if it may or if it has a checkpoint to resume from."""
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
  log: Callable[[str], None],
  *,
  start_over: bool = False,
) -> State | None:
  """The latest intact state, or None if there is no checkpoint; sets the position of `data`.

  state: the shapes, types and shardings of the result.
  start_over: whether the run may start at step 0 if all checkpoints are damaged.

  Damaged checkpoints are logged, and moved to `damaged/` if an earlier one is restored or if the
  run starts over.  UserError, and nothing is moved, if all are damaged, if one has other arrays
  than `state` or was saved with other data, and if one cannot be read for a reason that lies in
  this process.
  """
  path = checkpoint.folder(workdir)
  for stray in integrity.strays(path):
    log(f'{stray} is not a complete checkpoint; it is not used.')
  saved, damaged = None, {}
  for step in from_first(checkpoint.steps(workdir)):
    saved, problem = _restored(path / str(step), state)
    if saved is not None:
      break
    damaged[step] = problem
  if damaged and saved is None and not start_over:
    problems = '; '.join(f'{n}: {textwrap.shorten(text, 100)}' for n, text in damaged.items())
    problems = textwrap.shorten(problems, 300)
    raise UserError(
      f'All checkpoints in {path} are damaged: {problems}.  They are left there.  Put a complete '
      'one in their place; or begin at step 0, by --start_over here, or in another --workdir.'
    )
  if saved is not None:
    data.set_state(saved.data)
  for step, problem in damaged.items():
    where = integrity.set_aside(path / str(step))
    log(f'checkpoint {path / str(step)} is damaged: {problem}.  It is now {where}.')
  if saved is None:
    return None
  return State(ema=saved.ema, **saved.train)


def _restored(path, state):
  """The contents of a checkpoint, None if it is damaged, and its damage, '' if there is none."""
  missing = f'{path} is not there for process {jax.process_index()}, but for process 0.'
  _refuse('' if path.is_dir() else missing)  # a process may see an older state of a shared disk
  ema, train = shapes(state.ema), shapes({k: v for k, v in vars(state).items() if k != 'ema'})
  damage, problem = _try_reading(path, lambda: integrity.damage(path))
  if problem := agreed(damage or problem):
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

  differs, problem = _try_reading(path, differ)
  _refuse(f'{path} is not of this config, or not of this code.  {differs}' if differs else '')
  if problem:
    return None, problem
  contents, problem = _try_reading(path, read)
  saved, differs = contents or (None, '')
  problem = agreed(problem or differs)
  return (None if problem else saved), problem


def _try_reading(path, read):
  """The result of `read()`, and what is damaged in any process, '' if nothing is."""
  result, problem, refusal = None, '', ''
  try:
    with _readable(path):
      result = read()
  except ValueError as error:
    problem = str(error)
  except OSError as error:
    refusal = str(error)
  _refuse(refusal)
  return result, agreed(problem)


def _refuse(reason: str) -> None:
  """UserError, in all processes, if one of them has a reason."""
  if reason := agreed(reason):
    raise UserError(reason)


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
  """Raises ValueError for errors of damaged files, and OSError for those that may be others."""
  try:
    yield
  except Exception as error:  # libraries raise many kinds of errors for damaged files
    reason = textwrap.shorten(str(error), 200)
    number = getattr(error, 'errno', None)
    unknown = isinstance(error, MemoryError) or number in _ENVIRONMENT
    if unknown or any(status in str(error) for status in _STATUSES):
      raise UserFileError(f'{path} cannot be read here, and may be complete: {reason}.') from error
    raise UserError(f'it cannot be read: {reason}') from error


def shapes(tree):
  """The shapes, types and shardings of a tree of arrays or of `jax.ShapeDtypeStruct`."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, 'sharding', None)), tree
  )


def differences(saved, wanted) -> str:
  """The arrays that are in one tree alone, or have another shape or type; '' if there are none."""
  saved, wanted = _shapes_and_types(saved), _shapes_and_types(wanted)
  differing = lambda i: {
    n: f'{n} is {saved[n][i]}, not {wanted[n][i]}'
    for n in wanted.keys() & saved.keys()
    if saved[n][i] != wanted[n][i]
  }
  shape, dtype = differing(0), differing(1)
  parts = {
    'Not saved': wanted.keys() - saved.keys(),
    'Saved alone': saved.keys() - wanted.keys(),
    'Other shapes': shape.values(),
    'Other types': dtype.values(),
  }
  message = '  '.join(f'{title}: {_few(names)}.' for title, names in parts.items() if names)
  if any('64' in saved[n][1] + wanted[n][1] for n in dtype):
    message += (
      f'  JAX_ENABLE_X64 is {jax.config.jax_enable_x64}; a run goes on with what it began with.'
    )
  return message


def _few(names) -> str:
  names = sorted(names)
  more = f' and {len(names) - _LISTED} others' if len(names) > _LISTED else ''
  return ', '.join(names[:_LISTED]) + more


def _shapes_and_types(tree) -> dict[str, tuple[tuple, str]]:
  keystr = functools.partial(jax.tree_util.keystr, simple=True, separator='/')
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {keystr(path): (tuple(x.shape), jnp.dtype(x.dtype).name) for path, x in leaves}


def save_frozen(workdir: pathlib.Path, frozen: Params) -> None:
  """Writes the frozen parameters of a new run, and replaces those that are there."""
  integrity.sweep(workdir)  # after a run that was killed while it wrote them
  if frozen:
    with ocp.StandardCheckpointer() as checkpointer:
      path, options = (workdir / 'frozen').resolve(), save_args(frozen)
      checkpointer.save(path, frozen, save_args=options, force=True)


def restore_frozen(workdir: pathlib.Path, frozen: Params) -> Params:
  """The frozen parameters that the run was started with, in the shardings of `frozen`.

  UserError if they are missing, differ in shape or type, or cannot be read.
  """
  if not frozen:
    return frozen
  path, problem, restored = (workdir / 'frozen').resolve(), '', None
  try:
    with _readable(path):
      if differ := differences(saved_arrays(path), frozen):
        problem = f'{path} is not of this config, or not of this code.  {differ}'
      else:
        with ocp.StandardCheckpointer() as checkpointer:
          restored = checkpointer.restore(path, shapes(frozen))
  except (ValueError, OSError) as error:
    problem = f'The frozen parameters of the run, {path}, are not there or damaged: {error}.'
  _refuse(problem)
  return restored
