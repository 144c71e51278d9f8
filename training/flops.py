"""Floating-point operations of a program, counted in its jaxpr, and the peak rates of devices.

Only matrix products and convolutions count, two operations for each multiply and add, as in PaLM's
model flops (Chowdhery et al., 2022, App. B).  The body of a loop counts as often as it is run.
"""

import math

from jax.extend.core import jaxprs_in_params

# Dense bfloat16 operations per second of one device, from the manufacturers' data sheets.  The key
# is the beginning of the name of a device; the longest key that matches counts.
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
  """The peak operations per second, None for a kind of device that is not in the list."""
  kinds = [kind for kind in PEAK if device_kind.startswith(kind)]
  return PEAK[max(kinds, key=len)] if kinds else None


def count(jaxpr) -> float:
  """The operations of a jaxpr, with the costliest branch and one iteration of a `while` loop."""
  return float(sum(_operations(equation) for equation in jaxpr.eqns))


def _operations(equation):
  params = equation.params
  match equation.primitive.name:
    case 'dot_general':
      (contracted, _), _ = params['dimension_numbers']
      sides = equation.invars[0].aval.shape
      return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(sides[i] for i in contracted)
    case 'conv_general_dilated':
      # Every output is a sum over all axes of the kernel but that of its output channels.
      kernel, outputs = equation.invars[1].aval.shape, params['dimension_numbers'].rhs_spec[0]
      # Zeros between the pixels, as in the gradient of a strided convolution, do not count.
      terms = math.prod(kernel) / kernel[outputs] / math.prod(params['lhs_dilation'])
      return 2 * math.prod(equation.outvars[0].aval.shape) * terms
    case 'scan':
      return params['length'] * count(params['jaxpr'].jaxpr)
    case 'cond':
      return max(count(branch.jaxpr) for branch in params['branches'])
  return sum(count(inner) for inner in jaxprs_in_params(params))
