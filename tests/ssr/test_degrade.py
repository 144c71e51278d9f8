"""The low-resolution video of super-resolution, compared with float64 and with exact values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.condition import Condition
from ssr.degrade import augmented, blurred, downsample, make_degrade, upsample, upsample_corners

COND = Condition(jnp.ones((2, 3, 4)), jnp.asarray([[True, True, False]] * 2))
STD = jnp.float32([0.7, 2.0])


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def per_video(values):
  return np.float64(values)[:, None, None, None, None]


def along(axis, function, video):
  """Every row of an axis, in float64."""
  return np.apply_along_axis(function, axis, np.float64(video))


def gaussian(std, radius):
  weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / std) ** 2)
  return weights / weights.sum()


def filtered(video, weights):
  """Every frame, whose outermost pixels are repeated, with `weights` down and across."""
  pad = lambda row: np.pad(row, len(weights) // 2, mode='edge')
  for axis in (1, 2):
    video = along(axis, lambda row: np.convolve(pad(row), weights, 'valid'), video)
  return video


def blur(video, std, reach):
  return jax.jit(lambda video, std: blurred(video, std, reach))(video, std)


def is_uniform(values, low, high):
  """By the test of Kolmogorov and Smirnov, at 0.1%."""
  n, at = len(values), (np.sort(values) - low) / (high - low)
  assert 0 <= at[0]
  assert at[-1] <= 1
  return np.abs(at - (np.arange(n) + 0.5) / n).max() < 1.95 / n**0.5


@pytest.mark.parametrize('factor', [2, 3, 6])
def test_downsampling_is_the_mean_of_squares(factor):
  video = normal(2, 3, 6, 12, 3)
  got = downsample(video, factor)
  assert got.shape == (2, 3, 6 // factor, 12 // factor, 3)
  for i, j in np.ndindex(got.shape[2:4]):
    down, across = (slice(factor * k, factor * (k + 1)) for k in (i, j))
    want = np.float64(video[:, :, down, across]).mean((2, 3))
    np.testing.assert_allclose(got[:, :, i, j], want, atol=1e-6)


@pytest.mark.parametrize(('height', 'width'), [(8, 12), (12, 30), (4, 6)])
def test_upsampling_is_linear_between_the_centres_of_pixels(height, width):
  video = normal(2, 3, 4, 6, 3)
  want = np.float64(video)
  for axis, size in ((2, height), (3, width)):
    n = video.shape[axis]
    at = (np.arange(size) + 0.5) * n / size - 0.5
    want = along(axis, lambda row: np.interp(at, np.arange(n), row), want)  # noqa: B023
  np.testing.assert_allclose(upsample(video, height, width), want, atol=1e-5)


@pytest.mark.parametrize(('factor', 'neighbour'), [(2, 1 / 8), (3, 1 / 9), (4, 1 / 8)])
def test_what_is_upsampled_and_downsampled_is_a_little_blurred(factor, neighbour):
  """Pixel k of n in a square lies |(k + 1/2) / n - 1/2| from its centre, and has as much of the
  neighbour on that side: 1/8 in the mean for an even n.
  """
  video = normal(2, 2, 4, 5, 3)
  got = downsample(upsample(video, 4 * factor, 5 * factor), factor)
  weights = (neighbour, 1 - 2 * neighbour, neighbour)
  want = np.stack([filtered(frames, weights) for frames in video])
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_constant_video_stays_what_it_is():
  video = jnp.full((2, 1, 4, 6, 3), 0.3)
  for got in (downsample(video, 2), upsample(video, 8, 12), blur(video, STD, 2.0)):
    np.testing.assert_allclose(got, 0.3, rtol=1e-6)


def test_each_video_is_blurred_by_its_own_gaussian():
  video = normal(2, 2, 9, 7, 3)
  got = blur(video, STD, 2.0)
  for frames, std, blurry in zip(video, np.float64(STD), got):
    np.testing.assert_allclose(blurry, filtered(frames, gaussian(std, radius=6)), atol=1e-5)


def test_a_point_becomes_as_wide_as_the_deviation():
  """To 2%, as a Gaussian cut off at three deviations has a standard deviation of 0.987."""
  video = jnp.zeros((2, 1, 25, 25, 1)).at[:, :, 12, 12].set(1.0)
  std = jnp.float32([1.0, 3.0])
  at = np.arange(25.0) - 12
  for spot, want in zip(np.float64(blur(video, std, 3.0)), std):
    spot = spot[0, :, :, 0]
    np.testing.assert_allclose(spot.sum(), 1, rtol=1e-5)
    for moment in (spot.sum(0) @ at**2, spot.sum(1) @ at**2):
      np.testing.assert_allclose(moment**0.5, want, rtol=0.02)
    np.testing.assert_allclose(at @ spot @ at, 0, atol=1e-4)  # round


def test_no_deviation_is_no_blur():
  video = normal(2, 2, 5, 5, 3)
  np.testing.assert_allclose(blur(video, jnp.zeros(2), 0.5), video, rtol=1e-6)


def test_level_0_is_the_frames_and_level_1_is_noise():
  frames, eps = normal(2, 3, 4, 4, 3), normal(2, 3, 4, 4, 3, seed=1)
  cond = augmented(COND.replace(low_res=frames), jnp.float32([0, 1]), eps)
  np.testing.assert_allclose(cond.low_res[0], frames[0], atol=1e-5)
  np.testing.assert_allclose(cond.low_res[1], eps[1], atol=1e-3)


def test_noise_of_a_level_keeps_the_variance():
  """Along a quarter of a circle: the cosine schedule."""
  frames, eps = normal(2, 8, 32, 32, 3), normal(2, 8, 32, 32, 3, seed=1)
  level = jnp.float32([0.3, 0.6])
  cond = augmented(COND.replace(low_res=frames), level, eps)
  angle = np.pi / 2 * per_video(level)
  want = np.cos(angle) * np.float64(frames) + np.sin(angle) * np.float64(eps)
  np.testing.assert_allclose(cond.low_res, want, atol=1e-5)
  np.testing.assert_allclose(cond.low_res.std((1, 2, 3, 4)), 1, rtol=0.02)
  np.testing.assert_array_equal(cond.noise_level, level)
  np.testing.assert_array_equal(cond.text, COND.text)
  np.testing.assert_array_equal(cond.text_mask, COND.text_mask)


def degraded(x0, seed=0, **options):
  degrade = jax.jit(make_degrade(**dict(factor=2, level=0.0, blur=0.0) | options))
  text = jnp.ones((len(x0), 1, 1))
  batch = {'text': text, 'text_mask': jnp.ones(text.shape[:2], bool)}
  return degrade(jax.random.key(seed), x0, batch)


def test_without_level_and_blur_a_small_video_is_the_mean_of_squares():
  video = normal(2, 3, 4, 8, 3)
  cond = degraded(video)
  np.testing.assert_allclose(cond.low_res, downsample(video, 2), atol=1e-5)
  np.testing.assert_array_equal(cond.noise_level, [0, 0])
  np.testing.assert_array_equal(cond.text, jnp.ones((2, 1, 1)))


def test_levels_are_drawn_evenly_and_are_those_of_the_noise():
  b, level = 4000, 0.6
  cond = degraded(jnp.zeros((b, 2, 4, 4, 1)), level=level)
  assert is_uniform(cond.noise_level, 0, level)
  eps = np.float64(cond.low_res) / np.sin(np.pi / 2 * per_video(cond.noise_level))
  # Five standard deviations of each.
  np.testing.assert_allclose(eps.mean(), 0, atol=0.03)
  np.testing.assert_allclose(eps.var(), 1, atol=0.04)
  np.testing.assert_allclose((eps[:, 0] * eps[:, 1]).mean(), 0, atol=0.04)
  spread = eps.reshape(b, -1).var(1)  # the same at every level
  assert abs(np.corrcoef(spread, cond.noise_level)[0, 1]) < 0.08


def test_deviations_of_the_blur_are_drawn_evenly():
  """Each is read from what is left of a point: the square of the Gaussian's middle weight."""
  b, most = 1000, 1.5
  points = jnp.zeros((b, 1, 18, 18, 1)).at[:, :, 8:10, 8:10].set(1.0)
  left = np.float64(degraded(points, blur=most).low_res[:, 0, 4, 4, 0])
  stds = np.linspace(0.2, most, 500)
  middles = np.array([gaussian(std, radius=4)[4] ** 2 for std in stds])
  result = np.interp(-left, -middles, stds)
  wide = result > 0.25  # a narrower one is all in the middle, to what float32 resolves
  assert is_uniform(result[wide], 0.25, most)
  np.testing.assert_allclose(wide.mean(), 1 - 0.25 / most, atol=0.05)
  level = degraded(points, blur=most, level=0.3).noise_level
  assert abs(np.corrcoef(result, level)[0, 1]) < 0.13  # four standard deviations


