"""What configs and inputs of the network are refused, and in which words."""

import jax
import pytest

from stunet.unet import STUNet
from tests.conftest import TINY, inputs


@pytest.mark.parametrize(
  ('size', 'nearest'),
  [
    ((72, 128), '64x128, 96x128'),
    ((128, 72), '128x64, 128x96'),
    ((40, 40), '32x32, 32x64, 64x32, 64x64'),
    ((1, 64), '32x64'),
  ],
)
def test_a_wrong_size_of_frames_is_refused_with_the_nearest(size, nearest):
  model = STUNet(**TINY | {'patch': 16})
  with pytest.raises(ValueError, match='do not divide') as error:
    initialise(model, *inputs(size=size))
  assert str(error.value) == (
    f'Frames of {size[0]}x{size[1]} pixels do not divide by 32; allowed are heights and widths '
    f'that are multiples of 32, of which the nearest are {nearest}.'
  )


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
      "attention is 'self'; allowed are cross, joint, none, transformer.",
    ),
    ({'resample': 'pool'}, "resample is 'pool'; allowed are conv, conv_after, residual."),
    ({'embedding': 'multiply'}, "embedding is 'multiply'; allowed are add, scale_shift."),
    (
      {'transformer_projection': 'linear'},
      "transformer_projection is 'linear'; allowed are conv, dense.",
    ),
    ({'heads': 3}, 'Level 1 has 16 channels, which do not divide by heads=3.'),
    ({'attend_after': 'block'}, "attend_after is 'block'; allowed are level, unit."),
    ({'activation': 'relu'}, "activation is 'relu'; allowed are gelu, silu."),
    ({'groups': 3}, 'Level 0 has 8 channels, which do not divide by groups=3.'),
    ({'head_features': 6}, 'Level 1 has 16 channels, which do not divide by head_features=6.'),
    (
      {'patch': 3},
      'Frames of 8x8 pixels do not divide by 6; allowed are heights and widths that are multiples '
      'of 6, of which the nearest are 6x6, 6x12, 12x6, 12x12.',
    ),
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
