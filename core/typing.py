"""Array types.  Axes are always written with the same letters:

b batch   t frames   h height   w width   c channels   n tokens   d embedding
"""

import jax
import jaxtyping


class _Short(type):
  """Lets `Float['b t h w c']` stand for `jaxtyping.Float[jax.Array, 'b t h w c']`."""

  def __getitem__(cls, spec: str):
    return cls.kind[jax.Array, spec]


class Float(metaclass=_Short):
  """An array of floating-point numbers of the given axes."""

  kind = jaxtyping.Float


class Int(metaclass=_Short):
  """An array of integers of the given axes."""

  kind = jaxtyping.Int


class Bool(metaclass=_Short):
  """An array of truth values of the given axes."""

  kind = jaxtyping.Bool


Video = Float['b t h w c']
Frames = Float['bt h w c']
Time = Float['b']
Key = jax.Array
Keys = jax.Array  # b random keys, one for each video
Params = dict
