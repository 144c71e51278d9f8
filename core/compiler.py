"""The options with which XLA compiles the programs of training and sampling.

An option is passed to the compilation of a program.  So it is in force wherever the program is
compiled, for devices that are there or in a forecast, and `XLA_FLAGS` and `LIBTPU_INIT_ARGS` remain
the user's.
"""

from collections.abc import Mapping

import jax

# By the kind of device, as JAX calls it.
OPTIONS: Mapping[str, Mapping[str, int | bool]] = {
  # The scratch memory of a fusion.  16 MiB, the default of v5p, allow the gradient of a wide
  # kernel only small tiles: see docs/performance.md.
  'TPU v5': {'xla_tpu_scoped_vmem_limit_kib': 64 * 1024},
  # The value that axlearn and Marin have for Trillium.
  'TPU v6 lite': {'xla_tpu_scoped_vmem_limit_kib': 96 * 1024},
}
# Collectives run beside computations.
GPU = {'xla_gpu_enable_latency_hiding_scheduler': True}


def options(mesh: jax.sharding.Mesh) -> dict[str, int | bool] | None:
  """The `compiler_options` of `jax.stages.Lowered.compile` for the devices of the mesh; None for
  devices that need none."""
  device = mesh.devices.flat[0]
  chosen = GPU if device.platform == 'gpu' else OPTIONS.get(device.device_kind)
  return dict(chosen) if chosen else None
