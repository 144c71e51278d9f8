"""Low-rank adapters (LoRA, Hu et al., 2022): a kernel W of a trained model becomes W + A B.

A and B are parameters beside the kernel, `.../adapter/down` and `.../adapter/up`.  The network does
not have them: they are merged into the kernels before it is applied.
"""

import jax
import jax.numpy as jnp
import numpy as np

from core.errors import UserError
from core.params import names, nest
from core.typing import Key, Params

ADAPTERS = (r'(.*/)?adapter/.*',)


def add_adapters(params: Params, rank: int, key: Key) -> Params:
  """The parameters and, for every kernel, an adapter of this rank.

  A has the shape `fan_in rank` and is drawn from a normal distribution of variance 1 / fan_in.  B
  has the shape `rank fan_out` and is zero, so that A B is.  UserError for a rank below 1.
  """
  if rank < 1:
    raise UserError(f'Got adapters of rank {rank}; allowed is 1 or more.')
  named = names(params)
  for i, name in enumerate(sorted(n for n in named if n.endswith('/kernel'))):
    *sides, fan_out = named[name].shape
    fan_in, adapter = int(np.prod(sides)), name.removesuffix('kernel') + 'adapter'
    down = jax.random.normal(jax.random.fold_in(key, i), (fan_in, rank)) * fan_in**-0.5
    named |= {f'{adapter}/down': down, f'{adapter}/up': jnp.zeros((rank, fan_out))}
  return nest(named)


def merge_adapters(params: Params) -> Params:
  """The parameters of the network: every adapter is added to its kernel and removed."""
  named = names(params)
  for down in [n for n in named if n.endswith('adapter/down')]:
    layer = down.removesuffix('adapter/down')
    product = named.pop(down) @ named.pop(f'{layer}adapter/up')
    kernel = named[f'{layer}kernel']
    named[f'{layer}kernel'] = kernel + product.reshape(kernel.shape)
  return nest(named)
