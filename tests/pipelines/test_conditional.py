import numpy as np
import pytest

from core import video
from pipelines import conditional

RNG = np.random.default_rng(0)
CLIP = RNG.integers(0, 256, (4, 6, 8, 3), np.uint8)
IMAGE = CLIP[:1]


def known(given):
  return np.asarray(given.known[0, ..., 0]) == 1


def shown(given):
  """The pixels of what is known, the others black."""
  return video.to_uint8(np.asarray(given.frames[0])) * known(given)[..., None]


def test_an_image_is_the_first_frame():
  given = conditional.image_to_video(IMAGE, 4)
  assert known(given).all((1, 2)).tolist() == [True, False, False, False]
  assert not known(given)[1:].any()
  np.testing.assert_array_equal(shown(given)[0], IMAGE[0])


def test_of_a_clip_what_is_not_hidden_is_known():
  hidden = RNG.random((4, 6, 8)) < 0.5
  given = conditional.inpainting(CLIP, hidden)
  np.testing.assert_array_equal(known(given), ~hidden)
  np.testing.assert_array_equal(shown(given), CLIP * ~hidden[..., None])


def test_a_cinemagraph_is_still_outside_its_region():
  region = np.zeros((1, 6, 8), bool)
  region[0, 2:4, 3:6] = True
  given = conditional.cinemagraph(IMAGE, region, 4)
  assert known(given)[0].all()
  np.testing.assert_array_equal(known(given)[1:], np.repeat(~region, 3, 0))
  np.testing.assert_array_equal(shown(given)[2], IMAGE[0] * ~region[0, ..., None])


def test_a_border_is_around_the_clip():
  given = conditional.outpainting(CLIP, 1, 2, 3, 0)
  assert known(given).shape == (4, 8, 12)
  assert known(given)[:, 2:, 1:9].all()
  assert known(given).sum() == CLIP[..., 0].size
  np.testing.assert_array_equal(shown(given)[:, 2:, 1:9], CLIP)


def test_a_box_is_where_it_says():
  hidden = conditional.boxed(CLIP, 5, 1, 3, 2)
  assert hidden[:, 1:3, 5:8].all()
  assert hidden.sum() == 4 * 6


@pytest.mark.parametrize('box', [(5, 1, 4, 2), (0, 5, 1, 2), (2, 2, 0, 1), (-1, 0, 2, 2)])
def test_a_box_is_inside_the_frame(box):
  with pytest.raises(ValueError, match='allowed is one inside 8x6 pixels'):
    conditional.boxed(CLIP, *box)
