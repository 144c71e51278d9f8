import json
import os
import pathlib
import re
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from configs import ssr, t2v
from core import video
from tests.conftest import TINY
from tests.scripts import call, save, script
from training import checkpoint

ROOT = pathlib.Path(__file__).parents[1]
# Convolutions alone, but with resampling, which the temporal factor needs.
FEW = TINY | {
  'down_units': (0, 0),
  'attention': ('none', 'none'),
  'temporal_attentions': (0, 0),
}
PROMPT = 'a red circle moving right on a black background'


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """A video model of 8 frames, with none of super-resolution beside it."""
  config = t2v.get_config('tiny')
  config.model.update(FEW)
  config.data.frames = 8
  config.sampling.update(steps=2, guidance=2.0)
  return save(tmp_path_factory.mktemp('runs') / 't2v', config)


@pytest.fixture(scope='module')
def ssr_workdir(tmp_path_factory):
  """A model of super-resolution from 16x16 to 32x32, in windows of 4 frames."""
  config = ssr.get_config('tiny')
  config.model.update(FEW)
  config.sampling.update(steps=2)
  return save(tmp_path_factory.mktemp('runs') / 'ssr', config)


@pytest.fixture(scope='module')
def run(workdir):
  """Runs the command; returns exit status, stdout and stderr."""
  with script('sample') as sample:
    yield lambda *argv, **options: call(sample, f'--workdir={workdir}', *argv, **options)


def test_a_prompt_becomes_a_video_the_same_in_every_process(run, workdir, tmp_path):
  argv = ['text_to_video', f'--prompt={PROMPT}', '--seed=5']
  files = [str(tmp_path / name) for name in ('a.mp4', 'slice.png')]
  code, out, err = run(*argv, f'--output={files[0]}', f'--xt_slice={files[1]}', terminal=True)
  assert code == 0
  assert out.splitlines()[:2] == files
  assert 'compiled in' in out.splitlines()[2]
  assert '2/2' in err  # the bar came to its end
  assert Image.open(files[1]).size == (16, 8)
  metadata = video.read_metadata(files[0])
  assert re.fullmatch('[0-9a-f]{12}', metadata.pop('weights'))
  assert metadata == {
    'prompt': PROMPT,
    'number': '0',
    'model': 't2v step 3',
    'fps': '16.0',
    'seed': '5',
    'sampler': 'dpmpp_2m',
    'steps': '2',
    'guidance': '2.0',
    'spacing': 'even_angles',
  }

  argv = [sys.executable, str(ROOT / 'sample.py'), *argv, f'--workdir={workdir}']
  done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert '2/2' not in done.stderr  # a file is no place for a bar
  assert sorted(os.listdir(tmp_path)) == ['a.mp4', 'out.mp4', 'slice.png']
  assert (tmp_path / 'out.mp4').read_bytes() == (tmp_path / 'a.mp4').read_bytes()


def test_a_file_of_prompts_becomes_a_folder(run, tmp_path):
  (tmp_path / 'prompts.txt').write_text(f'{PROMPT}\n\n  Two, (round) *dots*\n')
  options = (
    '--sampler=ddim',
    '--spacing=leading',
    '--steps=1',
    '--guidance=1',
    '--num_frames=4',
    '--upscale=3',
  )
  paths = (f'--prompts_file={tmp_path}/prompts.txt', f'--output={tmp_path}/new')
  code, out, _ = run(*paths, '--num_videos=2', '--batch=3', *options)
  assert code == 0
  names = [
    *(f'000_a_red_circle_moving_right_on_a_black_background_{i}.mp4' for i in (0, 1)),
    *(f'001_two_round_dots_{i}.mp4' for i in (0, 1)),
  ]
  files = [tmp_path / 'new' / name for name in names]
  assert sorted(os.listdir(tmp_path / 'new')) == [*names, 'index.jsonl']
  *paths, times, last = out.splitlines()
  assert [*paths, last] == [f'{tmp_path}/new/{name}' for name in (*names, 'index.jsonl')]
  assert times.startswith('compiled in')
  index = [json.loads(line) for line in (tmp_path / 'new/index.jsonl').read_text().splitlines()]
  assert [line.pop('file') for line in index] == names
  assert index == [video.read_metadata(file) for file in files]
  assert [line['prompt'] for line in index] == [PROMPT, PROMPT, *['Two, (round) *dots*'] * 2]
  assert [line['number'] for line in index] == ['0', '1', '0', '1']
  asked = {tuple(i[key] for key in ('sampler', 'spacing', 'steps', 'guidance')) for i in index}
  assert asked == {('ddim', 'leading', '1', '1.0')}
  for file in files:
    with av.open(str(file)) as container:
      frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
      assert np.shape(frames) == (4, 48, 48, 3)
  assert len({file.read_bytes() for file in files}) == 4


