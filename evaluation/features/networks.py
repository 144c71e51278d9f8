"""Networks that see what is in a clip, opened by name: those by which videos are compared."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, UInt8

from core.errors import UserError
from core.params import names
from core.typing import Params
from evaluation.features import c3d, clip, i3d, published, weights
from evaluation.features.clip_tokenizer import TOKENS, open_tokenizer
from evaluation.features.weights import Naming

TEXTS = 16  # embedded at once

Prepare = Callable[[UInt8[np.ndarray, 't h w 3']], Float[np.ndarray, 't s s 3']]
See = Callable[[Float[np.ndarray, 'b t s s 3']], Float[np.ndarray, 'b ...']]


@dataclasses.dataclass(frozen=True)
class Features:
  """An open network: `see(np.stack([prepare(clip) for clip in clips]))`.

  All that is needed to see the same again is its name and its weights.
  """

  name: str
  weights: str  # the SHA-256 of the file, or random:SEED
  prepared: str  # how `prepare` resizes and crops, in words
  prepare: Prepare  # the frames of one clip, as the network takes them
  see: See  # of any number of prepared clips, float32


@dataclasses.dataclass(frozen=True)
class Clip:
  """An open CLIP: what it sees in frames is near to texts that say it."""

  frames: Features  # of prepared clips, a unit vector for each frame: b t d
  texts: Callable[[Sequence[str]], Float[np.ndarray, 'n d']]  # unit vectors


@dataclasses.dataclass(frozen=True)
class Network:
  """What is known of a network before its weights."""

  model: nn.Module
  examples: tuple[jax.ShapeDtypeStruct, ...]  # of what it takes
  namings: tuple[Naming, ...]
  prepared: str
  prepare: Prepare
  apply: Callable[[nn.Module, Params, jax.Array], jax.Array]


def _logits(model, params, clips):
  return model.apply({'params': params}, clips)


def _of_frames(model, params, clips):
  frames = rearrange(clips, 'b t h w c -> (b t) h w c')
  found = _unit(model.apply({'params': params}, frames, method='of_images'))
  return rearrange(found, '(b t) d -> b t d', b=len(clips))


def _of_texts(model, params, tokens):
  return _unit(model.apply({'params': params}, tokens, method='of_texts'))


def _unit(x):
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


_example = jax.ShapeDtypeStruct
_CLIP = (
  (_example((1, 224, 224, 3), jnp.float32), _example((1, TOKENS), jnp.int32)),
  published.CLIP,
  clip.PREPARED,
  clip.preprocess,
  _of_frames,
)
NETWORKS = {
  'c3d': Network(
    c3d.C3D(),
    (_example((1, 16, 112, 112, 3), jnp.float32),),
    published.C3D,
    c3d.PREPARED,
    c3d.preprocess,
    _logits,
  ),
  'clip_b32': Network(clip.B32, *_CLIP),
  'clip_l14': Network(clip.L14, *_CLIP),
  'i3d': Network(
    i3d.I3D(),
    (_example((1, 16, 224, 224, 3), jnp.float32),),
    published.I3D,
    i3d.PREPARED,
    i3d.preprocess,
    _logits,
  ),
}


def open_features(network: str, source: str, batch: int) -> Features:
  """The network, with the weights of `source`, which sees `batch` clips at once.

  network: one of `NETWORKS`.  What I3D and C3D see is logits, `b k`; CLIP a unit vector for each
    frame, `b t d`.
  source: a file or folder of published weights, or `random:SEED`; see `weights.load`.

  ValueError where the network is none of these, the batch is below 1, or the weights do not fit.
  """
  of, params, told = _opened(network, source, tuple(NETWORKS))
  return _features(network, of, params, told, batch)


def open_clip(network: str, source: str, vocabulary: str, batch: int) -> Clip:
  """Both towers of a CLIP, the first of which sees `batch` clips at once.

  network: `clip_b32` or `clip_l14`.
  vocabulary: the file or folder of the tokenizer; see `clip_tokenizer.open_tokenizer`.

  Errors as above, and those of the tokenizer.
  """
  tokenize = open_tokenizer(pathlib.Path(vocabulary))
  allowed = tuple(name for name in NETWORKS if name.startswith('clip_'))
  of, params, told = _opened(network, source, allowed)
  see = batched(functools.partial(_of_texts, of.model), params, TEXTS)
  texts = lambda texts: see(tokenize(texts))
  frames = _features(network, of, params, told, batch)
  return Clip(frames, texts)


def _opened(network, source, allowed) -> tuple[Network, Params, str]:
  if network not in allowed:
    raise UserError(f'Got the network {network!r}; allowed are {", ".join(sorted(allowed))}.')
  of = NETWORKS[network]
  return of, *weights.load(parameter_shapes(of.model, *of.examples), of.namings, source)


def _features(name, of, params, told, batch) -> Features:
  see = batched(functools.partial(of.apply, of.model), params, batch)
  return Features(name, told, of.prepared, of.prepare, see)


def parameter_shapes(
  model: nn.Module, *inputs: jax.ShapeDtypeStruct | jax.Array
) -> dict[str, tuple[int, ...]]:
  """The shapes of a network's parameters, by name."""
  made = jax.eval_shape(model.init, jax.random.key(0), *inputs)['params']
  return {name: p.shape for name, p in names(made).items()}


def batched(apply: Callable[[Params, jax.Array], jax.Array], params: Params, batch: int) -> See:
  """`apply` of any number of rows, `batch` at once, on all devices of this process.

  The last are filled up with copies, so that one compilation does.  Products are float32 on every
  device: others take fewer bits where they may.  ValueError of what is no finite number.
  """
  if batch < 1:
    raise UserError(f'Got a batch of {batch}; allowed is 1 or more.')
  devices = jax.local_devices()[:batch]
  rows = -(-batch // len(devices)) * len(devices)
  # Some of the chips of a host, as 3 of 4, have no topology of which jax.make_mesh makes a mesh.
  mesh = jax.sharding.Mesh(np.array(devices), ('data',), axis_types=(AxisType.Auto,))
  everywhere, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P('data'))
  params = jax.device_put(params, everywhere)

  @jax.jit
  def run(params, some):
    with jax.default_matmul_precision('highest'):
      return apply(params, some)

  def see(clips):
    made = []
    for i in range(0, len(clips), rows):
      some = clips[i : i + rows]
      full = np.concatenate([some, *[some[-1:]] * (rows - len(some))])
      with jax.set_mesh(mesh):  # whoever asks may have set that of training
        made.append(np.asarray(run(params, jax.device_put(full, spread)))[: len(some)])
    if not made:
      raise UserError('Got nothing to see; at least 1 clip or text is.')
    found = np.concatenate(made)
    if not np.isfinite(found).all():
      raise UserError('The network sees what is no finite number; its weights may be damaged.')
    return found

  return see
