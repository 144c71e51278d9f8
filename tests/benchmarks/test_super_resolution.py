import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.super_resolution import Outcome, compare, gradient_energy, psnr, table


def test_the_psnr_of_a_known_error():
  # Of 0.1, 0.01 and 0 where pixels are in [0, 1], which is half as wide as [-1, 1].
  truth = jnp.zeros((3, 2, 4, 4, 3))
  made = truth + jnp.array([0.2, -0.02, 0.0])[:, None, None, None, None]
  assert np.allclose(psnr(made, truth), [20, 40, 100], atol=1e-3)


def test_the_psnr_is_of_the_mean_over_all_frames():
  truth = jnp.zeros((1, 2, 4, 4, 3))
  assert psnr(truth.at[:, 1].set(0.2), truth)[0] == pytest.approx(20 + 10 * np.log10(2), abs=1e-3)


def test_the_gradient_energy_of_a_ramp():
  down, across = np.indices((6, 5))[..., None]
  ramp = np.broadcast_to(0.03 * down + 0.04 * across, (2, 6, 5, 3))
  result = gradient_energy(jnp.array([ramp, 0 * ramp]))
  assert np.allclose(result, [0.05**2, 0], atol=1e-7)


def test_the_table_has_a_row_for_each_way_of_each_source():
  psnrs = {'bicubic': 30.123, 'super-resolution': 33.0}
  sharpness = {'bicubic': 0.7, 'super-resolution': 0.96}
  outcome = Outcome(2, psnrs, sharpness, [])
  assert table({'moving shapes': outcome}).splitlines()[2:] == [
    '| 2 of moving shapes | bicubic | 30.12 | 0.70 |',
    '| 2 of moving shapes | super-resolution | 33.00 | 0.96 |',
  ]


class Clips:
  """A data source of three clips whose pixels all have the index as their value."""

  def __len__(self):
    return 3

  def __getitem__(self, i):
    return {'video': np.full((2, 4, 4, 3), i, np.uint8), 'caption': ''}


def test_every_clip_counts_once_though_the_last_batch_is_a_full_one():
  # What is made is as far off as the clip's number says: by 0.1, 0.2 and 0.3 of white.
  def enlarge(batch, keys):
    number = jnp.float32(batch['video'])
    ramp = jnp.broadcast_to(jnp.arange(4.0)[:, None], number.shape) / 10
    made = ramp + 0.2 * (number + 1)
    return {'low resolution': ramp, 'bicubic': made, 'super-resolution': 2 * ramp, 'truth': ramp}

  encode = lambda texts: (np.zeros((len(texts), 1, 4), np.float32), np.ones((len(texts), 1), bool))
  outcome = compare(enlarge, Clips(), encode, clips=200, batch=2, seed=0)
  assert (outcome.clips, len(outcome.shown)) == (3, 3)
  assert outcome.shown[0].shape == (4, 4, 4, 3)
  assert outcome.psnr['bicubic'] == pytest.approx(
    -20 * np.mean(np.log10([0.1, 0.2, 0.3])), abs=1e-3
  )
  assert outcome.sharpness == pytest.approx({'bicubic': 1, 'super-resolution': 4}, abs=1e-3)
