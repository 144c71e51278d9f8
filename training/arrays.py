"""Arrays in files: how Orbax saves them, and how they are read onto any devices."""

import contextlib
import logging
import pathlib
from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from core.errors import UserError
from core.typing import Params


def _save_small_arrays_whole() -> None:
  """Devices that hold the same array save a part of it each; of small ones cutting takes longer."""
  handler = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=2**20)
  verbosity = absl_logging.get_verbosity()
  absl_logging.set_verbosity(
    absl_logging.ERROR
  )  # it warns of every handler that takes another's place
  ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)
  absl_logging.set_verbosity(verbosity)


def _log_no_error_twice() -> None:
  """Stops asyncio from logging the errors of a save that Orbax does not raise.

  Orbax raises the first one; if a disk is full, hundreds of others would each print a traceback.
  """
  unraised = 'exception was never retrieved'  # of a task, a future, or several of them gathered
  logging.getLogger('asyncio').addFilter(lambda record: unraised not in record.getMessage())


_save_small_arrays_whole()
_log_no_error_twice()

# The largest chunk of an array in bytes.  A chunk is read whole, so with small ones another mesh,
# whose shards differ, reads little more than it needs.
CHUNK_BYTES = 2**22


def save_args(tree: Params) -> Params:
  """Orbax's options for saving each array of the tree."""
  return jax.tree.map(lambda x: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)


def read(
  path: pathlib.Path, place: Callable[[Params], Params], without: Collection[str] = ()
) -> Params:
  """The arrays saved at the path, as float32 in the shardings that `place` returns.

  without: the names of subtrees at the root that are not read.
  """
  saved = {name: tree for name, tree in saved_arrays(path).items() if name not in without}
  if not saved:  # Orbax restores no empty tree
    return {}
  shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.float32), saved)
  like = jax.tree.map(lambda p, sharding: p.update(sharding=sharding), shapes, place(shapes))
  options = ocp.checkpoint_utils.construct_restore_args(like)
  with ocp.PyTreeCheckpointer() as checkpointer:
    return checkpointer.restore(
      path, args=ocp.args.PyTreeRestore(like, restore_args=options, partial_restore=True)
    )


def saved_arrays(path: pathlib.Path) -> Params:
  """The shapes and types of the arrays saved at the path; UserError without metadata."""
  # Orbax's `Checkpointer.metadata` also looks for the metadata of a whole step, of which this
  # folder is one part, and warns that there is none.  The handler reads that of the arrays alone.
  with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
    try:
      return handler.metadata(path).tree
    except (OSError, ValueError, TypeError) as error:
      raise UserError(f'{path.name} has no metadata') from error


def on_one_device(shapes: Params) -> Params:
  """Shardings that place a whole tree on the first device of this process."""
  first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.tree.map(lambda p: first, shapes)
