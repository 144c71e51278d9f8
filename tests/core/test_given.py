import jax.numpy as jnp
import numpy as np

from core.given import Given

RNG = np.random.default_rng(0)
VIDEO = jnp.asarray(RNG.uniform(-1, 1, (2, 3, 4, 6, 3)), jnp.float32)
KNOWN = jnp.asarray(RNG.random((2, 3, 4, 6, 1)) < 0.5, jnp.float32)


def test_what_is_hidden_is_not_there():
  given = Given.of(VIDEO, KNOWN)
  hidden = np.asarray(KNOWN[..., 0] == 0)
  assert not np.asarray(given.frames)[hidden].any()
  np.testing.assert_array_equal(np.asarray(given.frames)[~hidden], np.asarray(VIDEO)[~hidden])


def test_a_network_sees_four_channels():
  channels = Given.of(VIDEO, KNOWN).channels
  np.testing.assert_array_equal(channels[..., :3], VIDEO * KNOWN)
  np.testing.assert_array_equal(channels[..., 3:], KNOWN)


def test_what_is_known_is_kept_to_the_last_bit():
  made = jnp.asarray(RNG.normal(size=VIDEO.shape), jnp.float32)
  kept = Given.of(VIDEO, KNOWN).kept(made)
  np.testing.assert_array_equal(kept, jnp.where(KNOWN == 1, VIDEO, made))


def test_a_small_pixel_is_known_where_all_of_it_is():
  known = jnp.ones((1, 1, 4, 4, 1)).at[0, 0, 0, 3].set(0)
  video = jnp.arange(48.0).reshape(1, 1, 4, 4, 3)
  small = Given.of(video, known).smaller(2)
  np.testing.assert_array_equal(small.known[0, 0, :, :, 0], [[1, 0], [1, 1]])
  np.testing.assert_array_equal(small.frames[0, 0, 0, 1], 0)
  np.testing.assert_allclose(small.frames[0, 0, 1, 0], video[0, 0, 2:, :2].mean((0, 1)))
