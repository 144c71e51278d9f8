"""An image is a clip of one frame: it is built, kept, left out and trained on as such."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data import dataset, decode, filters, parts, pictures, pipeline
from data.captions import Line
from tests.data.images import noise
from tests.data.images import written as drawn
from tests.data.test_scenes import panning
from tests.data.videos import built, encoded

PIXELS = noise(24, 32, 3)
BLACK = np.zeros_like(PIXELS)
MOVING = panning(0, 30)  # 48 x 64


def save(path, pixels=PIXELS, **options):
  return drawn(path, pixels, **options)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Images of every form, things that only look like them, and videos."""
  path = tmp_path_factory.mktemp('files')
  exif = Image.Exif()
  exif[0x112] = 6  # turned by a quarter
  for i, name in enumerate(('a.png', 'b.jpg', 'c.webp', 'd.gif', 'e.bmp')):
    options = {'quality': 95, 'subsampling': 0} if name == 'b.jpg' else {}
    save(path / name, np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8), **options)
  save(path / 'upright.jpg', np.rot90(MOVING[0]).copy(), exif=exif, quality=95, subsampling=0)
  save(path / 'copy.png', np.asarray(Image.open(path / 'a.png')))
  save(path / 'black.png', BLACK)
  save(path / 'small.png', noise(8, 32, 3))
  cut = (path / 'b.jpg').read_bytes()
  (path / 'cut.jpg').write_bytes(cut[: len(cut) * 2 // 3])
  save(path / 'silent.png', noise(32, 24, 3))
  frames = [Image.fromarray(frame) for frame in MOVING]
  for name in ('moving.gif', 'moving.webp'):
    frames[0].save(path / name, save_all=True, append_images=frames[1:], duration=100)
  (path / 'one frame.mkv').write_bytes(encoded(MOVING[:1], [0]))
  (path / 'short.mkv').write_bytes(encoded(MOVING[:4], np.arange(4) * 100))
  still = np.random.default_rng(9).integers(0, 256, (48, 64, 3), np.uint8)
  (path / 'still.mjpeg').write_bytes(save(path / 'x.jpg', still).read_bytes() * 60)
  (path / 'x.jpg').unlink()
  (path / 'video.mkv').write_bytes(encoded(panning(1, 30), np.arange(30) * 100))
  return path


@pytest.fixture(scope='module')
def made(folder, tmp_path_factory):
  lines = {file.name: Line(f'film {file.name}', None) for file in folder.iterdir()}
  lines['silent.png'] = Line(None, None)
  out = tmp_path_factory.mktemp('out') / 'set'
  limits = dict(max_black=0.5, max_frozen=0.9, min_motion=0.1, max_distance=20)
  options = dict(fps=10.0, seconds=5.0, min_frames=20, min_side=16)
  return out, built(folder, lines, out, limits=filters.Limits(**limits), **options)


def records(out, split='train'):
  source = tfds.builder_from_directory(out).as_data_source(split=split)
  return {record['file'].decode(): record for record in source}


def test_images_and_videos_are_built_into_one_dataset(folder, made):
  out, report = made
  kept = records(out)
  images = ['a.png', 'b.jpg', 'c.webp', 'd.gif', 'e.bmp', 'upright.jpg']
  assert sorted(kept) == sorted([*images, 'moving.gif', 'video.mkv'])
  assert report['images'] == len(images)
  assert report['seconds'] == pytest.approx(6)
  for file in images:
    record = kept[file]
    assert (record['frames'], record['seconds'], record['start']) == (1, 0, 0)
    assert record['video'] == (folder / file).read_bytes()
    assert np.isnan([record['motion'], record['frozen']]).all()
    pixels = decode.decode(record['video'], fps=60.0, count=1)
    assert pixels.shape[1:3] == (record['height'], record['width'])
    read = pictures.read_image(folder / file, warn=lambda note: None)
    np.testing.assert_allclose(pixels.astype(int), read, atol=8)  # decoders of JPEG differ
  assert (kept['upright.jpg']['height'], kept['upright.jpg']['width']) == (48, 64)


def test_filters_that_make_sense_apply_to_images(made):
  skipped = made[1]['skipped']
  assert skipped['black.png'].startswith('100% of its frames are black')
  assert skipped['copy.png'] == 'it looks like a.png'
  assert skipped['small.png'] == '32 x 8 pixels; at least 16 are needed on each side'
  assert skipped['silent.png'] == 'neither caption nor label'
  assert skipped['cut.jpg'].startswith('damaged: image file is truncated')
  # A video is one, however short it is, and whatever its frames are encoded as.
  assert skipped['one frame.mkv'].endswith('at 10 a second; at least 20 are needed')
  assert skipped['short.mkv'] == '4 frames at 10 a second; at least 20 are needed'
  assert skipped['still.mjpeg'].startswith('100% of its frames equal the one before')
  assert skipped['moving.webp'] == 'it looks like moving.gif'


def test_a_reduced_image_is_a_clip_of_one_frame(tmp_path):
  (folder := tmp_path / 'images').mkdir()
  save(folder / 'a.png', MOVING[0])
  report = built(folder, {'a.png': Line('a', None)}, tmp_path / 'out', store_side=24)
  [record] = records(tmp_path / 'out').values()
  assert (record['frames'], record['seconds'], report['images']) == (1, 0, 1)
  assert (record['height'], record['width']) == (24, 32)
  [pixels] = decode.decode(record['video'], fps=None)
  [wanted] = decode.decode(folder / 'a.png', fps=None, size=24)
  error = lambda picture: np.abs(picture.astype(int) - wanted).mean()
  assert error(pixels) < 16 < error(pixels[:, ::-1])  # colours are stored at half the size


def test_clips_that_are_too_short_are_left_out(made):
  """Of 8 clips, 6 are images, and two have 30 frames at 10 a second."""
  open_ = lambda **window: pipeline.open_source(
    str(made[0]), **{'size': 16, 'fps': 10.0} | window
  )  # fmt: skip
  captions = lambda source: {source[i]['caption'] for i in range(len(source))}
  assert len(open_(frames=1)) == len(open_(frames=1, fps=1000.0)) == 8
  assert parts.left_out(open_(frames=1)) == []
  for frames in (2, 30):
    source = open_(frames=frames)
    assert captions(source) == {'film moving.gif', 'film video.mkv'}
    assert all(source[i]['video'].shape == (frames, 16, 16, 3) for i in range(2))
    assert parts.left_out(source) == [f'6 clips are left out: 6 have fewer than {frames} frames.']
  # A clip that is left out for its length is never enlarged, however small it is.
  assert len(open_(frames=30, size=48)) == 2
  with pytest.raises(ValueError, match=r'5 of the 8 clips .* would be enlarged'):
    open_(frames=1, size=25)
  source = open_(frames=1, size=48, min_side=48)
  assert captions(source) == {'film moving.gif', 'film video.mkv', 'film upright.jpg'}
  assert parts.left_out(source) == ['5 clips are left out: 5 are smaller than data.min_side=48.']
  with pytest.raises(ValueError, match=r'none of the 2 clips of .* that are long enough is as lar'):
    open_(frames=30, size=49)
  with pytest.raises(
    ValueError, match=r'Got data\.frames=31; none of the 8 clips .*: allowed are 1\.\.30'
  ):
    open_(frames=31)


def test_a_dataset_of_images_alone_is_refused_where_videos_are_needed(tmp_path):
  clips = []
  for name in ('a.png', 'b.png'):
    save(tmp_path / name)
    clips.append(dataset.Clip(name, 'a', 'train', decode.Facts(1, 0.0, 24, 32, None)))
  dataset.write(tmp_path, clips, tmp_path / 'set', None)
  opened = lambda frames: pipeline.open_source(
    str(tmp_path / 'set'), size=16, frames=frames, fps=16.0
  )
  assert opened(1)[0]['video'].shape == (1, 16, 16, 3)
  with pytest.raises(ValueError, match='none of the 2 clips') as error:
    opened(80)
  assert str(error.value) == (
    f'Got data.frames=80; none of the 2 clips of {tmp_path}/set (train) at 16 frames a second is '
    'as long: allowed are 1..1 (all are images).'
  )
  (tmp_path / 'set' / 'lengths.npz').unlink()
  assert len(opened(1)) == 2
  with pytest.raises(
    ValueError, match=r'lengths\.npz is missing or damaged: .*; build the dataset'
  ):
    opened(2)
  assert json.loads((tmp_path / 'set' / 'metadata.json').read_text())['shortest'] == 0
