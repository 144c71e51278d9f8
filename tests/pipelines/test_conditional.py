import numpy as np
import pytest

from core import video
from pipelines import conditional

RNG = np.random.default_rng(0)
CLIP = RNG.integers(0, 256, (4, 6, 8, 3), np.uint8)
IMAGE = CLIP[:1]


def given(cond):
  return np.asarray(cond.mask[0, ..., 0]) == 1


def shown(cond):
  """The given pixels, and black where there are none."""
  return video.to_uint8(np.asarray(cond.masked_video[0])) * given(cond)[..., None]


def test_an_image_is_the_first_frame():
  cond = conditional.image_to_video(IMAGE, 4)
  assert given(cond).all((1, 2)).tolist() == [True, False, False, False]
  assert not given(cond)[1:].any()
  np.testing.assert_array_equal(shown(cond)[0], IMAGE[0])


def test_of_a_clip_what_is_not_hidden_is_given():
  hidden = RNG.random((4, 6, 8)) < 0.5
  cond = conditional.inpainting(CLIP, hidden)
  np.testing.assert_array_equal(given(cond), ~hidden)
  np.testing.assert_array_equal(shown(cond), CLIP * ~hidden[..., None])


def test_a_cinemagraph_is_still_except_where_it_is_hidden():
  hidden = np.zeros((1, 6, 8), bool)
  hidden[0, 2:4, 3:6] = True
  cond = conditional.cinemagraph(IMAGE, hidden, 4)
  assert given(cond)[0].all()
  np.testing.assert_array_equal(given(cond)[1:], np.repeat(~hidden, 3, 0))
  np.testing.assert_array_equal(shown(cond)[2], IMAGE[0] * ~hidden[0, ..., None])


def test_a_border_is_around_the_clip():
  cond = conditional.outpainting(CLIP, 1, 2, 3, 0)
  assert given(cond).shape == (4, 8, 12)
  assert given(cond)[:, 2:, 1:9].all()
  assert given(cond).sum() == CLIP[..., 0].size
  np.testing.assert_array_equal(shown(cond)[:, 2:, 1:9], CLIP)


def test_a_box_is_where_it_says():
  hidden = conditional.hidden_box(CLIP, 5, 1, 3, 2)
  assert hidden[:, 1:3, 5:8].all()
  assert hidden.sum() == 4 * 6


@pytest.mark.parametrize('box', [(5, 1, 4, 2), (0, 5, 1, 2), (2, 2, 0, 1), (-1, 0, 2, 2)])
def test_a_box_is_inside_the_frame(box):
  with pytest.raises(ValueError, match='allowed is one inside 8x6 pixels'):
    conditional.hidden_box(CLIP, *box)
