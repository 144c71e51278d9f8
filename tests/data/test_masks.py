import collections

import numpy as np
import pytest

from data import masks
from data.synthetic import MovingShapes

SHAPE = (12, 20, 24)


def drawn(kind, n=50):
  return [masks.KINDS[kind](SHAPE, np.random.default_rng(i)) for i in range(n)]


@pytest.mark.parametrize('kind', sorted(masks.KINDS))
def test_a_mask_is_as_large_as_the_clip_and_of_its_random_numbers(kind):
  first, again, other = (masks.KINDS[kind](SHAPE, np.random.default_rng(i)) for i in (1, 1, 2))
  assert first.shape == SHAPE
  assert first.dtype == bool
  np.testing.assert_array_equal(first, again)
  fixed = {'first_frame', 'first_and_last_frame', 'keyframes', 'nothing'}
  assert np.array_equal(first, other) == (kind in fixed)


@pytest.mark.parametrize('kind', sorted(masks.KINDS))
def test_a_mask_of_one_frame_is_a_mask(kind):
  assert masks.KINDS[kind]((1, 8, 8), np.random.default_rng(0)).shape == (1, 8, 8)


@pytest.mark.parametrize('kind', sorted(masks.KINDS))
def test_a_mask_is_stretched_with_the_frame(kind):
  """Every third column of a frame that is three times as wide has its centre where a column of the
  narrow frame has one, relative to the width; so have rows."""
  t, h, w = SHAPE
  for i in range(20):
    draw = lambda *shape, seed=i: masks.KINDS[kind](shape, np.random.default_rng(seed))
    np.testing.assert_array_equal(draw(t, h, 3 * w)[:, :, 1::3], draw(*SHAPE))
    np.testing.assert_array_equal(draw(t, 3 * h, w)[:, 1::3], draw(*SHAPE))


def test_whole_frames():
  (first,), (both,), (keys,), (none,) = (
    drawn(kind, 1) for kind in ('first_frame', 'first_and_last_frame', 'keyframes', 'nothing')
  )
  assert keys.all((1, 2)).tolist() == 3 * [True, False, False, False]
  assert keys.sum() == keys[::4].size
  assert first.all((1, 2)).tolist() == [True] + 11 * [False]
  assert both.all((1, 2)).tolist() == [True] + 10 * [False] + [True]
  assert first[1:].sum() == both[1:-1].sum() == none.sum() == 0


def test_a_box_stays_and_a_tube_moves():
  for box, tube in zip(drawn('box'), drawn('tube')):
    assert (box == box[0]).all()
    for frame in (*box, *tube):
      rows, columns = np.nonzero(~frame)
      assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # it is one rectangle
      assert masks.MIN_SIDE - 0.1 < (np.ptp(rows) + 1) / 20 < masks.MAX_SIDE + 0.1
  centres = [np.mean(np.nonzero(~tube[i]), 1) for tube in drawn('tube') for i in (0, -1)]
  ways = np.diff(np.reshape(centres, (-1, 2, 2)), axis=1)
  assert np.abs(ways).max() > 5


def test_a_border_hides_edges_alone():
  touched = set()
  for mask in drawn('border'):
    assert (mask == mask[0]).all()
    assert mask[0, 7:13, 9:15].all()
    edges = {
      'top': mask[0, 0],
      'bottom': mask[0, -1],
      'left': mask[0, :, 0],
      'right': mask[0, :, -1],
    }
    touched |= {name for name, edge in edges.items() if not edge.any()}
  assert touched == {'top', 'bottom', 'left', 'right'}


def test_a_region_is_hidden_after_the_first_frame():
  for mask in drawn('region'):
    assert mask[0].all()
    assert (mask[1:] == mask[1]).all()
    assert 0 < (~mask[1]).mean() < masks.MAX_SIDE**2
    for lines in (mask[1], mask[1].T):  # it is one piece: of each line, one stretch
      edges = np.diff(np.pad(~lines, ((0, 0), (1, 1))).astype(int))
      assert ((edges == 1).sum(1) <= 1).all()


def test_kinds_are_drawn_as_often_as_the_mix_says():
  source = masks.Masked(MovingShapes(8, 4, 16), {'first_frame': 3.0, 'nothing': 1.0})
  result = collections.Counter(
    int(source.draw(i, np.random.default_rng(i))['mask'].sum()) for i in range(200)
  )
  assert set(result) == {0, 64}
  assert 30 < result[0] < 70


@pytest.mark.parametrize(
  ('mix', 'message'),
  [
    ({'boxes': 1.0}, 'Unknown masks: boxes.  Allowed: border, box,'),
    ({'box': -1.0, 'tube': 2.0}, 'allowed are 0 or more, and not all 0'),
    ({'box': 0.0}, 'allowed are 0 or more, and not all 0'),
  ],
)
def test_a_wrong_mix_is_refused(mix, message):
  with pytest.raises(ValueError, match=message):
    masks.Masked(MovingShapes(8, 4, 16), mix)
