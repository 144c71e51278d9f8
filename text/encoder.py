"""Text encoders, opened by the name that a config gives: `hashed`, or a folder of a T5 or CLIP."""

import functools
import hashlib
import math
import pathlib
import threading
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Shaped

from core import weights
from core.errors import UserError
from core.files import read_object
from core.params import nest
from core.typing import Params
from text import clip, clip_tokenizer, hashed, tokenizer
from text.cache import Embed, cached
from text.clip import CLIPText
from text.hashed import Encoder
from text.t5 import T5Encoder, shapes

DTYPES = ('bfloat16', 'float32')
STORED_DTYPES = ('bfloat16', 'float16', 'float32')
MIN_SHARDED = 2**16  # parameters with fewer numbers are replicated
PADDING = 'padding'  # the key of a CLIP's config.json that a T5's has not
SAMPLE_BYTES = 2**20  # from the beginning and the end of a file, which identify it

Network = T5Encoder | CLIPText


def open_encoder(
  *,
  tokens: int,
  width: int,
  source: str = 'hashed',
  dtype: str = 'float32',
  cache: str = '',
  mask_padding: bool = False,
  stored_dtype: str = '',
) -> Encoder:
  """Returns `encode(texts) -> (text, mask)`: `b n d` embeddings in float32, and a mask (`b n`).

  tokens, width: n and d.
  source: `hashed`, or the folder of a T5 or a CLIP that `text.convert` wrote.
  dtype: the dtype of matrix products in the network, and of the cache.
  cache: a folder that caches the network's embeddings and may be shared; no cache if empty.
  mask_padding: whether the mask is true only for the text's own tokens, and the embeddings of
    padding are zero.  `hashed` always does so.
  stored_dtype: the dtype to which embeddings are rounded, so that they have the same bits as
    embeddings that `text.embed` stored in it; `dtype` if empty.

  A network is loaded, sharded over the devices of this process, when a text that is not in the
  cache is first encoded.  T5 attends only to the text's own tokens, but also returns embeddings of
  padding; these differ from each other because of the relative position bias.  DeepFloyd IF's
  networks were trained to attend to all 77 tokens (`IFPipeline.encode_prompt` of diffusers passes
  no mask), and so were those of Stable Diffusion.  So without `mask_padding` the mask is true for
  all tokens, and all are cached.  A CLIP is causal, and its embeddings are the states after its
  last norm: those of padding have attended to the text.

  The same arguments give the same function, so that a process has each network only once.

  ValueError if an argument is not allowed, or the folder is incomplete.
  """
  return _opened(source, tokens, width, dtype, cache, mask_padding, stored_dtype or dtype)


@functools.cache
def _opened(source, tokens, width, dtype, cache, mask_padding, stored_dtype) -> Encoder:
  if source == 'hashed':
    return hashed.encoder(tokens, width)
  if dtype not in DTYPES:
    raise UserError(f'Got dtype={dtype}; allowed are {", ".join(DTYPES)}.')
  if stored_dtype not in STORED_DTYPES:
    raise UserError(f'Got stored_dtype={stored_dtype}; allowed are {", ".join(STORED_DTYPES)}.')
  if pathlib.Path(cache).is_file():
    raise UserError(f'Got cache={cache}, which is a file; allowed is a folder, which may be new.')
  if not source:
    raise UserError(
      'text.source is empty; allowed are hashed and a folder that text.convert wrote.'
    )
  folder = pathlib.Path(source)
  model, files = open_network(folder, dtype)
  if model.width != width:
    raise UserError(f'Got width={width}; the embeddings of {folder} have {model.width}.')
  tokenize = open_tokenizer(folder, tokens)
  embed = _lazy_embedder(model, files)
  if cache:
    identity = fingerprint(folder, files, dtype)
    embed = cached(embed, pathlib.Path(cache), identity, width, dtype, padding=not mask_padding)

  def encode(texts: Sequence[str]):
    ids, mask = tokenize(texts)
    text = _rounded(embed(ids, mask), stored_dtype)
    if mask_padding:
      return np.where(mask[..., None], text, np.float32(0)), mask
    return text, np.ones_like(mask)

  return encode


