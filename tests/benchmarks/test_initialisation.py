import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from benchmarks.initialisation import compare, with_he
from core.params import names, nest
from stunet.temporal import identity


def test_only_temporal_resampling_is_drawn_anew():
  eye = identity(None, (3, 1, 64, 64))
  kept = ('down1_unit0/temporal_conv0/conv1d/conv/kernel', 'temporal_down1/conv1d/conv/bias')
  redrawn = tuple(f'temporal_{name}/conv1d/conv/kernel' for name in ('down1', 'up1', 'up2'))
  params = nest(dict.fromkeys((*kept, *redrawn), eye))
  result = names(with_he(params, jax.random.key(0)))
  for name in kept:
    assert np.array_equal(result[name], eye)
  for name in redrawn:
    # He et al., 2015, Eq. 10: a variance of 2 over the numbers which each output sees.
    assert jnp.std(result[name]) == pytest.approx((2 / (3 * 64)) ** 0.5, rel=0.03)
  assert not np.array_equal(result[redrawn[0]], result[redrawn[1]])


def test_a_model_without_temporal_resampling_is_an_error():
  with pytest.raises(ValueError, match='Patterns match no parameter'):
    with_he(nest({'conv_in/kernel': jnp.zeros((3, 3, 3, 8))}), jax.random.key(0))


def test_an_image_model_is_needed():
  with pytest.raises(ValueError, match='Got no image model to inflate'):
    compare(ConfigDict({'init_from': ''}))
