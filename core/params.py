"""Operations on parameter trees, which are nested dicts, by the names of parameters."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from core.errors import UserError
from core.typing import Params

TEACHER = 'teacher'  # the tree of a teacher's parameters, which training alone has


def names(params: Params) -> dict[str, Any]:
  """The parameters by full name, as `{'down0_unit0/spatial/conv1/kernel': array, ...}`."""
  return flatten_dict(params, sep='/')


def nest(named: dict[str, Any]) -> Params:
  """The nested tree of parameters by full name, the inverse of `names`."""
  return unflatten_dict(named, sep='/')


def matches(name: str, patterns: Sequence[str]) -> bool:
  """Whether one of the regular expressions matches the whole name."""
  return any(re.fullmatch(p, name) for p in patterns)


def count(params: Params) -> int:
  """The number of scalars in the tree."""
  return sum(p.size for p in jax.tree.leaves(params))


def partition(params: Params, patterns: Sequence[str]) -> tuple[Params, Params]:
  """(selected, rest): the parameters whose names match a pattern, and the others.

  ValueError for a pattern that matches no name.
  """
  named = names(params)
  if unused := [p for p in patterns if not any(re.fullmatch(p, n) for n in named)]:
    raise UserError(f'Patterns match no parameter: {unused}.\n{_list("Parameters", named)}')
  selected = {n: v for n, v in named.items() if matches(n, patterns)}
  rest = {n: v for n, v in named.items() if n not in selected}
  return nest(selected), nest(rest)


def merge(*parts: Params) -> Params:
  """The union of the trees, the inverse of `partition`.  ValueError if two have the same name."""
  named = {}
  for part in map(names, parts):
    if twice := named.keys() & part.keys():
      raise UserError(_list('Parameters present in two parts', twice))
    named |= part
  return nest(named)


def without_teacher(params: Params) -> Params:
  """The parameters of the model itself."""
  return {name: p for name, p in params.items() if name != TEACHER}


def cast_kernels(params: Params, dtype: str) -> Params:
  """The parameters with every kernel cast to `dtype`, in which the network computes.

  The network casts kernels before each use, so its outputs are the same to the last bit.  Frozen
  parameters can be kept cast, at half the memory where `dtype` is bfloat16.
  """
  named = names(params)
  cast = lambda name, p: p.astype(dtype) if name.endswith('/kernel') else p
  return nest({name: cast(name, p) for name, p in named.items()})


def transplant(source: Params, target: Params, new: Sequence[str]) -> Params:
  """`target` with every parameter replaced by that of `source`, except those that match `new`.

  ValueError, with a list of names, if the two differ in other names or in shapes.
  """
  src, dst = names(source), names(target)
  fresh = {n for n in dst if matches(n, new)}
  _require_same({n: v for n, v in dst.items() if n not in fresh}, src)
  return nest({n: dst[n] if n in fresh else src[n] for n in dst})


def blend(a: Params, b: Params, weight: float, only: Sequence[str] = ('.*',)) -> Params:
  """`a` interpolated to `b` where a name matches `only`: weight 0 gives a, weight 1 gives b.

  ValueError, with a list of names, if the two differ in names or shapes.
  """
  src, dst = names(a), names(b)
  _require_same(src, dst)
  # Not v + weight * (dst[n] - v), which at weight 1 may differ from dst[n] in the last bit.
  interpolated = lambda n: weight * dst[n] + (1 - weight) * src[n]
  return nest({n: interpolated(n) if matches(n, only) else v for n, v in src.items()})


def _require_same(target: dict, source: dict) -> None:
  missing, extra = target.keys() - source.keys(), source.keys() - target.keys()
  wrong = {n for n in target.keys() & source.keys() if source[n].shape != target[n].shape}
  if missing or extra or wrong:
    shapes = [f'{n}: {source[n].shape} -> {target[n].shape}' for n in wrong]
    raise UserError(
      '\n'.join(
        [
          'The source does not fit the target.',
          _list('In the target only, and not declared new', missing),
          _list('In the source only', extra),
          _list('Different shapes', shapes),
        ]
      )
    )


def _list(title: str, items: Iterable[str]) -> str:
  items = sorted(items)
  return f'{title}: none' if not items else f'{title}:\n' + '\n'.join(f'  {i}' for i in items)
