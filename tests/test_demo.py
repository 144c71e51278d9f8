"""The models that ship, as a newcomer meets them: `python sample.py` with no flags at all."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from core import video
from core.params import matches, names
from data import decode
from evaluation.shapes.judge import judge
from pipelines import style
from stunet.inflate import TEMPORAL
from training import checkpoint

ROOT = pathlib.Path(__file__).parents[1]
MEGABYTE = 10**6


@pytest.mark.parametrize('stage', ['t2i', 't2v', 't2v_masked', 'ssr', 'styles'])
def test_what_ships_is_small(stage):
  files = [f for f in (ROOT / 'checkpoints/demo' / stage).rglob('*') if f.is_file()]
  assert 0 < sum(f.stat().st_size for f in files) < 10 * MEGABYTE


def test_the_video_model_grew_from_the_image_model():
  (_, image, _), (_, grown, _) = (
    checkpoint.load(ROOT / 'checkpoints/demo' / stage) for stage in ('t2i', 't2v')
  )
  image, grown = names(image), names(grown)
  for name, value in image.items():
    np.testing.assert_array_equal(value, grown[name], err_msg=name)
  assert all('temporal' in name for name in grown.keys() - image.keys())


@pytest.mark.parametrize('name', ['blueprint', 'neon', 'papercut'])
def test_a_style_moves_the_spatial_weights_of_the_video_model_alone(name):
  _, params, _ = checkpoint.load(ROOT / 'checkpoints/demo/t2v')
  loaded = style.load(ROOT / f'checkpoints/demo/styles/{name}.npz')
  assert loaded.descriptor == f'in {name} style'
  moved, before = names(style.blended(params, loaded, 1.0)), names(params)
  changed = {n for n, value in before.items() if not np.array_equal(value, moved[n])}
  assert changed
  assert not any(matches(n, TEMPORAL) for n in changed)


def test_the_default_prompt_moves_as_it_says_in_its_colours(tmp_path):
  argv = [sys.executable, str(ROOT / 'sample.py'), '--output=out.mp4', '--xt_slice=xt.png']
  argv += [f'--workdir={ROOT}/checkpoints/demo/t2v', '--seed=0', '--base_only', '--steps=8']
  # Here running is most of the work, for which the flags of conftest.py are slow.
  environment = {key: value for key, value in os.environ.items() if key != 'XLA_FLAGS'}
  done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  frames = decode.decode(tmp_path / 'out.mp4', fps=16.0)
  assert frames.shape == (80, 32, 32, 3)
  verdict = judge(frames)
  assert (verdict.colour, verdict.motion, verdict.background) == ('red', 'moving right', 'black')
  assert Image.open(tmp_path / 'xt.png').size == (32, 80)
  assert video.read_metadata(tmp_path / 'out.mp4')['model'].startswith('t2v step ')
