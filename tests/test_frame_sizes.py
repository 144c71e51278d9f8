"""Videos of frames that are not square: every verb of `sample.py`, and a training."""

import os

import numpy as np
import pytest
from PIL import Image

from configs import ssr, t2v, t2v_masked
from core import video
from data import transforms
from data.decode import decode
from pipelines import Pipeline
from tests.conftest import PLAIN
from tests.scripts import save, save_style

RNG = np.random.default_rng(0)
FRAMES, SIDE = 4, 8
# Frames of the base model have to divide by 2, and those of super-resolution by 4.
MODEL = PLAIN | {'patch': 2}


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  """Models of random weights for squares of 8 pixels, and of super-resolution to 16."""
  folder = tmp_path_factory.mktemp('runs')
  for name, stage in (('t2v', t2v), ('t2v_masked', t2v_masked), ('ssr', ssr)):
    config = stage.get_config('tiny')
    config.model.update(MODEL)
    config.data.update(frames=FRAMES, size=2 * SIDE if name == 'ssr' else SIDE)
    config.sampling.update(steps=1)
    save(folder / name, config)
  return folder


@pytest.fixture
def made(run, tmp_path):
  def made(*argv):
    code, _, err = run(*argv, f'--output={tmp_path}/out.npy')
    assert code == 0, err
    return np.load(tmp_path / 'out.npy')

  return made


@pytest.fixture(scope='module')
def files(models, tmp_path_factory):
  """A wide photo, a wide clip, and a style."""
  folder = tmp_path_factory.mktemp('files')
  Image.fromarray(RNG.integers(0, 256, (40, 64, 3), np.uint8)).save(folder / 'photo.png')
  clip = RNG.integers(0, 256, (FRAMES, 2, 4, 3), np.uint8).repeat(8, 1).repeat(8, 2)
  video.write(folder / 'clip.mp4', clip, fps=16.0)
  save_style(folder / 'neon.npz', models / 't2v', 'in neon style')
  return folder


VERBS = {
  'text_to_video': '',
  'image_to_video': '--image={}/photo.png',
  'inpaint': '--video={}/clip.mp4 --box=0,0,16,16',
  'outpaint': '--video={}/clip.mp4 --pad=1,6,2,0',
  'cinemagraph': '--image={}/photo.png --box=0,0,32,40',
  'edit': '--video={}/clip.mp4',
  'stylize': '--style={}/neon.npz',
}


@pytest.mark.parametrize('verb', VERBS)
def test_every_verb_makes_videos_of_any_size(made, files, verb):
  pixels = made(verb, *VERBS[verb].format(files).split(), '--size=16x8', '--base_only')
  assert pixels.shape == (FRAMES, 16, 8, 3)
  assert pixels.std() > 1


def test_a_size_is_that_after_super_resolution(made, models):
  pixels = made('text_to_video', '--size=16x32')
  assert pixels.shape == (FRAMES, 16, 32, 3)
  options = dict(ssr_workdir=models / 'ssr', size=(16, 32))
  pipeline = Pipeline.load(models / 't2v', **options)
  assert pipeline.size == (16, 32)
  assert pipeline.base.config.data.size == (8, 16)
  np.testing.assert_array_equal([*pipeline.generate(['a red ring'])], [pixels])


def test_the_size_of_training_changes_nothing(made):
  plain, same = made('text_to_video'), made('text_to_video', '--size=16x16')
  assert plain.shape == (FRAMES, 16, 16, 3)
  np.testing.assert_array_equal(plain, same)


def test_a_photo_fills_a_frame_of_any_shape_or_has_borders(made, files):
  photo = np.asarray(Image.open(files / 'photo.png'))[None]  # 40 pixels high and 64 wide
  options = ('image_to_video', f'--image={files}/photo.png', '--size=16x8', '--base_only')
  filling = transforms.resample(photo, 16, 26)[0, :, 9:17].astype(int)
  assert np.abs(made(*options)[0] - filling).max() <= 1
  padded = made(*options, '--fit=pad')[0]
  inside = transforms.resample(photo, 5, 8)[0].astype(int)
  assert np.abs(padded[5:10] - inside).max() <= 1
  assert not padded[:5].any()
  assert not padded[10:].any()


def test_what_is_given_stays_at_the_size_after_super_resolution(made, files):
  pixels = made('inpaint', f'--video={files}/clip.mp4', '--box=8,0,24,16', '--size=16x32')
  clip = decode(files / 'clip.mp4', fps=16.0).astype(int)
  assert pixels.shape == (FRAMES, 16, 32, 3)
  assert np.abs(pixels - clip)[:, :, :8].max() <= 2
  assert np.abs(pixels - clip)[:, :, 8:].max() > 20


NEAREST = 'allowed are heights and widths that are multiples of {}, of which the nearest are {}.'


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ('--size=18x40', f'18x40 pixels do not divide by 4; {NEAREST.format(4, "16x40, 20x40")}'),
    ('--size=16x31 --base_only', f'divide by 2; {NEAREST.format(2, "16x30, 16x32")}'),
    ('--size=16', 'allowed are a height and a width in pixels, as in 64x128'),
    ('--size=0x16', 'allowed are a height and a width in pixels, as in 64x128'),
    ('--size=16x16x3', 'allowed are a height and a width in pixels, as in 64x128'),
  ],
)
def test_a_size_that_is_not_allowed_is_one_line(run, tmp_path, argv, message):
  code, out, err = run('text_to_video', f'--output={tmp_path}/out.mp4', *argv.split())
  assert (code, out) == (2, '')
  assert err.splitlines()[-1].startswith('error: ')
  assert message in err.splitlines()[-1]
  assert os.listdir(tmp_path) == []
