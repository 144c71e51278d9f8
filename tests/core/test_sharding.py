import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from core.sharding import (
  AXES,
  filled,
  fsdp,
  make_mesh,
  put_batch,
  replicated,
  require_batch,
  to_mesh,
)
from diffusion.process import Process
from tests.chips import devices_of
from tests.conftest import ROOT
from training.state import State
from training.step import make_step

DATA4_FSDP2 = (('data', -1), ('fsdp', 2))


@pytest.mark.parametrize(
  ('axes', 'shape'),
  [
    ((('data', -1), ('fsdp', 1)), {'data': 8, 'fsdp': 1, 'time': 1}),
    (DATA4_FSDP2, {'data': 4, 'fsdp': 2, 'time': 1}),
    ((('fsdp', -1), ('data', 1)), {'data': 1, 'fsdp': 8, 'time': 1}),
    ((('time', 8),), {'data': 1, 'fsdp': 1, 'time': 8}),
    ((('time', 2), ('data', -1), ('fsdp', 2)), {'data': 2, 'fsdp': 2, 'time': 2}),
  ],
)
def test_a_mesh_takes_all_devices(axes, shape):
  mesh = make_mesh(axes)
  assert dict(mesh.shape) == shape
  assert mesh.axis_names == ('data', 'fsdp', 'time')  # whichever is given


def test_devices_that_share_a_clip_are_neighbours_on_a_slice_no_axis_of_which_is_theirs():
  mesh = make_mesh((('fsdp', 128), ('time', 2)), devices_of('v6e:16x16'))
  for one, other in mesh.devices.reshape(-1, 2):
    assert sum(abs(a - b) for a, b in zip(one.coords, other.coords, strict=True)) == 1


