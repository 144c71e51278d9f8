"""Low-rank adapters (LoRA, Hu et al., 2022): a kernel W of a trained model becomes W + A B.

They are parameters beside the kernels, `.../adapter/down` and `.../adapter/up`.  The network does
not know them: it is given the sums.
"""

import jax
import jax.numpy as jnp
import numpy as np

from core.errors import UserError
from core.params import names, nest
from core.typing import Key, Params

ADAPTERS = (r'(.*/)?adapter/.*',)


def adapted(params: Params, rank: int, key: Key) -> Params:
  """The parameters, with an adapter of this rank for every kernel, which is zero at birth.

  A is `fan_in rank`, normal with a variance of 1 / fan_in; B is `rank fan_out`, zero.  ValueError
  for a rank below 1.
  """
  if rank < 1:
    raise UserError(f'Got adapters of rank {rank}; allowed is 1 or more.')
  named = names(params)
  for i, name in enumerate(sorted(n for n in named if n.endswith('/kernel'))):
    *sides, fan_out = named[name].shape
    fan_in, at = int(np.prod(sides)), name.removesuffix('kernel') + 'adapter'
    down = jax.random.normal(jax.random.fold_in(key, i), (fan_in, rank)) * fan_in**-0.5
    named |= {f'{at}/down': down, f'{at}/up': jnp.zeros((rank, fan_out))}
  return nest(named)


def merged(params: Params) -> Params:
  """The parameters of a network: adapters are added to their kernels, and gone."""
  named = names(params)
  for down in [n for n in named if n.endswith('adapter/down')]:
    at = down.removesuffix('adapter/down')
    added = named.pop(down) @ named.pop(f'{at}adapter/up')
    kernel = named[f'{at}kernel']
    named[f'{at}kernel'] = kernel + added.reshape(kernel.shape)
  return nest(named)