def test_super_resolution_doubles_the_side_of_what_the_base_made(run, ssr_workdir, tmp_path):
  argv = ['--num_videos=2', '--batch=2', f'--xt_slice={tmp_path}/xt.png', '--base_only']
  code, _, _ = run(f'--output={tmp_path}/low.npy', *argv)
  assert code == 0
  argv[-1] = f'--ssr_workdir={ssr_workdir}'
  options = ['--ssr_steps=1', '--ssr_guidance=1.5', '--window=4', '--overlap=2', '--aug_level=0']
  code, _, err = run(f'--output={tmp_path}/high.npy', *argv, *options, terminal=True)
  assert code == 0
  assert '1/1' in err
  for i in range(2):
    low, high = (np.load(tmp_path / f'{name}_{i}.npy') for name in ('low', 'high'))
    assert (low.shape, high.shape) == ((8, 16, 16, 3), (8, 32, 32, 3))
    assert high.std() > 1
  assert Image.open(tmp_path / 'xt_0.png').size == (32, 8)
  metadata = video.read_metadata(tmp_path / 'xt_0.png')
  want = {'steps': '1', 'guidance': '1.5', 'window': '4', 'overlap': '2', 'aug_level': '0.0'}
  assert {k: metadata[f'ssr_{k}'] for k in want} == want
  assert metadata['ssr_model'] == 'ssr step 3'


def test_the_model_of_super_resolution_beside_the_base_is_found(
  run, workdir, ssr_workdir, tmp_path
):
  (tmp_path / 't2v').symlink_to(workdir)
  options = [f'--workdir={tmp_path}/t2v', f'--output={tmp_path}/out.npy', '--steps=1']
  code, _, err = run(*options)
  assert code == 0
  assert (
    f'no {tmp_path}/ssr: the video keeps its low resolution; --ssr_workdir=DIR upscales it' in err
  )
  assert np.load(tmp_path / 'out.npy').shape == (8, 16, 16, 3)
  (tmp_path / 'ssr').symlink_to(ssr_workdir)
  assert run(*options)[0] == 0
  assert np.load(tmp_path / 'out.npy').shape == (8, 32, 32, 3)


def test_the_workdir_may_be_the_folder_one_is_in(run, workdir, tmp_path, monkeypatch):
  monkeypatch.chdir(workdir)
  code, _, err = run('--workdir=.', f'--output={tmp_path}/out.npy', '--upscale=100000')
  assert code == 2
  assert 'error: Got --upscale=100000, which makes' in err


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['--overlap=4'], 'Got an overlap of 4 frames; allowed is 0 to 3, as a window has 4.'),
    (
      ['--window=8', '--overlap=6', '--num_frames=4'],
      'Got an overlap of 6 frames in a video of 4; allowed is 0 to 3.',
    ),
    (['--window=5'], '5 frames do not divide by the temporal factor 2 of the model'),
    (
      ['--ssr_spacing=even_times'],
      'Got sampler=dpmpp_2m with spacing=even_times, at which its second order is wrong; allowed',
    ),
    (['--aug_level=2'], 'flag --aug_level=2: 2.0 is not a number in the range [0.0, 1.0]'),
    (['--ssr_workdir=none'], 'none is not a workdir'),
    (['--workdir=none'], 'none is not a workdir'),
  ],
)
def test_a_mistake_of_super_resolution_is_one_line(run, ssr_workdir, tmp_path, argv, message):
  code, out, err = run(f'--ssr_workdir={ssr_workdir}', f'--output={tmp_path}/out.mp4', *argv)
  assert (code, out) == (2, '')
  assert err.splitlines()[-1].startswith('error: ')
  assert message in err.splitlines()[-1]
  assert os.listdir(tmp_path) == []