def test_what_is_drawn_is_by_the_key():
  video = normal(3, 2, 4, 4, 3)
  draw = lambda seed: degraded(video, seed, level=0.5, blur=0.5)
  once, again, other = draw(0), draw(0), draw(1)
  np.testing.assert_array_equal(once.low_res, again.low_res)
  assert not np.isin(once.noise_level, other.noise_level).any()
  assert len(set(once.noise_level.tolist())) == 3


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(factor=1), 'Got a factor of 1; allowed is 2 or more.'),
    (dict(level=1.5), 'Got a level of 1.5; allowed is 0 to 1.'),
    (dict(level=-0.1), 'Got a level of -0.1; allowed is 0 to 1.'),
    (dict(blur=-1.0), 'Got a blur of -1.0 pixels; allowed is 0 or more.'),
    (
      dict(factor=3),
      'Frames of 4x6 pixels do not divide by 3; allowed are heights and '
      'widths that are multiples of 3, of which the nearest are 3x6, 6x6.',
    ),
  ],
)
def test_what_is_not_allowed_is_named(options, message):
  with pytest.raises(ValueError, match=r'\d') as error:
    degraded(jnp.zeros((1, 1, 4, 6, 3)), **options)
  assert str(error.value) == message


def test_upsampled_corners_stay_in_the_corners():
  """By the definition: pixel i of n lies at i (m - 1) / (n - 1) of m."""
  small = np.float64(normal(1, 2, 3, 4, 2))
  got = np.float64(jax.jit(lambda x: upsample_corners(x, 6, 8))(jnp.float32(small)))
  for i in range(6):
    for j in range(8):
      (a, u), (b, v) = np.divmod(i * 2 / 5, 1), np.divmod(j * 3 / 7, 1)
      near = lambda y, x: small[:, :, min(int(y), 2), min(int(x), 3)]
      top = (1 - v) * near(a, b) + v * near(a, b + 1)
      low = (1 - v) * near(a + 1, b) + v * near(a + 1, b + 1)
      np.testing.assert_allclose(got[:, :, i, j], (1 - u) * top + u * low, atol=1e-5)


def test_noise_of_an_index_is_added_to_what_was_upsampled():
  """Index 250 of the cosine schedule in 1000 steps, Nichol & Dhariwal (2021), Eq. 17."""
  frames, eps = normal(1, 2, 4, 4, 3), normal(1, 2, 8, 8, 3, seed=1)
  cond = augmented(COND.replace(low_res=frames), jnp.float32([0.251]), eps, 'upsampled')
  angle = lambda i: (i / 1000 + 0.008) / 1.008 * np.pi / 2
  alpha2 = (np.cos(angle(251)) / np.cos(angle(0))) ** 2
  want = alpha2**0.5 * upsample_corners(frames, 8, 8) + (1 - alpha2) ** 0.5 * eps
  np.testing.assert_allclose(cond.low_res, want, atol=2e-5)


def test_what_is_noised_when_upsampled_is_as_large_as_the_video():
  video = normal(2, 2, 8, 8, 3)
  cond = degraded(video, level=1.0, augment='upsampled')
  assert cond.low_res.shape == video.shape
  with pytest.raises(ValueError, match="Unknown augment: 'large'"):
    make_degrade(factor=2, level=0.0, blur=0.0, augment='large')
