"""Embeddings on disk: a corpus repeats its captions every epoch, and T5 is larger than all else."""

import hashlib
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int, Shaped

from core.folder import new_file

Embed = Callable[
  [Int[np.ndarray, 'b n'], Bool[np.ndarray, 'b n']],
  Shaped[np.ndarray, 'b n d'],  # bfloat16 is no float to numpy
]


def cached(
  embed: Embed, folder: pathlib.Path, identity: bytes, width: int, dtype, *, padding: bool
) -> Embed:
  """`embed(ids, mask)` that asks the one it is given for what is not in the folder yet.

  identity: whatever the embeddings depend on but their tokens.
  padding: whether the embeddings of padded places are stored too.  If not, they are zero.

  Each text has a file of `tokens * width` numbers of the dtype, where `tokens` are its own, which
  come first in its mask, or with `padding` all of them.  A file with padding does for both; one of
  any other size is made again.  Several processes may share the folder: a file gets its name when
  it is whole.
  """
  dtype = np.dtype(dtype)

  def read_or_embed(ids, mask):
    paths = [_path(folder, identity, row) for row in ids]
    stored = [mask.shape[1] if padding else int(row.sum()) for row in mask]
    sizes = dict(zip(paths, stored))  # of the same tokens one
    known = {path: _read(path, (n, width), mask.shape[1], dtype) for path, n in sizes.items()}
    if rows := {path: i for i, path in enumerate(paths) if known[path] is None}:
      of = list(rows.values())
      for path, made in zip(rows, embed(ids[of], mask[of])):
        known[path] = made[: sizes[path]]
        _write(path, known[path])
    text = np.zeros((*ids.shape, width), dtype)
    for row, path in zip(text, paths):
      row[: sizes[path]] = known[path]
    return text

  return read_or_embed


def _path(folder, identity: bytes, ids) -> pathlib.Path:
  of = hashlib.blake2b(identity, digest_size=16)
  of.update(ids.astype('<i4').tobytes())
  name = of.hexdigest()
  return folder / name[:2] / name[2:]  # folders of millions of files are slow


def _read(path, shape, places: int, dtype):
  """The array in the file, or None where there is none of this shape, nor of all places."""
  try:
    data = path.read_bytes()
  except FileNotFoundError:
    return None
  size, whole = (n * shape[1] * dtype.itemsize for n in (shape[0], places))
  if len(data) not in (size, whole):
    return None
  return np.frombuffer(data[:size], dtype).reshape(shape)


def _write(path, array) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with new_file(path, sync=False) as file:  # it can be made again, and there are millions
    file.write_bytes(array.tobytes())
