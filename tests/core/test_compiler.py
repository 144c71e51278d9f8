import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from core import compiler
from core.sharding import make_mesh
from tests.chips import devices_of
from training.plan import sharded_shape
from training.slices import open_slice


@pytest.mark.parametrize('name', ['v4:2x2x1', 'v5e:2x2', 'v7x:2x2x1'])
def test_other_generations_have_the_options_of_their_compiler(name):
  assert compiler.options(Mesh(np.array(devices_of(name)), ('data',))) is None


def test_a_cpu_needs_no_options():
  assert compiler.options(make_mesh((('data', -1),))) is None


@pytest.mark.parametrize('name', ['v5p:2x2x1', 'v6e:2x2'])
def test_the_compiler_knows_the_options(name):
  """It refuses those that it does not know."""
  assert compiler.options(Mesh(np.array(devices_of(name)), ('data',)))
  pytest.importorskip('libtpu', reason='libtpu is not installed here; CI has it')
  mesh = make_mesh((('data', -1),), open_slice(name).devices)
  x = jax.ShapeDtypeStruct((8, 8), np.float32)
  x = sharded_shape(x, jax.sharding.NamedSharding(mesh, jax.P()))
  lowered = jax.jit(lambda x: x @ x).lower(x)
  assert lowered.compile(compiler.options(mesh)).memory_analysis()
  with pytest.raises(jax.errors.JaxRuntimeError, match='xla_tpu_scoped_vmem_limits'):
    lowered.compile({'xla_tpu_scoped_vmem_limits': 1})
