"""What `sample.py` makes of more than a prompt, with models of random weights."""

import os
import pathlib
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from configs import ssr, t2v, t2v_masked
from core import video
from data import transforms
from data.decode import decode
from pipelines.checkpoints import Checkpoint
from tests.conftest import PLAIN
from tests.scripts import call, save, save_style

RNG = np.random.default_rng(0)
FRAMES, SIDE = 8, 16
HIDDEN = np.zeros((SIDE, SIDE), bool)
HIDDEN[6:10, 4:12] = True
KEPT = 2  # levels of 255 by which what is given may differ


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  """Video models of 8 frames, one conditioned on masked videos, and super-resolution."""
  folder = tmp_path_factory.mktemp('runs')
  for name, stage in (('t2v', t2v), ('t2v_masked', t2v_masked)):
    config = stage.get_config('tiny')
    config.model.update(PLAIN)
    config.data.update(frames=FRAMES, size=SIDE)
    config.sampling.update(steps=2, guidance=2.0)
    save(folder / name, config)
  config = ssr.get_config('tiny')
  config.model.update(PLAIN)
  config.sampling.update(steps=2)
  save(folder / 'ssr', config)
  return folder


@pytest.fixture
def made(run, tmp_path):
  """Makes a video without loss: of low resolution, or with super-resolution."""

  def made(*argv, ssr=False):
    code, _, err = run(*argv, f'--output={tmp_path}/out.npy', f'--base_only={not ssr}')
    assert code == 0, err
    pixels = np.load(tmp_path / 'out.npy')
    assert pixels.shape == (FRAMES, *[(1 + ssr) * SIDE] * 2, 3)
    return pixels

  return made


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """A photo of another aspect, squares as large as what is made, a clip of ten frames, masks."""
  folder = tmp_path_factory.mktemp('files')
  pixels = lambda *shape: RNG.integers(0, 256, (*shape, 3), np.uint8)
  Image.fromarray(pixels(40, 64)).save(folder / 'photo.png')
  Image.fromarray(pixels(SIDE, SIDE)).save(folder / 'image.png')
  clip = pixels(10, 4, 4).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
  video.write(folder / 'clip.mp4', clip, fps=16.0)
  Image.fromarray(np.uint8(255 * HIDDEN[::2, ::2])).save(folder / 'mask.png')
  return folder


def same(a, b):
  """Whether two videos are one to the eye."""
  return np.abs(a.astype(int) - b).max() <= KEPT


def moves(pixels):
  """Whether frames differ from one another, by more than rounding."""
  return np.abs(np.diff(pixels.astype(int), axis=0)).mean() > KEPT


def test_an_image_is_the_first_frame(made, files):
  pixels = made('image_to_video', f'--image={files}/image.png')
  assert same(pixels[0], np.asarray(Image.open(files / 'image.png')))
  assert moves(pixels)


@pytest.mark.parametrize(('fit', 'black'), [('crop', 0), ('pad', 6)])
def test_a_photo_fills_the_frame(made, files, fit, black):
  pixels = made('image_to_video', f'--image={files}/photo.png', f'--fit={fit}')
  rows = (pixels[0] == 0).all((1, 2))
  assert rows.sum() == black
  assert same(rows[:3], rows[-3:])


@pytest.mark.parametrize('hidden', ['--mask={}/mask.png', '--box=4,6,8,4'])
def test_outside_a_mask_a_video_stays(made, files, hidden):
  clip = decode(files / 'clip.mp4', fps=16.0)[:FRAMES]
  options = (f'--video={files}/clip.mp4', '--clip=start', hidden.format(files))
  pixels = made('inpaint', *options)
  assert same(pixels[:, ~HIDDEN], clip[:, ~HIDDEN])
  assert not same(pixels[:, HIDDEN], clip[:, HIDDEN])


@pytest.mark.parametrize(
  ('fit', 'note'),
  [('crop', '--fit=crop cuts off all that is hidden: nothing is generated.\n'), ('pad', '')],
)
def test_a_mask_that_is_cut_off_is_reported(run, capsys, fit, note):
  clip, hidden = np.zeros((1, 40, 64, 3), np.uint8), np.zeros((1, 40, 64), bool)
  hidden[..., :4] = True
  with flagsaver.flagsaver(fit=fit):
    flags.FLAGS.mark_as_parsed()
    fitted = sys.modules['sample']._fit(clip, hidden, (20, 20))
  assert fitted[1].any() == (fit == 'pad')
  assert capsys.readouterr().err == note


