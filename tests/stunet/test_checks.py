"""What configs and inputs of the network are refused, and in which words."""

import jax
import pytest

from stunet.unet import STUNet
from tests.conftest import TINY, inputs


def initialise(model, *inputs):
  return jax.eval_shape(model.init, jax.random.key(0), *inputs)


@pytest.mark.parametrize(
  ('frames', 'nearest'), [(0, '1 or 4'), (2, '1 or 4'), (6, '4 or 8'), (79, '76 or 80')]
)
def test_a_wrong_number_of_frames_is_refused_with_the_nearest(frames, nearest):
  model = STUNet(**TINY | {'temporal_strides': (1, 4)})
  with pytest.raises(ValueError, match='temporal factor') as error:
    model.check_frames(frames)
  assert str(error.value) == (
    f'{frames} frames do not divide by the temporal factor 4 of the model: use 1 or a multiple of '
    f'4; the nearest are {nearest}.'
  )


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'up_units': (1,)}, "2 levels in channels, but not in ['up_units']."),
    (
      {'temporal_attentions': (1,)},
      "2 levels in channels, but not in ['temporal_attentions'].",
    ),
    (
      {'temporal_strides': (1, 2, 2), 'attention': ('joint',)},
      "2 levels in channels, but not in ['attention', 'temporal_strides'].",
    ),
    ({'up_units': (3, 1)}, 'Level 0 has 3 up_units; its down_units allow at most 2.'),
    (
      {'attention': ('none', 'self')},
      "attention is 'self'; allowed are cross, joint, none.",
    ),
    ({'resample': 'pool'}, "resample is 'pool'; allowed are conv, residual."),
    ({'attend_after': 'block'}, "attend_after is 'block'; allowed are level, unit."),
    ({'activation': 'relu'}, "activation is 'relu'; allowed are gelu, silu."),
    ({'groups': 3}, 'Level 0 has 8 channels, which do not divide by groups=3.'),
    ({'head_features': 6}, 'Level 1 has 16 channels, which do not divide by head_features=6.'),
    ({'patch': 3}, 'Frames of 8x8 pixels do not divide by 6.'),
    (
      {'temporal_strides': (2, 2)},
      'temporal_strides begins with 2; it must be 1, because nothing is resampled before level 0.',
    ),
    (
      {'noise_level_embedding': True},
      'The condition has a noise level if and only if the model embeds one.',
    ),
  ],
)
def test_a_wrong_config_is_refused(options, message):
  with pytest.raises(ValueError, match=r'.+') as error:
    initialise(STUNet(**TINY | options), *inputs())
  assert str(error.value) == message


def test_a_noise_level_without_its_embedding_is_refused():
  x, t, cond = inputs()
  with pytest.raises(ValueError, match='if and only if the model embeds one'):
    initialise(STUNet(**TINY), x, t, cond.replace(noise_level=t))