def open_network(folder: pathlib.Path, dtype: str) -> tuple[Network, dict[str, weights.Stored]]:
  """The network in a folder that `text.convert` wrote, and its tensors by name, not read yet.

  ValueError if `text.convert` did not write the folder, or it is incomplete.
  """
  path = folder / 'config.json'
  if not path.is_file():
    raise UserError(f'source={folder} is neither hashed nor a folder that text.convert wrote.')
  try:
    sizes, padding = read_object(path), padding_token(folder)
    if padding is None:
      model = T5Encoder(**sizes, dtype=dtype)
      expected = shapes(model)
    else:
      model = CLIPText(**{size: sizes[size] for size in sizes if size != PADDING}, dtype=dtype)
      expected = clip.shapes(model)
  except (TypeError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise UserError(f'{path} was not written by text.convert: {reason}') from error
  files = weights.find(folder)
  actual = {name: tensor.shape for name, tensor in files.items()}
  if wrong := sorted({name for name, _ in actual.items() ^ expected.items()}):
    raise UserError(f'The weights in {folder} do not fit its config.json: {", ".join(wrong)}.')
  return model, files


def padding_token(folder: pathlib.Path) -> int | None:
  """The token that fills the rows of a CLIP, in a folder that `text.convert` wrote; None of T5."""
  return read_object(folder / 'config.json').get(PADDING)


def tokenizer_file(folder: pathlib.Path) -> pathlib.Path:
  """The file of the tokenizer in a folder that `text.convert` wrote."""
  is_t5 = padding_token(folder) is None
  return tokenizer.find(folder) if is_t5 else clip_tokenizer.find(folder)


def open_tokenizer(folder: pathlib.Path, tokens: int) -> tokenizer.Tokenizer:
  """Returns `tokenize(texts) -> (ids, mask)` of a T5 or a CLIP, where the mask is true at a text's
  own tokens, its end included."""
  padding = padding_token(folder)
  if padding is None:
    return tokenizer.open_tokenizer(tokenizer.find(folder), tokens)
  tokenize = clip_tokenizer.open_tokenizer(folder, tokens, padding)

  def with_mask(texts: Sequence[str]):
    ids = tokenize(texts)
    ends = (ids == clip_tokenizer.END).astype(np.int32)
    return ids, np.cumsum(ends, 1) - ends == 0  # no end is before it

  return with_mask


def load(model: Network, files: dict[str, weights.Stored], devices: Sequence) -> Params:
  """The parameters, each sharded over the devices along its longest axis that divides evenly.

  Each device's shard is read straight from the file.  The dtype is that of the model, except for
  norms and the position bias, which are float32.
  """
  n = len(devices)
  mesh = jax.make_mesh((n,), ('devices',), axis_types=(AxisType.Auto,), devices=devices)

  def load_sharded(name, tensor):
    large = math.prod(tensor.shape) >= MIN_SHARDED
    axes = [i for i, s in enumerate(tensor.shape) if large and s % n == 0]
    # Of two axes of the same length the last: outputs are sharded then, and no sum is split.
    axis = max(axes, key=lambda i: (tensor.shape[i], i), default=None)
    spec = P(*('devices' if i == axis else None for i in range(len(tensor.shape))))
    float32 = '/norm' in f'/{name}' or name.startswith(('distance/', 'position/'))
    dtype = np.dtype('float32' if float32 else model.dtype)
    read = lambda index: tensor.read(index).astype(dtype)
    return jax.make_array_from_callback(tensor.shape, NamedSharding(mesh, spec), read)

  return nest({name: load_sharded(name, tensor) for name, tensor in files.items()})


def embedder(model: Network, params: Params) -> Embed:
  """Returns `embed(ids, mask)` for any number of texts, in the dtype of the model.

  Each text is embedded alone.  In a batch, the last bits of an embedding can depend on how many
  texts there are and on the place of the text among them, because products of other shapes are
  summed in other orders.
  """
  # A CLIP attends to all tokens before, and padding is behind those of the text.
  with_mask = isinstance(model, T5Encoder)
  apply = jax.jit(
    lambda params, ids, mask: model.apply({'params': params}, ids, *[mask] * with_mask)
  )
  mesh = jax.tree.leaves(params)[0].sharding.mesh

  def embed(ids, mask):
    text = np.empty((*ids.shape, model.width), np.dtype(model.dtype))
    with jax.set_mesh(mesh):  # the caller may have set the mesh of training
      for i in range(len(ids)):
        text[i] = np.asarray(apply(params, ids[i : i + 1], mask[i : i + 1]))[0]
    return text

  return embed


def _lazy_embedder(model, files) -> Embed:
  """An embedder that loads its parameters at the first call, and is safe to call from threads."""
  lock = threading.Lock()
  opened = functools.cache(lambda: embedder(model, load(model, files, jax.local_devices())))

  def embed(ids, mask):
    with lock:
      return opened()(ids, mask)

  return embed


def _rounded(text: Shaped[np.ndarray, 'b n d'], dtype: str) -> Float[np.ndarray, 'b n d']:
  """Embeddings in float32, rounded to this dtype; UserError if it cannot represent them."""
  with np.errstate(over='ignore'):
    rounded = text.astype(np.dtype(dtype)).astype(np.float32)
  if dtype == 'float16' and not np.isfinite(rounded).all():
    raise UserError(
      'An embedding is larger than the largest number of float16; allowed as stored_dtype are '
      'bfloat16 and float32.'
    )
  return rounded


def fingerprint(folder: pathlib.Path, files: dict[str, weights.Stored], dtype: str) -> bytes:
  """A digest of a network and its `dtype`, computed without reading all of its weights.

  files: its tensors, as `open_network` returns them.

  Training changes every weight, so two models of one size differ in any part of their files.
  """
  digest = hashlib.blake2b(dtype.encode())
  digest.update((folder / 'config.json').read_bytes())
  for path in sorted({tensor.path for tensor in files.values()}):
    size = path.stat().st_size
    digest.update(f'{path.name} {size}'.encode())
    with path.open('rb') as file:
      digest.update(file.read(SAMPLE_BYTES))
      file.seek(max(0, size - SAMPLE_BYTES))
      digest.update(file.read())
  return digest.digest()
