"""Floating-point operations of a program, counted in its jaxpr, and how many a device can do.

Matrix products and convolutions alone count, two for each multiply and add, as in PaLM's model
flops (Chowdhery et al., 2022, App. B).  Loops are multiplied out.
"""

import math

from jax.extend.core import jaxprs_in_params

# Dense bfloat16 operations a second of one device, by the makers' data sheets; a name that begins
# with the key is meant, the longest first.
PEAK = {
  'TPU v4': 275e12,
  'TPU v5 lite': 197e12,
  'TPU v5e': 197e12,
  'TPU v5': 459e12,
  'TPU v6': 918e12,
  'TPU7x': 1153.5e12,  # a device is half a chip
  'NVIDIA A100': 312e12,
  'NVIDIA H100': 989e12,
  'NVIDIA H200': 989e12,
  'NVIDIA B200': 2250e12,
  'NVIDIA GB200': 2450e12,
}


def peak(device_kind: str) -> float | None:
  """Operations a second, or nothing for a kind which is not in the list."""
  kinds = [kind for kind in PEAK if device_kind.startswith(kind)]
  return PEAK[max(kinds, key=len)] if kinds else None


def count(jaxpr) -> float:
  """The operations of a jaxpr.  Of branches the costliest counts, of a `while` loop one turn."""
  return float(sum(_of(equation) for equation in jaxpr.eqns))


def _of(equation):
  params = equation.params
  match equation.primitive.name:
    case 'dot_general':
      (contracted, _), _ = params['dimension_numbers']
      sides = equation.invars[0].aval.shape
      return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(sides[i] for i in contracted)
    case 'conv_general_dilated':
      # The kernel's shape, but for its outputs, says what each of them is a sum of.
      kernel, outputs = equation.invars[1].aval.shape, params['dimension_numbers'].rhs_spec[0]
      # Zeros between the pixels, as in the gradient of a stride, are no work.
      inside = math.prod(kernel) / kernel[outputs] / math.prod(params['lhs_dilation'])
      return 2 * math.prod(equation.outvars[0].aval.shape) * inside
    case 'scan':
      return params['length'] * count(params['jaxpr'].jaxpr)
    case 'cond':
      return max(count(branch.jaxpr) for branch in params['branches'])
  return sum(count(inner) for inner in jaxprs_in_params(params))