def test_a_video_model_is_no_super_resolution(run, workdir, tmp_path):
  code, _, err = run(f'--ssr_workdir={workdir}', f'--output={tmp_path}/out.mp4')
  assert code == 2
  assert err.splitlines()[-1] == f'error: {workdir} is not a model of super-resolution.'


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['make_it'], "Unknown verb: 'make_it'. Allowed: cinemagraph, edit, image_to_video, "),
    (['--config=configs/t2v.py:tiny'], '--config: allowed with --compile_for only; see --workdir.'),
    (
      ['--compile_for=v5p:2x2x1', '--config=configs/t2v.py:tiny', '--steps=3'],
      '--steps: of no use with --compile_for; allowed are --compile_for, --config, --ssr_config, ',
    ),
    (['--prompt=x', '--prompts_file=x'], 'Got both --prompt and --prompts_file; allowed is one of'),
    (['--prompt= '], 'The prompt is empty; allowed is any text that is not blank.'),
    (['--num_frames=5'], '5 frames do not divide by the temporal factor 2 of the model'),
    (['--output=none/out.mp4'], 'Cannot write none/out.mp4: No such file or directory.'),
    (['--output=out.avi'], "its extension is '.avi'; allowed are .gif, .mp4, .npy, .png, .webp."),
    (
      ['--output=s.png', '--xt_slice=./s.png'],
      'Got s.png for the video and for its X-T slice; allowed are two files.',
    ),
    (['--xt_slice=none/s.png'], 'Cannot write none/s.png: No such file or directory.'),
    (
      ['--base_only', '--upscale=2100', '--output=out.webp'],
      'Got --upscale=2100, which makes out.webp of 33600x33600 pixels: a side of .webp has at most '
      '16,383 pixels; allowed is 1 to ',
    ),
    (
      ['--base_only', '--upscale=400'],
      'of 6400x6400 pixels: a frame of H.264 has at most 139,264 blocks of 16x16 pixels',
    ),
    (
      ['--base_only', '--upscale=100000', '--output=out.png'],
      'Pillow opens at most 178,956,970 pixels; allowed is',
    ),
    (['--base_only', '--upscale=100000', '--output=out.npy'], ' of memory, and '),
    (['--steps=0'], 'flag --steps=0: 0 is not a positive integer'),
    (['--num_videos=0'], 'flag --num_videos=0: 0 is not a positive integer'),
    (
      ['--sampler=euler'],
      'flag --sampler=euler: value should be one of <ddim|ddpm|ddpm_learned|ddpm_small|dpmpp_2m>',
    ),
    (
      ['--spacing=even'],
      'flag --spacing=even: value should be one of <even_angles|even_times|leading|leading_sd>',
    ),
    (
      ['--spacing=leading'],
      'Got sampler=dpmpp_2m with spacing=leading, at which its second order is wrong; allowed are '
      '--spacing=even_angles (of super-resolution --ssr_spacing), or a sampler of first order: '
      'ddim, ddpm, ddpm_learned, ddpm_small.',
    ),
    (['--workdir=none'], 'none is not a workdir'),
    (['--prompts_file=none.txt', '--output=new'], 'Cannot read the prompts of none.txt: '),
    (
      ['--prompts_file=/dev/null', '--output=new'],
      '/dev/null has no prompt; allowed are .txt with one prompt a line',
    ),
    (
      [f'--prompts_file={ROOT}/requirements.txt', '--output=a.mp4'],
      '--output=a.mp4 is a file; with --prompts_file a folder',
    ),
    (
      ['--prompts_file=x', '--xt_slice=s.png'],
      '--xt_slice is for one --prompt, not for a --prompts',
    ),
  ],
)
def test_a_mistake_is_one_line_before_anything_is_made(run, tmp_path, monkeypatch, argv, message):
  monkeypatch.setattr(checkpoint, 'load', lambda workdir: pytest.fail('The model was loaded.'))
  code, out, err = run(f'--output={tmp_path}/out.mp4', *argv)
  assert (code, out) == (2, '')
  assert err.startswith('error: ')
  assert message in err
  assert err.count('\n') == 1
  assert os.listdir(tmp_path) == []
