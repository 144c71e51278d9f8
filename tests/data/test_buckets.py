"""Each clip goes to the bucket that fits it best."""

import itertools
import math
import shutil

import numpy as np
import pytest

from data import buckets, dataset, decode, fixed, lengths, pipeline
from data.mixture import open_sources
from data.parts import parts
from tests.data.videos import encoded

FPS = 10.0
# By the file: frames, height and width.
CLIPS = {
  'long wide': (12, 18, 32),
  'long tall': (12, 32, 18),
  'long square': (12, 24, 24),
  'short wide': (5, 18, 32),
  'short square, large': (5, 40, 40),
  'picture': (1, 20, 30),
  'small picture': (1, 8, 8),
}
BUCKETS = ((8, 9, 16), (8, 16, 9), (4, 8, 8), (4, 36, 36), (1, 8, 12))
WANT = {
  'long wide': 0,
  'long tall': 1,
  'long square': 0,  # as far from 9x16 as from 16x9
  'short wide': 2,
  'short square, large': 3,  # the largest that it fills
  'picture': 4,
}


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  """A dataset of `CLIPS`."""
  videos, out = tmp_path_factory.mktemp('videos'), tmp_path_factory.mktemp('out') / 'set'
  clips = []
  for name, shape in CLIPS.items():
    contents = encoded(np.zeros((*shape, 3), np.uint8), np.arange(shape[0]) * 100, 'matroska')
    (videos / f'{name}.mkv').write_bytes(contents)
    clips.append(dataset.Clip(f'{name}.mkv', name, 'train', decode.probe(contents)))
  dataset.write(videos, clips, out, shards=None)
  return str(out)


def opened(directory, **kwargs):
  options = {'size': 8, 'frames': 1, 'fps': FPS, 'buckets': BUCKETS, 'min_side': 8} | kwargs
  return open_sources(directory, **options)


def test_each_clip_is_in_the_bucket_that_fits_it_best(directory):
  source, got = opened(directory), {}
  for part in parts(source):
    assert part.share * len(source) == len(part.examples)
    for index in part.examples:
      example = source[index]
      assert example['video'].shape == (*BUCKETS[part.bucket], 3)
      got[example['caption']] = part.bucket
  # The small picture cannot fill 8x12: it would be enlarged, and `min_side` leaves it out.
  assert got == WANT
  assert len(source) == len(WANT)


def test_a_clip_that_would_be_enlarged_is_refused(directory):
  message = r'side of 8 pixels; 1 of the 2 clips .* in the bucket 1x8x12 would be enlarged'
  with pytest.raises(ValueError, match=message):
    opened(directory, min_side=0)
  with pytest.raises(ValueError, match=r'data\.min_side=99; none of the 7 clips .* is as large'):
    opened(directory, min_side=99)


def test_clips_that_are_shorter_than_all_buckets_are_left_out(directory):
  source = opened(directory, buckets=BUCKETS[:4])
  captions = {source[i]['caption'] for i in range(len(source))}
  assert captions == {*WANT} - {'picture'}
  assert source.left_out == '2 clips are left out: 2 have fewer than 4 frames.'
  with pytest.raises(ValueError, match=r'none of the 7 clips .* is as long: allowed are 1..12'):
    opened(directory, buckets=((13, 8, 8), (20, 8, 8)))


def test_a_dataset_without_lengths_is_refused(directory, tmp_path):
  shutil.copytree(directory, tmp_path / 'old')
  (tmp_path / 'old' / lengths.FILE).unlink()
  with pytest.raises(ValueError, match=r'lengths.npz is missing or damaged: .*; build the dataset'):
    opened(str(tmp_path / 'old'))
  assert len(opened(str(tmp_path / 'old'), buckets=())) == len(CLIPS)


