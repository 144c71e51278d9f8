"""A cache of text embeddings on disk: captions repeat every epoch, and T5 is slow and large."""

import hashlib
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int, Shaped

from core.folder import new_file

Embed = Callable[
  [Int[np.ndarray, 'b n'], Bool[np.ndarray, 'b n']],
  Shaped[np.ndarray, 'b n d'],  # numpy does not count bfloat16 among floats
]


def cached(
  embed: Embed, folder: pathlib.Path, identity: bytes, width: int, dtype, *, padding: bool
) -> Embed:
  """Returns `embed(ids, mask)`, which reads embeddings from `folder` and computes the missing ones.

  identity: bytes that identify the encoder; embeddings depend on them and the tokens only.
  padding: whether the embeddings of padding are stored.  If not, they are returned as zeros.

  Each text has a file of `tokens * width` numbers of `dtype`.  `tokens` is the number of its own
  tokens, which come first, or with `padding` the number of all tokens.  A file with padding serves
  both cases; a file of any other size is computed again.  Several processes may share the folder,
  since a file is renamed into place when it is complete.
  """
  dtype = np.dtype(dtype)

  def read_or_embed(ids, mask):
    paths = [_path(folder, identity, row) for row in ids]
    stored = [mask.shape[1] if padding else int(row.sum()) for row in mask]
    sizes = dict(zip(paths, stored))  # equal texts have one entry
    arrays = {path: _read(path, (n, width), mask.shape[1], dtype) for path, n in sizes.items()}
    if missing := {path: i for i, path in enumerate(paths) if arrays[path] is None}:
      rows = list(missing.values())
      for path, embedding in zip(missing, embed(ids[rows], mask[rows])):
        arrays[path] = embedding[: sizes[path]]
        _write(path, arrays[path])
    text = np.zeros((*ids.shape, width), dtype)
    for row, path in zip(text, paths):
      row[: sizes[path]] = arrays[path]
    return text

  return read_or_embed


def _path(folder, identity: bytes, ids) -> pathlib.Path:
  digest = hashlib.blake2b(identity, digest_size=16)
  digest.update(ids.astype('<i4').tobytes())
  name = digest.hexdigest()
  return folder / name[:2] / name[2:]  # a single folder of millions of files is slow


def _read(path, shape, max_tokens: int, dtype):
  """The array in the file, or None unless it has the tokens of this shape, or `max_tokens`."""
  try:
    data = path.read_bytes()
  except FileNotFoundError:
    return None
  size, padded = (n * shape[1] * dtype.itemsize for n in (shape[0], max_tokens))
  if len(data) not in (size, padded):
    return None
  return np.frombuffer(data[:size], dtype).reshape(shape)


def _write(path, array) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with new_file(
    path, sync=False
  ) as file:  # a lost file is computed again, and syncing millions is slow
    file.write_bytes(array.tobytes())