@pytest.mark.parametrize(
  ('name', 'axes', 'shape'),
  [
    ('2xv5p:2x2x2', (('data', -1),), (16, 1, 1)),
    ('2xv5p:2x2x2', (('data', 2), ('fsdp', -1)), (2, 8, 1)),
    ('4xv6e:4x4', (('data', 8), ('fsdp', -1), ('time', 2)), (8, 4, 2)),
    ('2xv7x:2x2x1', (('data', -1), ('fsdp', 8)), (2, 8, 1)),
  ],
)
def test_slices_are_divided_by_data_alone(name, axes, shape):
  """`fsdp` and `time` communicate only inside a slice, which is arranged like a single slice."""
  mesh = make_mesh(axes, devices_of(name))
  assert mesh.devices.shape == shape
  slices = np.vectorize(lambda device: device.slice_index)(mesh.devices)
  count = int(name.split('x')[0])
  want = np.arange(count).repeat(shape[0] // count)
  np.testing.assert_array_equal(slices, np.broadcast_to(want[:, None, None], shape))
  alone = make_mesh((('data', shape[0] // count), *axes[1:]), devices_of(name.split('x', 1)[1]))
  place = np.vectorize(lambda device: (*device.coords, device.core_on_chip), otypes=[object])
  for part in np.split(mesh.devices, count):
    assert (place(part) == place(alone.devices)).all()


@pytest.mark.parametrize(
  ('name', 'axes', 'message'),
  [
    (
      '2xv5p:2x2x2',
      (('data', 1), ('fsdp', -1)),
      'Got data=1 in the mesh on 2 TPU slices, which are ',
    ),
    ('2xv5p:2x2x2', (('data', 1), ('fsdp', -1)), 'along that axis; allowed are multiples of 2.'),
    ('3xv5p:2x2x2', (('data', 2), ('fsdp', 12)), 'Got data=2 in the mesh on 3 TPU slices'),
    ('4xv6e:4x4', (('data', 2), ('fsdp', 16), ('time', 2)), 'allowed are multiples of 4.'),
  ],
)
def test_slices_that_data_does_not_divide_are_refused(name, axes, message):
  with pytest.raises(ValueError, match='slices') as error:
    make_mesh(axes, devices_of(name))
  assert message in str(error.value)


@pytest.mark.parametrize(
  ('axes', 'message'),
  [
    (
      (('data', 3), ('fsdp', -1)),
      'A mesh of 3x2x1 does not fit 8 devices; the product of its sizes must ',
    ),
    ((('data', 2), ('fsdp', 2)), 'A mesh of 2x2x1 does not fit 8 devices; '),
    ((('data', 16), ('fsdp', -1)), 'A mesh of 16x0x1 does not fit 8 devices; '),
    (
      (('data', -1), ('fsdp', -1)),
      'allowed are the axes data, fsdp, time, at most one of size -1.',
    ),
    (
      (('data', -1), ('model', 1)),
      'allowed are the axes data, fsdp, time, at most one of size -1.',
    ),
    (
      (('data', 2), ('data', 4)),
      "Got mesh=(('data', 2), ('data', 4)); allowed are the axes data, ",
    ),
    ((('data', 0),), "Got mesh=(('data', 0),); allowed are the axes data, fsdp, time, "),
  ],
)
def test_a_mesh_that_does_not_fit_is_refused(axes, message):
  with pytest.raises(ValueError, match='mesh') as error:
    make_mesh(axes)
  assert message in str(error.value)


def test_fsdp_cuts_over_several_axes_of_the_mesh_as_over_one():
  mesh = make_mesh((('data', 2), ('time', 4)))
  tree = {'dense': jnp.zeros((12, 16)), 'divides by 4': jnp.zeros((12, 12)), 'small': jnp.zeros(8)}
  got = {name: tuple(s.spec) for name, s in fsdp(tree, mesh, 100, over=AXES).items()}
  assert got == {'dense': (None, AXES), 'divides by 4': (None, None), 'small': (None,)}


def test_a_replicated_array_goes_to_a_mesh_of_another_order_without_a_copy():
  meshes = [make_mesh(axes) for axes in ((('data', 8),), (('data', 2), ('time', 4)))]
  other = jax.sharding.Mesh(meshes[1].devices[::-1], AXES)
  x = jax.device_put(jnp.arange(6.0), replicated(meshes[0]))
  y = to_mesh(x, other)
  assert y.sharding == replicated(other)
  np.testing.assert_array_equal(y, x)
  where = lambda x: {s.device: s.data.unsafe_buffer_pointer() for s in x.addressable_shards}
  assert where(y) == where(x)


def test_fsdp_cuts_the_longest_axis_that_divides_the_last_where_it_must_small_arrays_never():
  mesh = make_mesh((('data', 2), ('fsdp', 4)))
  shapes = {
    'conv': (3, 3, 64, 128),
    'dense': (128, 64),
    'widening': (64, 128),
    'vector': (128,),
    'longest does not divide': (130, 8),
    'none divides': (129, 7),
    'small': (8, 8),
    'number': (),
  }
  tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
  got = {name: tuple(s.spec) for name, s in fsdp(tree, mesh, min_size=100).items()}
  assert got == {
    'conv': (None, None, 'fsdp', None),
    'dense': ('fsdp', None),
    'widening': ('fsdp', None),
    'vector': ('fsdp',),
    'longest does not divide': (None, 'fsdp'),
    'none divides': (None, None),
    'small': (None, None),
    'number': (),
  }


def test_a_batch_is_spread_over_all_devices():
  batch = {'video': np.arange(16).reshape(16, 1), 'mask': np.ones((16, 3), bool)}
  for name, array in put_batch(batch, make_mesh(DATA4_FSDP2)).items():
    assert array.sharding.spec == P(('data', 'fsdp'))
    assert [shard.data.shape[0] for shard in array.addressable_shards] == [2] * 8
    np.testing.assert_array_equal(array, batch[name])


@pytest.mark.parametrize(
  ('batch', 'accumulate', 'message'),
  [
    (
      12,
      1,
      'Got a batch of 12 clips; allowed are multiples of 8 (data times fsdp of the mesh)',
    ),
    (12, 1, 'such as 8 and 16.  With a larger axis time, more devices'),
    (7, 1, 'such as 8. '),
    (8, 2, 'allowed are multiples of 16 (accumulate=2 times data times fsdp of '),
    (8, 2, 'such as 16. '),
    (40, 3, 'such as 24 and 48. '),
  ],
)
def test_a_batch_or_microbatch_that_does_not_divide_is_refused(batch, accumulate, message):
  mesh = make_mesh(DATA4_FSDP2)
  for good in (batch // 48 * 48 + 48, 96):
    require_batch(good, mesh, accumulate)
  with pytest.raises(ValueError, match=r'.+') as error:
    require_batch(batch, mesh, accumulate)
  assert message in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('axes', 'batch', 'want'),
  [((('data', 8),), 1, 8), ((('data', 8),), 8, 8), ((('data', 8),), 9, 16), ((('time', 8),), 3, 3)],
)
def test_what_does_not_divide_is_filled_up(axes, batch, want):
  assert filled(batch, make_mesh(axes)) == want


WORKER = """
import sys
import jax, numpy as np
count, index, port = map(int, sys.argv[1:])
jax.config.update('jax_num_cpu_devices', 8 // count)
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
jax.distributed.initialize(f'localhost:{port}', count, index)
from core import sharding
whole = np.arange(16 * 3, dtype=np.float32).reshape(16, 3)
apart = (2, 4, 1), (0, 2, 4, 6, 1, 3, 5, 7)  # the rows of a process are not consecutive
shared = (2, 2, 2), (0, 5, 2, 7, 4, 1, 6, 3)  # some rows belong to two processes
for axes, order in (apart, shared):
  devices = np.array(jax.devices())[list(order)].reshape(axes)
  mesh = jax.sharding.Mesh(devices, sharding.AXES)
  mine = sharding.rows(16, mesh)
  assert axes == shared[0] or mine != list(range(mine[0], mine[0] + len(mine))), mine
  batch = sharding.put_batch({'video': whole[mine]}, mesh)['video']
  everywhere = jax.jit(lambda x: x, out_shardings=sharding.replicated(mesh))
  np.testing.assert_array_equal(everywhere(batch), whole)
  for shard in batch.addressable_shards:
    np.testing.assert_array_equal(shard.data, whole[shard.index])
  said = everywhere(sharding.of_each(index == count - 1, mesh))
  assert np.asarray(said).tolist() == [d.process_index == count - 1 for d in devices.flat]
print('all rows are in their places')
"""


@pytest.mark.parametrize('count', [2, 4])
def test_processes_whose_rows_do_not_follow_each_other_make_the_whole_batch(count):
  with socket.socket() as one:
    one.bind(('localhost', 0))
    port = one.getsockname()[1]
  environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
  lines = [[sys.executable, '-c', WORKER, str(count), str(i), str(port)] for i in range(count)]
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
  for process in [subprocess.Popen(line, **pipes) for line in lines]:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert 'all rows are in their places' in output


def perceptron(params, x, t, cond):
  """A network of 1x1 layers and the text."""
  text = (cond.text * cond.text_mask[..., None]).mean(1) @ params['text'] + jnp.outer(
    t, params['time']
  )
  h = jnp.tanh(x @ params['in'] + text[:, None, None, None])
  return h @ params['out']


def test_a_step_on_eight_devices_is_that_on_one():
  rng = np.random.default_rng(0)
  shapes = {'in': (3, 32), 'text': (8, 32), 'time': (32,), 'out': (32, 3)}
  params = {k: jnp.asarray(rng.normal(size=shape), jnp.float32) for k, shape in shapes.items()}
  batch = {
    'video': rng.integers(0, 256, (16, 2, 4, 4, 3), np.uint8),
    'text': rng.normal(size=(16, 5, 8)).astype(np.float32),
    'text_mask': rng.random((16, 5)) < 0.7,
  }
  tx = optax.adamw(0.1)
  options = dict(steps=100, ema_decay=0.9, drop_text=0.1, accumulate=1)
  step = make_step(perceptron, Process(), tx, **options)

  def run(mesh):
    state = State.create(params, tx)
    shardings = fsdp(state, mesh, min_size=90)
    jitted = jax.jit(step, out_shardings=(shardings, replicated(mesh)))
    state = jax.device_put(state, shardings)
    return jitted(state, {}, put_batch(batch, mesh), jax.random.key(0))

  one, metrics = run(make_mesh((('data', 1), ('fsdp', 1)), jax.devices()[:1]))
  many, same_metrics = run(make_mesh(DATA4_FSDP2))
  for name, want in metrics.items():
    np.testing.assert_allclose(same_metrics[name], want, rtol=1e-5, err_msg=name)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), many, one)

  moments = many.opt[0].mu  # every device holds half of a large array, and of its moments
  for tree in (many.params, many.ema, moments):
    shard_shapes = {name: p.addressable_shards[0].data.shape for name, p in tree.items()}
    assert shard_shapes == {'in': (3, 16), 'text': (4, 32), 'time': (32,), 'out': (16, 3)}
