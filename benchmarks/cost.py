r"""Measures how the cost of a clip grows with its frames, its size and the devices that share it.

  python -m benchmarks.cost

It runs on a CPU that emulates several devices.  Floating-point operations are those that XLA counts
in the program of one device, including halos.  Seconds are the median of several runs on one
device.  The model has four levels, of which three halve the frames and the pixels.
"""

import statistics
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from core import command
from core.condition import Condition
from core.sharding import BATCH, CLIP, make_mesh, replicated
from stunet.unet import STUNet

_DEVICES = flags.DEFINE_list(
  'devices', ['1', '2', '5', '8', '10'], 'Numbers of devices that share a clip.'
)
_FRAMES = flags.DEFINE_list('frames', ['16', '40', '80', '160'], 'Numbers of frames of a clip.')
_SIZES = flags.DEFINE_list('sizes', ['16', '32', '64'], 'Sides of a frame in pixels.')
_REPEATS = flags.DEFINE_integer(
  'repeats', 5, 'Number of timed runs of each program.', lower_bound=1
)

MODEL = {
  'channels': (16, 32, 32, 64),
  'down_units': (1, 1, 1, 1),
  'up_units': (1, 1, 1, 1),
  'attention': ('none', 'none', 'joint', 'joint'),
  'temporal_strides': (1, 2, 2, 2),
  'temporal_attentions': (0, 0, 0, 1),
  'groups': 8,
  'head_features': 16,
  'pool_heads': 2,
}


def programs(frames: int, size: int, devices: int, **model):
  """The lowered programs of the network and of its gradient for `devices` devices; their inputs.

  model: changes to `MODEL`.
  """
  model, t = STUNet(**MODEL | model), jnp.full(1, 0.5)
  cond = Condition(jnp.ones((1, 4, 16)), jnp.ones((1, 4), bool))
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, frames, size, size, 3)), jnp.float32)
  one = jax.ShapeDtypeStruct(x[:, :8].shape, x.dtype)
  shapes = jax.eval_shape(model.init, jax.random.key(0), one, t, cond)
  rng = np.random.default_rng(1)
  draw = lambda p: jnp.asarray(rng.normal(size=p.shape) * max(p.size, 9) ** -0.25, p.dtype)
  params = jax.tree.map(draw, shapes)  # not the initial ones, which have zeros
  mesh = make_mesh(((CLIP, devices),), jax.devices()[:devices])
  x = jax.device_put(x, NamedSharding(mesh, P(BATCH, CLIP if frames % devices == 0 else None)))
  inputs = jax.device_put(params, replicated(mesh)), x
  output = lambda params, x: model.apply(params, x, t, cond)
  loss = lambda params, x: jnp.mean(output(params, x) ** 2)
  with jax.set_mesh(mesh):
    return [jax.jit(f).lower(*inputs) for f in (output, jax.grad(loss))], inputs


def seconds(program, inputs: Sequence, repeats: int) -> float:
  """The median seconds of `repeats` runs, after a warm-up run."""
  jax.block_until_ready(program(*inputs))
  times = []
  for _ in range(repeats):
    begin = time.perf_counter()
    jax.block_until_ready(program(*inputs))
    times.append(time.perf_counter() - begin)
  return statistics.median(times)


def main() -> None:
  frames, sizes, counts = ([int(n) for n in f.value] for f in (_FRAMES, _SIZES, _DEVICES))
  jax.config.update('jax_num_cpu_devices', max(counts))
  row = lambda *cells: print(f'| {" | ".join(map(str, cells))} |', flush=True)
  count = lambda program: program.cost_analysis()['flops']

  row('frames', 'pixels', 'Gflops', 'Gflops of the gradient', 's', 's of the gradient')
  for t, size in [(t, sizes[0]) for t in frames] + [(frames[0], size) for size in sizes[1:]]:
    lowered, inputs = programs(t, size, devices=1)
    compiled = [program.compile() for program in lowered]
    flops = [f'{count(program) / 1e9:.2f}' for program in compiled]
    row(t, size, *flops, *(f'{seconds(p, inputs, _REPEATS.value):.3f}' for p in compiled))

  row('devices', 'share of the operations, x devices', 'of the gradient', 'relative error')
  for n in counts:
    lowered, inputs = programs(80, sizes[-1], n)
    compiled = [program.compile() for program in lowered]
    flops, video = [count(program) for program in compiled], np.asarray(compiled[0](*inputs))
    if n == counts[0]:
      alone, want = flops, video
    error = np.linalg.norm(video - want) / np.linalg.norm(want)
    row(n, *(f'{f * n / one:.3f}' for f, one in zip(flops, alone)), f'{error:.1e}')


if __name__ == '__main__':
  command.run(main)