def test_super_resolution_keeps_what_is_given_at_its_own_size(made, files):
  clip = transforms.resample(decode(files / 'clip.mp4', fps=16.0)[:FRAMES], 2 * SIDE, 2 * SIDE)
  options = (f'--video={files}/clip.mp4', '--clip=start', '--box=4,6,8,4')
  pixels = made('inpaint', *options, ssr=True)
  hidden = HIDDEN.repeat(2, 0).repeat(2, 1)
  assert same(pixels[:, ~hidden], clip[:, ~hidden])
  assert not same(pixels[:, hidden], clip[:, hidden])


def test_a_video_stays_inside_a_border(made, files):
  pixels = made('outpaint', f'--video={files}/clip.mp4', '--clip=start', '--pad=4,0,4,8')
  clip = decode(files / 'clip.mp4', fps=16.0)[:FRAMES]
  inside = transforms.resample(clip, 8, 8)
  assert same(pixels[:, :8, 4:12], inside)
  assert moves(pixels[:, 8:])


def test_a_cinemagraph_moves_in_its_region_alone(made, files):
  pixels = made('cinemagraph', f'--image={files}/image.png', f'--mask={files}/mask.png')
  image = np.asarray(Image.open(files / 'image.png'))
  assert same(pixels[0], image)
  assert same(pixels[:, ~HIDDEN], np.repeat(image[None, ~HIDDEN], FRAMES, 0))
  assert moves(pixels[:, HIDDEN])


def test_an_edit_goes_from_the_video_to_another(made, files):
  """With models of random weights, which know of no video, the way is all that can be seen."""
  options = ('edit', f'--video={files}/clip.mp4', '--clip=start', '--steps=8')
  weak, strong, whole = (made(*options, f'--strength={s}') for s in (0.01, 0.6, 1))
  fresh = made('text_to_video', '--steps=8')
  assert same(whole, fresh)
  assert not same(strong, fresh)
  assert not same(weak, strong)


PUBLISHED = {  # what the paper's page shows inputs of, and where its masks are
  'image_to_video': ('image', 'lumiere__image__mona_lisa.jpg', None),
  'inpaint': ('video', 'lumiere__inpainting__masked_pizza.mp4', (0, 0, 512, 256)),
  'cinemagraph': ('image', 'lumiere__image__fire_with_mask.jpg', (138, 157, 270, 267)),
}


@pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
@pytest.mark.parametrize('verb', PUBLISHED)
def test_what_is_given_of_published_inputs_comes_back(made, verb):
  flag, name, box = PUBLISHED[verb]
  file = pathlib.Path(os.environ['LUMIERE_DATA'], 'videos', name)
  options = ['--clip=start'] if flag == 'video' else []
  options += [f'--box={",".join(map(str, box))}'] if box else []
  pixels = made(verb, f'--{flag}={file}', *options)
  whole = decode(file, fps=16.0)[:FRAMES] if flag == 'video' else np.asarray(Image.open(file))[None]
  scale = SIDE / whole.shape[1]
  clip = np.broadcast_to(transforms.resample(whole, SIDE, SIDE), pixels.shape)
  known = np.zeros(pixels.shape[:3], bool)
  known[0] = flag == 'image'
  if box:
    x, y, width, height = (n * scale for n in box)
    hidden = np.zeros((SIDE, SIDE), bool)
    hidden[int(y) : int(np.ceil(y + height)), int(x) : int(np.ceil(x + width))] = True
    known |= ~hidden
  assert same(pixels[known], clip[known])
  assert not same(pixels[~known], clip[~known])


@pytest.fixture(scope='module')
def neon(models, files):
  """A style of random weights, of the image model that the video model stands for."""
  return save_style(files / 'neon.npz', models / 't2v', 'in neon style')


def test_a_style_changes_a_video_by_alpha(made, neon):
  plain = made('text_to_video')
  assert same(made('stylize', f'--style={neon}', '--alpha=0'), plain)
  assert not same(made('stylize', f'--style={neon}'), plain)


def test_an_edit_may_have_a_style(made, files, neon):
  options = ('edit', f'--video={files}/clip.mp4', '--clip=start', '--steps=8')
  plain = made(*options)
  assert same(made(*options, f'--style={neon}', '--alpha=0'), plain)
  assert not same(made(*options, f'--style={neon}', '--alpha=0.5'), plain)


