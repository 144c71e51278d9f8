"""Feature networks by name: I3D, C3D and CLIP with their weights, ready to be applied to clips."""

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
from evaluation.features.weights import Naming
from text.clip_tokenizer import TOKENS, open_tokenizer

TEXT_BATCH = 16  # texts embedded at once

Prepare = Callable[[UInt8[np.ndarray, 't h w 3']], Float[np.ndarray, 't s s 3']]
Extract = Callable[[Float[np.ndarray, 'b t s s 3']], Float[np.ndarray, 'b ...']]


@dataclasses.dataclass(frozen=True)
class FeatureNetwork:
  """A network with its weights: `extract(np.stack([prepare(clip) for clip in clips]))`.

  Its name and its weights suffice to compute the same features again.
  """

  name: str
  weights: str  # the SHA-256 of the file, or random:SEED
  prepared: str  # how `prepare` resizes and crops, in words
  prepare: Prepare  # the frames of one clip, as the network takes them
  extract: Extract  # float32 features of any number of prepared clips


@dataclasses.dataclass(frozen=True)
class ClipNetwork:
  """A CLIP with its weights, which embeds frames near to the texts that describe them."""

  frames: FeatureNetwork  # extracts a unit vector for each frame: b t d
  embed_texts: Callable[[Sequence[str]], Float[np.ndarray, 'n d']]  # unit vectors


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
  """A network without weights."""

  model: nn.Module
  examples: tuple[jax.ShapeDtypeStruct, ...]  # the shapes of its inputs
  namings: tuple[Naming, ...]
  prepared: str
  prepare: Prepare
  apply: Callable[[nn.Module, Params, jax.Array], jax.Array]


def _logits(model, params, clips):
  return model.apply({'params': params}, clips)


def _embed_frames(model, params, clips):
  frames = rearrange(clips, 'b t h w c -> (b t) h w c')
  embeddings = _normalize(model.apply({'params': params}, frames, method='embed_images'))
  return rearrange(embeddings, '(b t) d -> b t d', b=len(clips))


def _embed_texts(model, params, tokens):
  return _normalize(model.apply({'params': params}, tokens, method='embed_texts'))


def _normalize(x):
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


_example = jax.ShapeDtypeStruct
_CLIP = (
  (_example((1, 224, 224, 3), jnp.float32), _example((1, TOKENS), jnp.int32)),
  published.CLIP,
  clip.PREPARED,
  clip.preprocess,
  _embed_frames,
)
NETWORKS = {
  'c3d': NetworkSpec(
    c3d.C3D(),
    (_example((1, 16, 112, 112, 3), jnp.float32),),
    published.C3D,
    c3d.PREPARED,
    c3d.preprocess,
    _logits,
  ),
  'clip_b32': NetworkSpec(clip.B32, *_CLIP),
  'clip_l14': NetworkSpec(clip.L14, *_CLIP),
  'i3d': NetworkSpec(
    i3d.I3D(),
    (_example((1, 16, 224, 224, 3), jnp.float32),),
    published.I3D,
    i3d.PREPARED,
    i3d.preprocess,
    _logits,
  ),
}


def open_features(network: str, source: str, batch: int) -> FeatureNetwork:
  """The network with the weights of `source`, applied to `batch` clips at once.

  network: one of `NETWORKS`.  The features of I3D and C3D are logits, `b k`; those of CLIP are a
    unit vector for each frame, `b t d`.
  source: a file or folder of published weights, or `random:SEED`; see `weights.load`.

  UserError where the network is unknown, the batch is below 1, or the weights do not fit.
  """
  spec, params, identity = _load(network, source, tuple(NETWORKS))
  return _feature_network(network, spec, params, identity, batch)


def open_clip(network: str, source: str, vocabulary: str, batch: int) -> ClipNetwork:
  """Both towers of a CLIP; that of images is applied to `batch` clips at once.

  network: `clip_b32` or `clip_l14`.
  vocabulary: the file or folder of the tokenizer; see `clip_tokenizer.open_tokenizer`.

  Errors are those of `open_features` and of the tokenizer.
  """
  tokenize = open_tokenizer(pathlib.Path(vocabulary))
  allowed = tuple(name for name in NETWORKS if name.startswith('clip_'))
  spec, params, identity = _load(network, source, allowed)
  embed = batched(functools.partial(_embed_texts, spec.model), params, TEXT_BATCH)
  frames = _feature_network(network, spec, params, identity, batch)
  return ClipNetwork(frames, lambda texts: embed(tokenize(texts)))


def _load(network, source, allowed) -> tuple[NetworkSpec, Params, str]:
  if network not in allowed:
    raise UserError(f'Got the network {network!r}; allowed are {", ".join(sorted(allowed))}.')
  spec = NETWORKS[network]
  shapes = parameter_shapes(spec.model, *spec.examples)
  return spec, *weights.load(shapes, spec.namings, source)


def _feature_network(name, spec: NetworkSpec, params, identity: str, batch) -> FeatureNetwork:
  extract = batched(functools.partial(spec.apply, spec.model), params, batch)
  return FeatureNetwork(name, identity, spec.prepared, spec.prepare, extract)


def parameter_shapes(
  model: nn.Module, *inputs: jax.ShapeDtypeStruct | jax.Array
) -> dict[str, tuple[int, ...]]:
  """The shapes of a network's parameters, by name."""
  params = jax.eval_shape(model.init, jax.random.key(0), *inputs)['params']
  return {name: p.shape for name, p in names(params).items()}


def batched(apply: Callable[[Params, jax.Array], jax.Array], params: Params, batch: int) -> Extract:
  """`apply` to any number of rows, `batch` at once, on all devices of this process.

  The last batch is filled up with copies, so that one compilation is enough.  Products are float32
  on every device, where the default may be less precise.  UserError where an output is not finite.
  """
  if batch < 1:
    raise UserError(f'Got a batch of {batch}; allowed is 1 or more.')
  devices = jax.local_devices()[:batch]
  rows = -(-batch // len(devices)) * len(devices)
  # jax.make_mesh needs a topology, which some of the chips of a host, as 3 of 4, do not have.
  mesh = jax.sharding.Mesh(np.array(devices), ('data',), axis_types=(AxisType.Auto,))
  replicated, by_row = NamedSharding(mesh, P()), NamedSharding(mesh, P('data'))
  params = jax.device_put(params, replicated)

  @jax.jit
  def run(params, inputs):
    with jax.default_matmul_precision('highest'):
      return apply(params, inputs)

  def apply_all(inputs):
    outputs = []
    for i in range(0, len(inputs), rows):
      part = inputs[i : i + rows]
      full = np.concatenate([part, *[part[-1:]] * (rows - len(part))])
      with jax.set_mesh(mesh):  # the caller may have set the mesh of a training
        outputs.append(np.asarray(run(params, jax.device_put(full, by_row)))[: len(part)])
    if not outputs:
      raise UserError('Got no clip and no text; allowed is 1 or more.')
    outputs = np.concatenate(outputs)
    if not np.isfinite(outputs).all():
      raise UserError('An output of the network is not finite; its weights may be damaged.')
    return outputs

  return apply_all
