import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from evaluation.features import networks
from evaluation.features.networks import NetworkSpec, batched, open_features, parameter_shapes
from evaluation.features.weights import draw
from tests.chips import devices_of


class Mean(nn.Module):
  """A small network: a linear layer of the mean colour."""

  @nn.compact
  def __call__(self, video):
    return nn.Dense(5, name='dense')(video.mean((1, 2, 3)))


EXAMPLES = (jax.ShapeDtypeStruct((1, 2, 4, 4, 3), jnp.float32),)


@pytest.fixture
def mean(monkeypatch):
  prepare = lambda video: video.astype(np.float32) / 255
  apply = lambda model, params, clips: model.apply({'params': params}, clips)
  monkeypatch.setitem(
    networks.NETWORKS, 'mean', NetworkSpec(Mean(), EXAMPLES, (), '', prepare, apply)
  )


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize('batch', [1, 8])
def test_extraction_runs_under_the_mesh_of_training(mean, batch, kind):
  clips = np.random.default_rng(0).uniform(size=(3, 2, 4, 4, 3)).astype(np.float32)
  wanted = open_features('mean', 'random:3', batch).extract(clips)
  devices = jax.devices()[::-1]  # a mesh may have them in any order
  mesh = jax.make_mesh((2, 4), ('data', 'fsdp'), axis_types=(kind,) * 2, devices=devices)
  with jax.set_mesh(mesh):
    got = open_features('mean', 'random:3', batch).extract(clips)
    assert jax.sharding.get_abstract_mesh().shape == {'data': 2, 'fsdp': 4}
  np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_outputs_that_are_not_finite_are_refused(mean):
  with pytest.raises(ValueError, match='An output of the network is not finite'):
    open_features('mean', 'random:3', 2).extract(np.full((1, 2, 4, 4, 3), np.nan, np.float32))


@pytest.mark.parametrize('batch', [1, 3, 8, 13])
def test_any_number_of_clips_is_seen_each_as_it_is_alone(mean, batch):
  opened = open_features('mean', 'random:3', batch)
  assert (opened.name, opened.weights) == ('mean', 'random:3')
  rng = np.random.default_rng(0)
  clips = np.stack([opened.prepare(rng.integers(0, 256, (2, 4, 4, 3), np.uint8)) for _ in range(9)])
  kernel = draw(parameter_shapes(Mean(), jnp.asarray(clips)), 3)['dense/kernel']
  for n in (1, 8, 9):
    got = opened.extract(clips[:n])
    assert (got.shape, got.dtype) == ((n, 5), np.float32)
    np.testing.assert_allclose(got, clips[:n].mean((1, 2, 3)) @ kernel, rtol=1e-5, atol=1e-6)


def test_clips_are_spread_over_all_devices_and_compiled_for_once():
  traced, shown = [], []

  def apply(params, x):
    # Products are float32 on GPUs and TPUs too, which else take fewer bits.
    traced.append((x.shape, jax.config.jax_default_matmul_precision))
    jax.debug.inspect_array_sharding(x, callback=shown.append)
    return x * params['a']

  see = batched(apply, {'a': np.float32(2)}, 16)
  x = np.arange(20, dtype=np.float32)
  np.testing.assert_array_equal(see(x), 2 * x)
  np.testing.assert_array_equal(see(x[:1]), 2 * x[:1])
  assert traced == [((16,), 'highest')]
  assert shown[0].num_devices == jax.local_device_count() > 1


@pytest.mark.parametrize(
  ('network', 'batch', 'message'),
  [
    ('i3', 4, r"^Got the network 'i3'; allowed are .*i3d.*\.$"),
    ('mean', 0, r'^Got a batch of 0; allowed is 1 or more\.$'),
  ],
)
def test_other_networks_and_batches_are_refused(mean, network, batch, message):
  with pytest.raises(ValueError, match=message):
    open_features(network, 'random:0', batch)


def test_no_clips_are_refused(mean):
  with pytest.raises(ValueError, match=r'^Got no clip and no text; allowed is 1 or more\.$'):
    open_features('mean', 'random:0', 2).extract(np.zeros((0, 2, 4, 4, 3), np.float32))


@pytest.mark.parametrize('batch', [1, 3, 4, 8])
def test_a_batch_smaller_than_a_host_is_spread_over_as_many_of_its_chips(monkeypatch, batch):
  placed = []
  monkeypatch.setattr(jax, 'local_devices', lambda: devices_of('v5p:2x2x1'))
  monkeypatch.setattr(jax, 'device_put', lambda x, sharding: placed.append(sharding))
  batched(lambda params, x: x, {'a': np.float32(2)}, batch)
  (everywhere,) = placed
  assert {d.id for d in everywhere.mesh.devices} == set(range(min(batch, 4)))
