import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.params import names, nest, partition
from stunet.inflate import TEMPORAL, inflate
from stunet.unet import STUNet
from tests.conftest import TINY, inputs
from tests.oracles import random_params


def params_of(seed, *, channels=3, **options):
  """Random parameters of a tiny model with so many input channels."""
  x, t, cond = inputs()
  cond = cond.replace(low_res=jnp.zeros((*x.shape[:4], channels - 3)) if channels > 3 else None)
  model = STUNet(**TINY | options)
  return random_params(jax.eval_shape(model.init, jax.random.key(0), x, t, cond)['params'], seed)


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)  # raises where the structures differ


def test_temporal_parameters_are_the_video_models_and_the_others_the_image_models():
  image, video = params_of(1, temporal=False), params_of(2)
  got = inflate(image, video)
  temporal, spatial = partition(got, TEMPORAL)
  same(temporal, partition(video, TEMPORAL)[0])
  same(spatial, image)


@pytest.mark.parametrize('patch', [1, 2])
def test_additional_input_channels_are_zero(patch):
  image = params_of(1, temporal=False, patch=patch)
  got = inflate(image, params_of(2, channels=7, patch=patch))
  old, new = np.split(got['conv_in']['kernel'], [3 * patch**2], 2)
  np.testing.assert_array_equal(old, image['conv_in']['kernel'])
  assert new.shape == (3, 3, 4 * patch**2, 8)
  assert not new.any()


def test_an_inflated_model_keeps_its_parameters_when_its_input_is_widened():
  video = params_of(1)
  got, kernel = names(inflate(video, params_of(2, channels=7))), 'conv_in/kernel'
  np.testing.assert_array_equal(got[kernel][:, :, :3], video['conv_in']['kernel'])
  assert not got.pop(kernel)[:, :, 3:].any()
  same(got, {name: p for name, p in names(video).items() if name != kernel})


def test_arguments_are_not_changed():
  image = params_of(1, temporal=False)
  inflate(image, params_of(2, channels=7))
  same(image, params_of(1, temporal=False))


def test_parameters_that_do_not_fit_are_listed():
  image = names(params_of(1, temporal=False))
  image['left/over'] = image.pop('conv_out/bias')
  image['norm_out/scale'] = jnp.ones(9)
  with pytest.raises(ValueError, match='does not fit') as error:
    inflate(nest(image), params_of(2))
  assert str(error.value) == (
    'The source does not fit the target.\n'
    'In the target only, and not declared new:\n  conv_out/bias\n'
    'In the source only:\n  left/over\n'
    'Different shapes:\n  norm_out/scale: (9,) -> (8,)'
  )


def test_an_inflated_model_must_have_all_temporal_layers_of_the_target():
  with pytest.raises(ValueError, match=r'(?s)not declared new:.*temporal_attention1/proj/kernel'):
    inflate(params_of(1), params_of(2, temporal_attentions=(0, 2)))


def test_input_channels_of_a_condition_are_not_dropped():
  with pytest.raises(ValueError, match=r'conv_in/kernel: \(3, 3, 7, 8\) -> \(3, 3, 3, 8\)'):
    inflate(params_of(1, channels=7), params_of(2))
