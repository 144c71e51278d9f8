import json
import os
import pathlib

import numpy as np
import pytest

from evaluation.feature_statistics import (
  Moments,
  feature_moments,
  frechet_distance,
  inception_score,
  merge_moments,
)

LUMIERE_DATA = os.environ.get('LUMIERE_DATA')


def features(n, d, seed=0, **normal):
  return np.random.default_rng(seed).normal(size=(n, d), **normal)


def distance(a, b):
  return frechet_distance(feature_moments(a), feature_moments(b))


@pytest.mark.skipif(LUMIERE_DATA is None, reason='LUMIERE_DATA names no folder of goldens')
@pytest.mark.parametrize('case', ['d16', 'd400', 'd400_rank_deficient'])
def test_published_distances(case):
  goldens = json.loads((pathlib.Path(LUMIERE_DATA) / 'goldens' / 'goldens.json').read_text())
  golden = goldens['frechet_distance']['cases'][case]
  r, d = np.random.RandomState(golden['seed']), golden['d']
  a = r.standard_normal((golden['n1'], d))
  mix = r.standard_normal((d, d)) / np.sqrt(d)
  b = r.standard_normal((golden['n2'], d)) @ mix + 0.3
  # The golden's root of a singular product is off by so much: of a set with itself it gives -3e-5.
  assert distance(a, b) == pytest.approx(golden['frechet'], rel=1e-6)
  assert distance(a, a) < 1e-9


def test_one_feature_is_a_difference_of_means_and_of_deviations():
  a, b = features(50, 1), features(70, 1, 1, loc=2.0, scale=3.0)
  difference = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
  assert distance(a, b) == pytest.approx(difference, rel=1e-12)


def test_commuting_covariances_have_a_closed_form():
  rng = np.random.default_rng(0)
  rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
  s, t = rng.uniform(0, 2, 8), rng.uniform(0, 2, 8)
  s[:3] = 0  # singular
  a, b = (
    Moments(101, np.zeros(8), 100 * rotation @ np.diag(v**2) @ rotation.T) for v in (s, t)
  )  # fmt: skip
  assert frechet_distance(a, b) == pytest.approx(((s - t) ** 2).sum(), rel=1e-9)


def test_fewer_samples_than_features_change_nothing_that_a_rotation_does_not():
  a, b = features(10, 40), features(12, 40, 1)
  rotation = np.linalg.qr(features(40, 40, 2))[0]
  assert distance(a @ rotation, b @ rotation) == pytest.approx(distance(a, b), rel=1e-9)
  assert distance(a, a) < 1e-12


@pytest.mark.parametrize('far', [0.0, 1e6])
def test_moments_in_parts_are_those_of_the_whole(far):
  x = features(101, 5, loc=far)
  parts = [feature_moments(part) for part in np.split(x, [1, 7, 60])]
  total = parts[0]
  for part in parts[1:]:
    total = merge_moments(total, part)
  assert total.count == 101
  np.testing.assert_allclose(total.mean, x.mean(0), rtol=1e-12)
  np.testing.assert_allclose(total.covariance, np.cov(x, rowvar=False), rtol=1e-6, atol=1e-9)


def test_one_sample_has_no_covariance():
  with pytest.raises(ValueError, match=r'Got 1 samples; a covariance needs 2 or more\.'):
    distance(features(1, 4), features(5, 4))


def test_what_is_not_finite_is_no_feature():
  x = features(4, 3)
  x[2, 1] = np.nan
  with pytest.raises(ValueError, match=r'1 of 4 are not finite\.'):
    feature_moments(x)


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
  score, deviation = inception_score(np.log(p) + 300, 1)  # whatever is added to a row's logits
  assert (score, deviation) == pytest.approx((expected, 0.0))


def test_splits_are_scored_alone():
  logits = 1e3 * np.eye(4)[[0, 0, 0, 1, 2, 3]]
  score, deviation = inception_score(logits, 2)
  assert (score, deviation) == pytest.approx((2.0, 1.0))  # of 1 and 3


@pytest.mark.parametrize('splits', [0, 4])
def test_a_split_has_a_video(splits):
  with pytest.raises(ValueError, match=f'Got {splits} splits of 3 videos; allowed are 1 to that'):
    inception_score(np.zeros((3, 5)), splits)
