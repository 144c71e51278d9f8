"""Arrays in files: how they are saved, and how they are read on any devices."""

import contextlib
import logging
import pathlib
from collections.abc import Callable

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
  """Orbax raises the first error of a save; asyncio logs a traceback for each of the others, which
  are hundreds where a disk is full."""
  again = 'Task exception was never retrieved'
  logging.getLogger('asyncio').addFilter(lambda record: again not in record.getMessage())


_save_small_arrays_whole()
_log_no_error_twice()

# The most bytes of an array that are written, and so read, as one: another mesh has other shards.
CHUNK_BYTES = 2**22


def save_args(tree: Params) -> Params:
  """Tells Orbax how to save each array of the tree."""
  return jax.tree.map(lambda x: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)


def read(path: pathlib.Path, place: Callable[[Params], Params]) -> Params:
  """What is saved there, as float32 in the shardings that `place` gives."""
  shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.float32), saved_arrays(path))
  with ocp.StandardCheckpointer() as checkpointer:
    like = lambda p, sharding: p.update(sharding=sharding)
    return checkpointer.restore(path, jax.tree.map(like, shapes, place(shapes)))


def saved_arrays(path: pathlib.Path) -> Params:
  """The shapes and types of what is saved there; ValueError where the files do not say them."""
  # Orbax's `Checkpointer.metadata` looks for the metadata of a whole step too, of which this folder
  # is one part, and warns that it has none.  The handler reads the arrays' alone.
  with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
    try:
      return handler.metadata(path).tree
    except (OSError, ValueError, TypeError) as error:
      raise UserError(f'{path.name} has no metadata') from error


def on_one_device(shapes: Params) -> Params:
  """Shardings that place all of a tree on the first device of this process."""
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.tree.map(lambda p: here, shapes)
