import numpy as np
import pytest

from evaluation.inception_score import inception_score


def test_sure_of_every_class_equally_is_their_number():
  logits = 1e3 * np.tile(np.eye(7), (4, 1))
  assert inception_score(logits, 4) == pytest.approx((7.0, 0.0))


def test_always_the_same_answer_is_one():
  logits = np.tile(np.random.default_rng(0).normal(size=9), (20, 1))
  assert inception_score(logits, 5) == pytest.approx((1.0, 0.0))


def test_it_is_the_exponential_of_mutual_information():
  p = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
  mean = p.mean(0)
  entropy = lambda q: -(q * np.log(q)).sum()
  expected = np.exp(entropy(mean) - np.mean([entropy(row) for row in p]))
  score, spread = inception_score(np.log(p) + 300, 1)  # whatever is added to a row's logits
  assert (score, spread) == pytest.approx((expected, 0.0))


def test_splits_are_scored_alone():
  logits = 1e3 * np.eye(4)[[0, 0, 0, 1, 2, 3]]
  score, spread = inception_score(logits, 2)
  assert (score, spread) == pytest.approx((2.0, 1.0))  # of 1 and 3


@pytest.mark.parametrize('splits', [0, 4])
def test_a_split_has_a_video(splits):
  with pytest.raises(ValueError, match=f'Got {splits} splits of 3 videos; allowed are 1 to that'):
    inception_score(np.zeros((3, 5)), splits)
