import jax
import jax.numpy as jnp
import numpy as np

from core.condition import Condition

TEXT = jnp.arange(1.0, 13.0).reshape(2, 3, 2)
MASK = jnp.array([[True, True, False], [True, False, False]])


def test_without_text_nothing_of_it_is_left():
  null = Condition(TEXT, MASK, frames=jnp.ones((2, 4, 2, 2, 1)), level=jnp.ones(2)).without_text()
  assert not null.text.any()
  assert not null.mask.any()
  assert null.frames.all()  # guidance is by the text alone
  assert null.level.all()


def test_text_is_dropped_example_by_example():
  some = Condition(TEXT, MASK).without_text(jnp.array([True, False]))
  np.testing.assert_array_equal(some.text[1], TEXT[1])
  np.testing.assert_array_equal(some.mask, [[False] * 3, [True, False, False]])
  assert not some.text[0].any()
  kept = Condition(TEXT, MASK).without_text(False)
  np.testing.assert_array_equal(kept.text, TEXT)
  np.testing.assert_array_equal(kept.mask, MASK)


def test_no_mask_is_a_mask_of_every_token():
  some = Condition(TEXT).without_text(jnp.array([True, False]))
  np.testing.assert_array_equal(some.mask, [[False] * 3, [True] * 3])


def test_dropping_keeps_the_type_of_the_text():
  assert Condition(TEXT.astype(jnp.bfloat16)).without_text().text.dtype == jnp.bfloat16


def test_a_condition_is_a_tree_whose_absent_parts_stay_absent():
  doubled = jax.jit(lambda c: jax.tree.map(lambda a: 2 * a, c))(Condition(TEXT))
  np.testing.assert_array_equal(doubled.text, 2 * TEXT)
  assert (doubled.mask, doubled.frames, doubled.level) == (None, None, None)
