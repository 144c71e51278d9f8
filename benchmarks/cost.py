r"""What a clip costs, against its frames, its size, and the devices that share it.

  python -m benchmarks.cost

On a CPU that passes for as many devices as are asked of it.  Floating-point operations are what XLA
counts in the program of one device, halos and all; seconds, of one device alone, are the median of
some runs.  The model has four levels, three of which halve the frames with the pixels.
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

_DEVICES = flags.DEFINE_list('devices', ['1', '2', '5', '8', '10'], 'How many share a clip.')
_FRAMES = flags.DEFINE_list('frames', ['16', '40', '80', '160'], 'Of a clip.')
_SIZES = flags.DEFINE_list('sizes', ['16', '32', '64'], 'Pixels of a side.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'How often each is timed.', lower_bound=1)

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
  """Of the answer to a clip and of its gradient, to be compiled for so many devices; their inputs.

  model: what is other than in `MODEL`.
  """
  model, t = STUNet(**MODEL | model), jnp.full(1, 0.5)
  cond = Condition(jnp.ones((1, 4, 16)), jnp.ones((1, 4), bool))
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, frames, size, size, 3)), jnp.float32)
  one = jax.ShapeDtypeStruct(x[:, :8].shape, x.dtype)
  shapes = jax.eval_shape(model.init, jax.random.key(0), one, t, cond)
  rng = np.random.default_rng(1)
  draw = lambda p: jnp.asarray(rng.normal(size=p.shape) * max(p.size, 9) ** -0.25, p.dtype)
  params = jax.tree.map(draw, shapes)  # none of which is zero, as new ones are
  mesh = make_mesh(((CLIP, devices),), jax.devices()[:devices])
  x = jax.device_put(x, NamedSharding(mesh, P(BATCH, CLIP if frames % devices == 0 else None)))
  inputs = jax.device_put(params, replicated(mesh)), x
  answer = lambda params, x: model.apply(params, x, t, cond)
  error = lambda params, x: jnp.mean(answer(params, x) ** 2)
  with jax.set_mesh(mesh):
    return [jax.jit(f).lower(*inputs) for f in (answer, jax.grad(error))], inputs


def seconds(program, inputs: Sequence, repeats: int) -> float:
  """The median of so many runs, after one that does not count."""
  jax.block_until_ready(program(*inputs))
  found = []
  for _ in range(repeats):
    begin = time.perf_counter()
    jax.block_until_ready(program(*inputs))
    found.append(time.perf_counter() - begin)
  return statistics.median(found)


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