def test_metadata_says_what_a_video_was_made_of(run, files, tmp_path):
  options = (f'--video={files}/clip.mp4', '--clip=start', '--box=4,6,8,4', '--base_only')
  assert run('inpaint', *options, f'--output={tmp_path}/out.png')[0] == 0
  metadata = video.read_metadata(tmp_path / 'out.png')
  assert metadata['video'] == f'{files}/clip.mp4'
  assert metadata['box'] == '4,6,8,4'
  assert metadata['clip'] == 'start'


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ('image_to_video', '--image=FILE is needed.'),
    ('image_to_video --image=none.png', 'There is no file none.png.'),
    ('image_to_video --image={}/clip.mp4', 'clip.mp4 is not an image that Pillow can read.'),
    (
      'image_to_video --image={}/image.png --alpha=0.5 --mask=m.png',
      'image_to_video does not take --alpha, --mask; allowed are --image, --fit and the flags',
    ),
    ('text_to_video --fit=pad', 'text_to_video does not take --fit; allowed are '),
    ('inpaint --video={}/clip.mp4 --box=0,0,8,8', 'clip.mp4 has more than 8 frames at 16 a s'),
    (
      'inpaint --video={}/clip.mp4 --clip=start --num_frames=12 --box=0,0,8,8',
      'clip.mp4 has 10 frames at 16 a second; allowed are 12 (0.75 seconds), or more.',
    ),
    ('inpaint --video={}/photo.txt --box=0,0,8,8', 'There is no file'),
    ('inpaint --video={}/clip.mp4 --clip=start', 'Got both or none of --mask and --box; allowed'),
    (
      'inpaint --video={}/clip.mp4 --clip=start --box=14,0,8,8',
      'Got a box of 8x8 pixels at 14,0; allowed is one inside 16x16 pixels.',
    ),
    ('inpaint --box=\u00b2,0,8,8', 'allowed are four whole numbers, as in 8,0,8,0'),
    ('inpaint --box=1,2,3', 'allowed are four whole numbers, as in 8,0,8,0'),
    ('inpaint --fit=stretch', 'value should be one of <crop|pad>'),
    ('outpaint --video={}/clip.mp4 --clip=start', 'Got --pad=0,0,0,0; allowed is a border inside'),
    (
      'outpaint --video={}/clip.mp4 --clip=start --pad=16,0,16,0',
      'Got --pad=16,0,16,0; allowed is a border inside 32x32 pixels, of one or more.',
    ),
    ('cinemagraph --image={}/image.png', 'Got both or none of --mask and --box; allowed is one'),
    ('cinemagraph --image={}/image.png --mask=none.png', 'There is no file none.png.'),
    ('edit --video={}/image.png', 'image.png has 1 frame'),
    ('edit --video={}/clip.mp4 --strength=2', '2.0 is not a number in the range [0.0, 1.0]'),
    ('edit --video={}/clip.mp4 --alpha=0.5', '--alpha: of no use without --style; allowed is --s'),
    ('inpaint --config=nothere.py', '--config=nothere.py: there is no such file; allowed are'),
    ('inpaint --config=configs/models.py', 'configs/models.py: it has no get_config; allowed'),
    ('inpaint --compile_for=v5p:2x2x1', 'inpaint does not take --compile_for; allowed are --video'),
    ('stylize', '--style=FILE is needed.'),
    ('stylize --style={}/image.png', 'image.png is not a style, as pipelines.style writes one.'),
    ('stylize --style={}/neon.npz --alpha=-1', '-1.0 is not a number in the range [0.0, 1.0]'),
  ],
)
def test_a_mistake_is_one_line_before_anything_is_made(run, files, neon, tmp_path, argv, message):
  verb, *options = argv.format(files).split()
  code, out, err = run(verb, f'--output={tmp_path}/out.mp4', *options)
  assert (code, out) == (2, '')
  assert err.splitlines()[-1].startswith('error: ')
  assert message in err.splitlines()[-1]
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('verb', ['image_to_video', 'inpaint', 'cinemagraph', 'edit', 'stylize'])
def test_every_other_verb_needs_a_prompt(run, monkeypatch, neon, verb):
  monkeypatch.setattr(Checkpoint, 'load', lambda self: pytest.fail('The model was loaded.'))
  options = [f'--style={neon}'] if verb == 'stylize' else []
  code, out, err = call(sys.modules['sample'], verb, *options)
  assert (code, out) == (2, '')
  assert err == 'error: Got no prompt; --prompt=TEXT or --prompts_file=FILE is needed.\n'


def test_a_model_without_that_condition_completes_no_video(run, models, files):
  argv = (f'--image={files}/image.png', f'--workdir={models}/t2v')
  code, _, err = run('image_to_video', *argv)
  assert code == 2
  assert err == (
    f'error: {models}/t2v is not conditioned on masked videos; '
    'a model of configs/t2v_masked.py is.\n'
  )


def test_a_style_of_another_image_model_is_refused(run, models, neon, tmp_path):
  options = (f'--style={neon}', f'--workdir={models}/t2v_masked', f'--output={tmp_path}/out.mp4')
  code, _, err = run('stylize', *options)
  assert code == 2
  assert 'error: The style began from another image model; ' in err
  assert os.listdir(tmp_path) == []
