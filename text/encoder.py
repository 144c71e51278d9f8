"""Text encoders by the name that a config has for them."""

import functools
import hashlib
import json
import math
import pathlib
import threading
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from core import weights
from core.errors import UserError
from core.params import nest
from core.typing import Params
from text import hashed, tokenizer
from text.cache import Embed, cached
from text.hashed import Encoder
from text.t5 import T5Encoder, shapes

DTYPES = ('bfloat16', 'float32')
TEXTS = 16  # embedded at once: always so many, so that one compilation does for any number
MIN_SHARDED = 2**16  # numbers; what is smaller is whole on every device
SAMPLE_BYTES = 2**20


def open_encoder(
  *,
  tokens: int,
  width: int,
  source: str = 'hashed',
  dtype: str = 'float32',
  cache: str = '',
  mask_padding: bool = False,
) -> Encoder:
  """Returns `encode(texts) -> (text, mask)`: `b n d` embeddings in float32, and a mask (`b n`).

  tokens, width: n and d.
  source: `hashed`, or a folder that `text.convert` wrote, of a T5.
  dtype: of the products of T5, and of what the cache holds.
  cache: a folder for embeddings of T5, which may be shared; none if empty.
  mask_padding: whether T5's mask is true for the tokens of the text alone, and its embeddings are
    zero elsewhere, as `hashed` always is.

  T5 is loaded when it is first asked for what is not in the cache, spread over the devices of this
  process.  It attends to the tokens of the text alone, but gives every place an embedding; those
  of padding differ, as each is at its own distance from the text.  DeepFloyd IF's networks were
  trained on all 77 (`IFPipeline.encode_prompt` of diffusers gives them no mask): without
  `mask_padding` the mask is true for all, and the cache stores all.

  The same arguments give the same function, so that there is one T5 in a process.  ValueError where
  one of them is not allowed, or the folder is not whole.
  """
  return _opened(source, tokens, width, dtype, cache, mask_padding)


@functools.cache
def _opened(source, tokens, width, dtype, cache, mask_padding) -> Encoder:
  if source == 'hashed':
    return hashed.encoder(tokens, width)
  if dtype not in DTYPES:
    raise UserError(f'Got dtype={dtype}; allowed are {", ".join(DTYPES)}.')
  if pathlib.Path(cache).is_file():
    raise UserError(f'cache={cache} is a file; it is a folder, which need not exist.')
  if not source:
    raise UserError('No source of texts is given; allowed are hashed and a folder of text.convert.')
  folder = pathlib.Path(source)
  model, files = open_t5(folder, dtype)
  if model.width != width:
    raise UserError(f'Got width={width}; the embeddings of {folder} have {model.width}.')
  tokenize = tokenizer.open_tokenizer(tokenizer.find(folder), tokens)
  embed = _when_asked(model, files)
  if cache:
    identity = _identity(folder, files, dtype)
    embed = cached(embed, pathlib.Path(cache), identity, width, dtype, padding=not mask_padding)

  def encode(texts: Sequence[str]):
    ids, mask = tokenize(texts)
    text = np.asarray(embed(ids, mask), np.float32)
    if mask_padding:
      return np.where(mask[..., None], text, np.float32(0)), mask
    return text, np.ones_like(mask)

  return encode


def open_t5(folder: pathlib.Path, dtype: str) -> tuple[T5Encoder, dict[str, weights.Stored]]:
  """The network in a folder that `text.convert` wrote, and its parameters by name, still unread.

  ValueError where the folder is not one, or not whole.
  """
  path = folder / 'config.json'
  if not path.is_file():
    raise UserError(f'source={folder} is neither hashed nor a folder that text.convert wrote.')
  try:
    model = T5Encoder(**json.loads(path.read_text('utf-8')), dtype=dtype)
    expected = shapes(model)
  except (TypeError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise UserError(f'{path} is not one that text.convert wrote: {reason}') from error
  files = weights.find(folder)
  found = {name: part.shape for name, part in files.items()}
  if wrong := sorted({name for name, _ in found.items() ^ expected.items()}):
    raise UserError(f'The weights in {folder} do not fit its config.json: {", ".join(wrong)}.')
  return model, files


def load(model: T5Encoder, files: dict[str, weights.Stored], devices: Sequence) -> Params:
  """The parameters, each spread over the devices along its longest axis that divides.

  Each device gets its part straight from the file.  They are in the dtype of products, but those of
  norms and of the distance are float32.
  """
  n = len(devices)
  mesh = jax.make_mesh((n,), ('devices',), axis_types=(AxisType.Auto,), devices=devices)

  def place(name, part):
    large = math.prod(part.shape) >= MIN_SHARDED
    axes = [i for i, s in enumerate(part.shape) if large and s % n == 0]
    # Of two that are as long the last: the answers are spread, and not the terms of their sums.
    axis = max(axes, key=lambda i: (part.shape[i], i), default=None)
    spec = P(*('devices' if i == axis else None for i in range(len(part.shape))))
    exact = name.endswith('/scale') or name.startswith('distance/')
    dtype = np.dtype('float32' if exact else model.dtype)
    read = lambda index: part.read(index).astype(dtype)
    return jax.make_array_from_callback(part.shape, NamedSharding(mesh, spec), read)

  return nest({name: place(name, part) for name, part in files.items()})


def embedder(model: T5Encoder, params: Params) -> Embed:
  """`embed(ids, mask)`, in the dtype of the model, of any number of texts."""
  apply = jax.jit(lambda params, ids, mask: model.apply({'params': params}, ids, mask))
  mesh = jax.tree.leaves(params)[0].sharding.mesh

  def embed(ids, mask):
    made = np.empty((*ids.shape, model.width), np.dtype(model.dtype))
    for i in range(0, len(ids), TEXTS):
      few = slice(i, i + TEXTS)
      # The last few are repeated to be as many as always.
      again = [np.resize(x[few], (TEXTS, x.shape[1])) for x in (ids, mask)]
      with jax.set_mesh(mesh):  # whoever asks may have set that of training
        made[few] = np.asarray(apply(params, *again))[: len(ids) - i]
    return made

  return embed


def _when_asked(model, files) -> Embed:
  """The embedder, which is made when it is first called; by one thread at a time."""
  lock = threading.Lock()
  made = functools.cache(lambda: embedder(model, load(model, files, jax.local_devices())))

  def embed(ids, mask):
    with lock:
      return made()(ids, mask)

  return embed


def _identity(folder, files, dtype) -> bytes:
  """What says that two encoders are the same, without reading all of their weights.

  Training changes every weight, so that a part of each file tells two models of a size apart.
  """
  of = hashlib.blake2b(dtype.encode())
  of.update((folder / 'config.json').read_bytes())
  for path in sorted({part.path for part in files.values()}):
    size = path.stat().st_size
    of.update(f'{path.name} {size}'.encode())
    with path.open('rb') as file:
      of.update(file.read(SAMPLE_BYTES))
      file.seek(max(0, size - SAMPLE_BYTES))
      of.update(file.read())
  return of.digest()
