import jax
import jax.numpy as jnp
import numpy as np

from core.condition import Condition

TEXT = jnp.arange(1.0, 13.0).reshape(2, 3, 2)
TEXT_MASK = jnp.array([[True, True, False], [True, False, False]])
RNG = np.random.default_rng(0)
VIDEO = jnp.asarray(RNG.uniform(-1, 1, (2, 3, 4, 6, 3)), jnp.float32)
MASK = jnp.asarray(RNG.random((2, 3, 4, 6, 1)) < 0.5, jnp.float32)


def test_without_text_the_other_conditions_stay():
  cond = Condition(TEXT, TEXT_MASK, low_res=jnp.ones((2, 4, 2, 2, 1)), noise_level=jnp.ones(2))
  null = cond.without_text()
  assert not null.text.any()
  assert not null.text_mask.any()
  assert null.low_res.all()
  assert null.noise_level.all()


def test_text_is_dropped_example_by_example():
  some = Condition(TEXT, TEXT_MASK).without_text(jnp.array([True, False]))
  np.testing.assert_array_equal(some.text[1], TEXT[1])
  np.testing.assert_array_equal(some.text_mask, [[False] * 3, [True, False, False]])
  assert not some.text[0].any()
  kept = Condition(TEXT, TEXT_MASK).without_text(False)
  np.testing.assert_array_equal(kept.text, TEXT)
  np.testing.assert_array_equal(kept.text_mask, TEXT_MASK)


def test_no_text_mask_is_a_mask_of_every_token():
  some = Condition(TEXT).without_text(jnp.array([True, False]))
  np.testing.assert_array_equal(some.text_mask, [[False] * 3, [True] * 3])


def test_dropping_keeps_the_type_of_the_text():
  assert Condition(TEXT.astype(jnp.bfloat16)).without_text().text.dtype == jnp.bfloat16


def test_a_condition_is_a_tree_whose_absent_fields_stay_absent():
  doubled = jax.jit(lambda c: jax.tree.map(lambda a: 2 * a, c))(Condition(TEXT))
  np.testing.assert_array_equal(doubled.text, 2 * TEXT)
  present = {name for name, value in vars(doubled).items() if value is not None}
  assert present == {'text'}
  assert not doubled.videos


def test_pixels_that_are_not_given_are_zero():
  cond = Condition.from_mask(VIDEO, MASK)
  hidden = np.asarray(MASK[..., 0] == 0)
  assert not np.asarray(cond.masked_video)[hidden].any()
  np.testing.assert_array_equal(np.asarray(cond.masked_video)[~hidden], np.asarray(VIDEO)[~hidden])


def test_videos_are_in_the_order_of_the_paper():
  """<J, C, M>: the masked video, then the mask, after the noisy video."""
  low_res = jnp.zeros((2, 3, 2, 3, 3))
  videos = Condition.from_mask(VIDEO, MASK).replace(low_res=low_res).videos
  assert list(videos) == ['masked_video', 'mask', 'low_res']
  np.testing.assert_array_equal(videos['masked_video'], VIDEO * MASK)
  np.testing.assert_array_equal(videos['mask'], MASK)


def test_a_composite_has_the_bits_of_the_given_pixels():
  generated = jnp.asarray(RNG.normal(size=VIDEO.shape), jnp.float32)
  composite = Condition.from_mask(VIDEO, MASK).composite(generated)
  np.testing.assert_array_equal(composite, jnp.where(MASK == 1, VIDEO, generated))


def test_a_small_pixel_is_given_where_all_of_it_is():
  mask = jnp.ones((1, 1, 4, 4, 1)).at[0, 0, 0, 3].set(0)
  video = jnp.arange(48.0).reshape(1, 1, 4, 4, 3)
  small = Condition.from_mask(video, mask).replace(text=TEXT).downsample_mask(2)
  np.testing.assert_array_equal(small.mask[0, 0, :, :, 0], [[1, 0], [1, 1]])
  np.testing.assert_array_equal(small.masked_video[0, 0, 0, 1], 0)
  np.testing.assert_allclose(small.masked_video[0, 0, 1, 0], video[0, 0, 2:, :2].mean((0, 1)))
  np.testing.assert_array_equal(small.text, TEXT)
