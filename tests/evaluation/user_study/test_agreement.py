import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from evaluation.user_study.judgements import agreement, interval, sign_test


@pytest.mark.parametrize('n', [1, 10, 400])
def test_the_interval_of_none_or_all_is_closed(n):
  # Clopper and Pearson's equation, (1 - high)^n = tail, solved by hand.
  low, high = interval(0, n)
  assert low == 0
  assert high == pytest.approx(1 - 0.025 ** (1 / n), rel=1e-12)
  assert interval(n, n) == pytest.approx((1 - high, 1), rel=1e-12)


def test_intervals_are_scipys_and_cover():
  assert interval(5, 10) == pytest.approx((0.187086, 0.812914), abs=1e-6)
  for k, n, confidence in [(1, 7, 0.95), (250, 400, 0.95), (13, 40, 0.9), (399, 400, 0.99)]:
    expected = stats.binomtest(k, n).proportion_ci(confidence, 'exact')
    assert interval(k, n, confidence) == pytest.approx(tuple(expected), rel=1e-9)
  for share in (0.03, 0.5, 0.62):
    covered = [k for k in range(41) if interval(k, 40)[0] <= share <= interval(k, 40)[1]]
    assert stats.binom.pmf(covered, 40, share).sum() >= 0.95
  with pytest.raises(ValueError, match='Got 3 of 2; allowed are 0 to n of n'):
    interval(3, 2)


def test_the_sign_test_is_exact_and_has_two_sides():
  for k, n in [(0, 5), (9, 10), (1, 10), (5, 10), (30, 47), (220, 400)]:
    far = abs(Fraction(k, n) - Fraction(1, 2))
    as_far = [i for i in range(n + 1) if abs(Fraction(i, n) - Fraction(1, 2)) >= far]
    expected = Fraction(sum(math.comb(n, i) for i in as_far), 2**n)
    assert sign_test(k, n) == pytest.approx(float(expected), rel=1e-10)
    assert sign_test(k, n) == sign_test(n - k, n)
  assert sign_test(9, 10) == pytest.approx(22 / 1024)


def units(*raters):
  return [[v for v in column if v != '.'] for column in zip(*(row.split() for row in raters))]


@pytest.mark.parametrize(
  ('raters', 'alpha'),
  # Krippendorff, 2011, "Computing Krippendorff's Alpha-Reliability", Sec. A, B and C.
  [
    (('0 1 0 0 0 0 0 0 1 0', '1 1 1 0 0 1 0 0 0 0'), 0.095),
    (('a a b b d c c c e d d a', 'b a b b b c c c e d d d'), 0.692),
    (
      (
        '1 2 3 3 2 1 4 1 2 . . .',
        '1 2 3 3 2 2 4 1 2 5 . 3',
        '. 3 3 3 2 3 4 2 2 5 1 .',
        '1 2 3 3 2 4 4 1 2 5 1 .',
      ),
      0.743,
    ),
  ],
)
def test_agreement_is_krippendorffs(raters, alpha):
  assert agreement(units(*raters)) == pytest.approx(alpha, abs=5e-4)


def test_agreement_of_one_mind_of_none_and_of_chance():
  assert agreement([[True, True], [False] * 3]) == 1
  assert agreement([[True, True], [True] * 3]) is None
  assert agreement([[True], [False]]) is None
  rng = np.random.default_rng(0)
  assert abs(agreement((rng.random((4000, 3)) < 0.7).tolist())) < 0.03
