import weakref

import numpy as np
import pytest

from evaluation.xt_slice import (
  MARGIN,
  MAX_HEIGHT,
  MAX_ROWS,
  THUMBNAIL,
  WIDTH,
  picture,
  resize_nearest,
)

RNG = np.random.default_rng(0)
MARK = (255, 0, 200)


def noise(frames, h=32, w=40):
  return RNG.integers(0, 200, (frames, h, w, 3), np.uint8)  # no white, no mark


def slices_in(image):
  """What is beside the first frames, where it is not white paper or letters."""
  right = image[:, -MARGIN - WIDTH : -MARGIN]
  drawn = (right < 255).any(-1).all(1)
  edges = np.flatnonzero(np.diff(np.concatenate([[0], drawn, [0]])))
  return [right[a:b] for a, b in edges.reshape(-1, 2)]


def test_the_pixels_of_slices_are_those_of_the_videos():
  a, b = noise(10), noise(6, h=20, w=64)
  first, second = slices_in(picture([('a', a), ('b', b)], row=7))
  for result, video in ((first, a), (second, b)):
    t, _, w, _ = video.shape
    expected = np.repeat(np.repeat(video[:, 7], MAX_ROWS, 0), WIDTH // w, 1)
    assert result.shape == (t * MAX_ROWS, WIDTH, 3)
    assert np.array_equal(result, expected)


def test_a_column_lies_flat():
  video = noise(10)
  (result,) = slices_in(picture([('a', video)], column=39))
  assert np.array_equal(result[::MAX_ROWS, :: WIDTH // 32], video[:, :, 39])


@pytest.mark.parametrize(('place', 'row'), [(None, 16), (0, 0), (1, 1), (0.0, 0), (0.99, 31)])
def test_a_row_is_an_index_or_a_share(place, row):
  video = noise(5)
  (result,) = slices_in(picture([('a', video)], row=place))
  assert np.array_equal(result[::MAX_ROWS, :: WIDTH // 40], video[:, row])


def test_a_share_is_of_every_video_itself():
  videos = {'a': noise(5), 'b': noise(5, h=8)}
  first, second = slices_in(picture(videos.items(), row=0.5))
  assert np.array_equal(first[::MAX_ROWS, :: WIDTH // 40], videos['a'][:, 16])
  assert np.array_equal(second[::MAX_ROWS, :: WIDTH // 40], videos['b'][:, 4])


def test_frames_of_long_videos_are_lower_and_of_one_height_in_all():
  first, second = slices_in(picture([('a', noise(MAX_HEIGHT // 2)), ('b', noise(MAX_HEIGHT // 4))]))
  assert (len(first), len(second)) == (MAX_HEIGHT, MAX_HEIGHT // 2)
  (only,) = slices_in(picture([('a', noise(MAX_HEIGHT + 9))]))
  assert len(only) == MAX_HEIGHT + 9


@pytest.mark.parametrize('kind', ['row', 'column'])
def test_the_first_frame_is_there_and_the_line_where_the_slice_is(kind):
  video = noise(3, h=32, w=32)
  left = picture([('a', video)], **{kind: 0.75})[:, MARGIN : MARGIN + THUMBNAIL]
  enlarged = resize_nearest(video[0], THUMBNAIL, THUMBNAIL)
  line = slice(24 * 5 + 1, 24 * 5 + 4)  # every pixel of the frame is one of 5 by 5
  enlarged[(line,) if kind == 'row' else (slice(None), line)] = MARK
  assert any(
    np.array_equal(left[y : y + THUMBNAIL], enlarged) for y in range(len(left) - THUMBNAIL + 1)
  )


def test_names_are_written_and_cut_where_they_are_too_long():
  video = noise(3)
  named = lambda name: picture([(name, video)])
  assert not np.array_equal(named('a panda'), named('a lion'))
  long = 'a panda plays the ukulele ' * 20
  assert np.array_equal(named(long + 'x'), named(long + 'y'))
  assert np.array_equal(named('a  b'), named('a\nb'))
  assert named(long).shape == named('a').shape


def test_nearest_pixels():
  image = np.arange(6, dtype=np.uint8)[None, :, None].repeat(3, 2)
  assert resize_nearest(image, 1, 12)[0, :, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
  assert resize_nearest(image, 2, 3)[:, :, 0].tolist() == [[1, 3, 5]] * 2


def test_no_more_videos_are_held_than_the_one_at_hand_and_the_next():
  made = []

  def read():
    for i in range(6):
      video = noise(4)
      made.append(weakref.ref(video))
      assert sum(reference() is not None for reference in made) <= 2
      yield f'{i}', video

  assert len(slices_in(picture(read()))) == 6


@pytest.mark.parametrize(
  ('videos', 'place', 'message'),
  [
    ({}, {}, 'Got no videos; allowed is one or more'),
    ({'a': 32}, {'row': 1, 'column': 2}, 'Got row 1 and column 2; allowed is one of the two'),
    ({'a': 32, 'b': 8}, {'row': 8}, 'b has no row 8; allowed is 0 to 7'),
    ({'a': 32}, {'column': 40}, 'a has no column 40; allowed is 0 to 39'),
    ({'a': 32}, {'row': -1}, 'a has no row -1; allowed is 0 to 31'),
    ({'a': 32}, {'row': 1.0}, 'a has no row 1.0; allowed is a share from 0 to below 1'),
  ],
)
def test_what_cannot_be_drawn_is_reported(videos, place, message):
  with pytest.raises(ValueError, match=message):
    picture(((name, noise(2, h=h)) for name, h in videos.items()), **place)
