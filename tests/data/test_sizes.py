"""No clip is enlarged silently, however it is stored."""

import itertools
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data import dataset, decode, pipeline, sizes, transforms
from tests.data.videos import encoded, turned

FRAMES = 12


def drawn(height, width, container='matroska', **kwargs):
  row, column, channel = np.indices((height, width, 3), np.uint8)
  picture = 2 * row + 3 * column + 20 * channel
  pictures = np.broadcast_to(picture, (FRAMES, height, width, 3))
  return encoded(pictures, np.arange(FRAMES) * 100, container, **kwargs)


# By the file: its contents, and the height and width at which it is shown.
CLIPS = {
  'large.mkv': (drawn(32, 48), (32, 48)),
  'narrow pixels.mov': (drawn(24, 32, 'mov', lossless='png', aspect='1/2'), (24, 16)),
  'phone.mov': (turned(drawn(20, 32, 'mov', lossless='png')), (32, 20)),
  'tiny.mkv': (drawn(8, 12), (8, 12)),
  'wide pixels.mov': (drawn(24, 16, 'mov', lossless='png', aspect='3/2'), (24, 24)),
}


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  """A dataset of `CLIPS`, with a small clip in another split."""
  videos, out = tmp_path_factory.mktemp('videos'), tmp_path_factory.mktemp('out') / 'set'
  clips = []
  for file, (contents, _) in CLIPS.items():
    (videos / file).write_bytes(contents)
    clips.append(dataset.Clip(file, file, 'train', decode.probe(contents)))
  clips.append(dataset.Clip('large.mkv', 'large.mkv', 'test', clips[0].facts))
  dataset.write(videos, clips, out, shards=None)
  return str(out)


def opened(directory, **kwargs):
  return pipeline.open_source(directory, **{'size': 8, 'frames': 4, 'fps': 10.0} | kwargs)


def files(source):
  return [source[i]['caption'] for i in range(len(source))]


def test_a_clip_is_as_large_as_it_is_shown(directory):
  for file, (contents, shape) in CLIPS.items():
    assert decode.decode(contents, fps=10.0).shape[1:3] == shape, file
  with np.load(f'{directory}/{sizes.FILE}') as result:
    np.testing.assert_array_equal(result['train'], [shape for _, shape in CLIPS.values()])
    np.testing.assert_array_equal(result['test'], [(32, 48)])
  known = tfds.builder_from_directory(directory).info.metadata
  assert known == {'shortest': pytest.approx(1.2), 'least_height': 8, 'least_width': 12}


def test_clips_that_are_large_enough_are_all_read(directory):
  assert files(opened(directory)) == list(CLIPS)
  assert files(opened(directory, shorter_side=8)) == list(CLIPS)
  assert len(opened(directory, size=32, split='test')) == 1  # the other split does not count


@pytest.mark.parametrize(
  ('kwargs', 'small', 'smallest'),
  [
    ({'size': 9}, 1, 8),
    ({'shorter_side': 17}, 2, 8),
    ({'shorter_side': 24, 'crop': 'random'}, 3, 8),
    ({'size': 24, 'min_side': 9}, 2, 16),
    ({'size': 8, 'shorter_side': 24, 'min_side': 20}, 1, 20),
  ],
)
def test_a_clip_that_would_be_enlarged_is_refused(directory, kwargs, small, smallest):
  side = kwargs.get('shorter_side') or kwargs['size']
  with pytest.raises(ValueError, match='would be enlarged') as error:
    opened(directory, **kwargs)
  assert str(error.value) == (
    f'Got a shorter side of {side} pixels; {small} of the 5 clips of {directory} (train) would be '
    f'enlarged to it, the smallest from {smallest}: data.min_side={side} leaves them out.'
  )


@pytest.mark.parametrize(
  ('min_side', 'left'),
  [
    (8, list(CLIPS)),
    (16, ['large.mkv', 'narrow pixels.mov', 'phone.mov', 'wide pixels.mov']),
    (20, ['large.mkv', 'phone.mov', 'wide pixels.mov']),
    (25, ['large.mkv']),
  ],
)
def test_smaller_clips_are_left_out(directory, min_side, left):
  source = opened(directory, size=8, shorter_side=min_side, min_side=min_side)
  assert files(source) == left
  assert all(source[i]['video'].shape == (4, 8, 8, 3) for i in range(len(left)))