def chosen(bucket_list, sides, height, width, frames):
  """The same choice for one clip, by the words of `buckets.best`."""
  long_enough = [i for i, (t, _, _) in enumerate(bucket_list) if frames >= t]
  fits = lambda i: (
    min(height / bucket_list[i][1], width / bucket_list[i][2]) * min(bucket_list[i][1:]) >= sides[i]
  )
  filled = [i for i in long_enough if fits(i)]
  left = filled or long_enough
  most = max(bucket_list[i][0] for i in left)
  left = [i for i in left if bucket_list[i][0] == most]
  factor = lambda i: abs(math.log(height / width) - math.log(bucket_list[i][1] / bucket_list[i][2]))
  nearest = min(map(factor, left))
  left = [i for i in left if factor(i) == nearest]
  pixels = lambda i: bucket_list[i][1] * bucket_list[i][2]
  return (max if filled else min)(left, key=pixels)


def test_the_choice_is_that_of_its_description():
  rng = np.random.default_rng(0)
  for _ in range(20):
    each = {tuple(map(int, rng.integers((1, 8, 8), (5, 40, 40)))) for _ in range(6)} | {(1, 8, 8)}
    each = sorted(each)
    sides = [min(h, w) for _, h, w in each]
    shapes, frames = rng.integers(6, 60, (30, 2)), rng.integers(1, 6, 30)
    result = buckets.best(each, sides, shapes, frames)
    want = [chosen(each, sides, h, w, n) for (h, w), n in zip(shapes.tolist(), frames.tolist())]
    assert result.tolist() == want


@pytest.mark.parametrize(
  'wrong', [(8, 9, 16), ((8, 9),), ((8, 9, 16.5),), ((0, 9, 16),), ((8, 9, 16), (8, 9, 16)), 'wide']
)
def test_what_is_no_bucket_is_refused(wrong):
  with pytest.raises(ValueError, match=r'data\.buckets=.*; allowed are different shapes'):
    open_sources('synthetic', size=8, frames=4, fps=16.0, buckets=wrong)


def test_moving_shapes_are_in_all_buckets_as_often():
  source = open_sources('synthetic', size=8, frames=1, fps=16.0, buckets=((2, 8, 8), (1, 8, 16)))
  encode = lambda captions: (np.zeros((len(captions), 1, 1)), np.ones((len(captions), 1), bool))
  stream = pipeline.batches(source, encode, batch=2, seed=0)
  shapes = [batch['video'].shape for batch in itertools.islice(stream, 6)]
  stream.close()
  assert shapes.count((2, 2, 8, 8, 3)) == shapes.count((2, 1, 8, 16, 3)) == 3


def test_a_mixture_has_the_clips_of_its_sources_in_the_buckets_of_all(directory):
  mixture = ((directory, 0.75), ('synthetic', 0.25))
  source = opened('synthetic', mixture=mixture)
  share = {True: 0, False: 0}
  for part in parts(source):
    share[part.source is parts(source)[0].source] += float(part.share)
  assert share == {True: pytest.approx(0.75), False: pytest.approx(0.25)}
  assert {part.bucket for part in parts(source)} == set(range(5))


@pytest.mark.parametrize(
  ('source', 'mixture', 'message'),
  [
    ('a', (('b', 1.0),), 'Got both data.source=a and a data.mixture; allowed is one of them'),
    ('synthetic', ('b', 1.0), 'allowed are names of sources with weights above 0'),
    ('synthetic', (('b', 0.0),), 'allowed are names of sources with weights above 0'),
    ('synthetic', (('b', math.inf),), 'allowed are names of sources with weights above 0'),
    ('synthetic', ((1, 1.0),), 'allowed are names of sources with weights above 0'),
    ('synthetic', (('none', 1.0),), "Got the source 'none'; allowed are 'synthetic', a folder"),
  ],
)
def test_what_is_no_mixture_is_refused(source, mixture, message):
  with pytest.raises(ValueError, match=message):
    open_sources(source, mixture=mixture, size=8, frames=1, fps=16.0)


def test_the_examples_that_are_evaluated_are_of_all_buckets(directory):
  examples = fixed.Fixed(opened(directory), 4)
  shapes = [examples[i]['video'].shape[:3] for i in range(len(examples))]
  assert len(shapes) == 4
  assert shapes == [BUCKETS[part.bucket] for part in parts(examples) for _ in part.examples]
  assert len(fixed.Fixed(opened(directory), 64)) == len(WANT)
