import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.seams import borders, differences, ratio
from core.condition import Condition
from ssr.multidiffusion import over_windows


@pytest.mark.parametrize(
  ('frames', 'overlap', 'expected'),
  [
    (24, 0, [7, 15]),
    (20, 2, [5, 6, 7, 11, 12, 13]),
    (16, 2, [5, 6, 7, 8, 9, 10, 11, 12, 13]),  # the last window, of frames 8 to 15, is moved back
    (10, 0, [1, 2, 3, 4, 5, 6, 7]),  # and here it overlaps where no overlap was asked for
  ],
)
def test_borders_are_where_windows_begin_and_end(frames, overlap, expected):
  at_border = borders(frames, window=8, overlap=overlap)
  assert at_border.shape == (frames - 1,)
  assert np.flatnonzero(at_border).tolist() == expected


@pytest.mark.parametrize(('frames', 'overlap'), [(24, 0), (20, 2), (18, 3)])
def test_windows_that_disagree_show_at_borders_and_there_alone(frames, overlap):
  # Every frame of a window is answered by its first one, and no two of these are alike.
  answer = lambda xt, t, cond: jnp.broadcast_to(xt[:, :1], xt.shape)
  xt = (jnp.arange(frames) ** 2.0)[None, :, None, None, None]
  denoiser = over_windows(answer, window=8, overlap=overlap)
  (large,) = denoiser(xt, jnp.ones(1), Condition(jnp.zeros((1, 1, 4))))
  assert np.array_equal(differences(np.asarray(large)) > 1e-3, borders(frames, 8, overlap))


def test_one_window_has_no_border():
  with pytest.raises(ValueError, match='Got 8 frames, which are in one window of 8'):
    borders(8, 8, 2)


@pytest.mark.parametrize(('frames', 'window', 'overlap'), [(80, 3, 2), (9, 8, 0), (5, 1, 0)])
def test_borders_everywhere_compare_with_nothing(frames, window, overlap):
  message = (
    f'^Got {frames} frames in windows of {window} with an overlap of {overlap}, and no two are in '
    'one window alone; allowed are a smaller overlap, larger windows or more frames'
  )
  with pytest.raises(ValueError, match=message):
    borders(frames, window, overlap)


def test_the_ratio_is_that_of_squared_jumps():
  at_border = borders(20, 8, 2)
  levels = np.cumsum(np.concatenate([[0], np.where(at_border, 3.0, -1.0)]))
  frames = levels[:, None, None, None] * np.ones((2, 4, 3))
  assert ratio(np.stack([differences(frames)] * 2), at_border) == pytest.approx(9)


def test_a_still_video_counts_by_its_seams_alone():
  at_border = np.array([False, True, False])
  assert ratio(np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 0.0]]), at_border) == pytest.approx(3)
  with pytest.raises(ValueError, match='nothing changes within a window'):
    ratio(np.array([[0.0, 2.0, 0.0]]), at_border)


def test_pixels_do_not_wrap_around():
  levels = np.array([0, 255, 250, 0], np.uint8)
  frames = np.broadcast_to(levels[:, None, None, None], (4, 2, 3, 3))
  assert differences(frames).tolist() == [255**2, 25, 250**2]