@pytest.mark.parametrize('size', [(8, 12), (8, 16), (20, 14), (12, 8), (24, 24)])
def test_a_clip_is_read_where_frames_of_any_shape_are_cut_from_it(directory, size):
  h, w = size
  fit = [file for file, (_, shape) in CLIPS.items() if shape[0] >= h and shape[1] >= w]
  small = [file for file in CLIPS if file not in fit]
  if small:
    with pytest.raises(ValueError, match=f'{len(small)} of the 5 clips .* would be enlarged'):
      opened(directory, size=size)
  source = opened(directory, size=size, min_side=min(size))
  assert files(source) == fit
  for i, file in enumerate(fit):
    assert source[i]['video'].shape == (4, *size, 3)
    if 'pixels' in file:  # not square ones: here they would be resized twice
      continue
    stored = decode.decode(CLIPS[file][0], fps=10.0, count=4)
    inside = transforms.resample(stored, *transforms.covering(*stored.shape[1:3], size))
    top, left = (inside.shape[1] - h) // 2, (inside.shape[2] - w) // 2
    want = inside[:, top : top + h, left : left + w].astype(int)
    # FFmpeg rounds YUV and repeats pixels at an edge.  Adjacent pixels differ by more than that.
    np.testing.assert_allclose(source[i]['video'], want, atol=2)


def test_where_none_is_large_enough_the_largest_is_reported(directory):
  for kwargs in ({'size': 33}, {'size': 8, 'min_side': 33}):
    with pytest.raises(ValueError, match='none of the 5 clips') as error:
      opened(directory, **kwargs)
    assert str(error.value).endswith(f'{directory} (train) is as large: allowed are 1..32.')
  with pytest.raises(ValueError, match=r'Got data\.min_side=-1; 0 or more is allowed'):
    opened(directory, min_side=-1)


def test_a_dataset_of_before_sizes_were_recorded_is_refused(directory, tmp_path):
  old = tmp_path / 'old'
  shutil.copytree(directory, old)
  (old / 'metadata.json').write_text(json.dumps({'shortest': 1.2}))
  (old / sizes.FILE).unlink()
  with pytest.raises(ValueError, match=r'old was built by an earlier version, .*; build it again'):
    opened(str(old))


def test_damaged_sizes_are_refused_in_one_line(tmp_path):
  known, shapes = {'least_height': 8, 'least_width': 8}, [(8 + i % 7, 8 + i % 5) for i in range(99)]
  sizes.write(tmp_path, {'train': np.array(shapes)})
  whole, reasons = (tmp_path / sizes.FILE).read_bytes(), set()
  read = lambda count: sizes.large_enough(
    str(tmp_path), known, 'train', count, range(count), size=8, side=8, min_side=9
  )  # fmt: skip
  assert len(read(99)) == sum(min(shape) >= 9 for shape in shapes)
  for i in range(len(whole)):
    (tmp_path / sizes.FILE).write_bytes(whole[:i] + bytes([whole[i] ^ 255]) + whole[i + 1 :])
    try:
      read(99)
    except ValueError as error:
      reasons.add(str(error))
  assert all(r.startswith(f'{tmp_path}/{sizes.FILE} is missing or damaged: ') for r in reasons)
  assert any('decompressing' in reason for reason in reasons)
  (tmp_path / sizes.FILE).write_bytes(whole)
  with pytest.raises(ValueError, match="damaged: it has 99 sizes for 98 clips of 'train'"):
    read(98)


def test_a_stream_of_the_clips_that_are_left_is_resumed_where_it_was(directory):
  encode = lambda captions: (np.array([[[len(c)]] for c in captions]), np.ones((2, 1), bool))
  source = opened(directory, size=20, min_side=20)
  streams = [pipeline.batches(source, encode, batch=2, seed=0) for _ in range(2)]
  whole, resumed = streams
  want = list(itertools.islice(whole, 5))
  state = {'batches': 3}
  resumed.set_state(state)
  for batch in want[3:]:
    again = next(resumed)
    assert all(np.array_equal(batch[key], again[key]) for key in batch)
  for stream in streams:
    stream.close()
