"""From a folder that diffusers wrote to a video, by the commands of docs/pretrained.md."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import ssr
from convert import from_diffusers
from core import command
from core.params import names, partition
from core.sharding import make_mesh
from data.decode import decode
from pipelines.stages import open_stage
from stunet.inflate import inflate
from tests.scripts import call, called, script
from training import checkpoint
from training.plan import make_plan

TESTS = pathlib.Path(__file__).resolve().parent
UNETS = TESTS / 'stunet' / 'recorded'
T5 = TESTS / 'text' / 'recorded' / 't5'
# What of the sizes in configs/t2v.py:if_m is smaller in the model that was recorded.
SMALLER = {
  'channels': (32, 32), 'down_units': (0, 1), 'up_units': (1, 2), 'attention': ('none', 'joint'),
  'temporal_strides': (1, 2), 'temporal_attentions': (0, 1), 'head_features': 8,
  'text_features': 32, 'pool_heads': 2, 'dtype': 'float32',
}  # fmt: skip


def pipeline(folder, unet):
  """A whole pipeline, as diffusers saves one."""
  shutil.copytree(UNETS / unet, folder / 'unet')
  shutil.copytree(UNETS / 'scheduler', folder / 'scheduler')
  shutil.copytree(T5, folder / 'text_encoder', ignore=shutil.ignore_patterns('tokenizer.json'))
  (folder / 'tokenizer').mkdir()
  shutil.copy(T5 / 'tokenizer.json', folder / 'tokenizer')
  (folder / 'model_index.json').write_text(json.dumps({'_class_name': 'IFPipeline'}))
  return folder


@pytest.fixture(scope='module')
def imported(tmp_path_factory):
  folder = tmp_path_factory.mktemp('if')
  pipeline(folder / 'IF', 'if_i')
  line = [sys.executable, 'convert.py', f'--from={folder}/IF', f'--out={folder}/image']
  done = subprocess.run(line, cwd=command.ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert 'parameters' in done.stdout
  return folder


@pytest.fixture
def train(monkeypatch):
  """Calls `train.py` in this process, without samples and evaluation; returns the exit status and
  stderr."""
  monkeypatch.chdir(command.ROOT)
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', jax.config.jax_compilation_cache_dir)
  with script('train') as module:
    # `sample.py` generates a video after it; to compile twice what does that takes long.
    monkeypatch.setattr(module, 'make_write_samples', lambda *args: lambda params, step: None)
    # The loss of an evaluation is that of a step, which is logged.
    monkeypatch.setattr(
      module, 'make_evaluate', lambda *args: lambda params: {'evaluation_loss': 0.0}
    )
    yield lambda *argv: called(module, lambda: command.run(module.main), *argv)[::2]


def test_an_imported_pipeline_becomes_a_video_model_that_makes_videos(imported, train):
  image, video = imported / 'image', imported / 'video'
  config = checkpoint.load_config(image)
  assert config.text.source == str(image / 'text')
  assert not config.text.mask_padding  # IF was trained to attend to all places
  assert config.schedule.to_dict() | config.sampling.to_dict() == {
    'schedule': 'discrete_cosine', 'shift': 0.0, 'prediction': 'eps', 'sampler': 'ddpm_learned',
    'steps': 100, 'guidance': 7.0, 'spacing': 'leading', 'threshold': 'dynamic_if',
  }  # fmt: skip
  argv = (
    '--config=configs/t2v.py:if_m', f'--workdir={video}',
    f'--config.init_from={image}', '--config.text.width=16', '--config.text.dtype=float32',
    *(f'--config.model.{key}={value}' for key, value in SMALLER.items()),
    '--config.data.size=8', '--config.data.frames=4', '--config.loader.batch=2',
    '--config.evaluate_batch=2', '--config.evaluate_times=1', '--config.steps=4',
    '--config.log_every=2', '--config.sampling.steps=2', '--config.optim.warmup=1',
    "--config.sample_prompts=('a red circle',)",
  )  # fmt: skip
  code, err = train(*argv)
  assert code == 2
  assert f'needs --config.text.source={image}/text' in err
  assert not video.exists()

  relative = os.path.relpath(image / 'text', command.ROOT)
  code, err = train(*argv, f'--config.text.source={relative}')
  assert code == 0, err
  entries = [json.loads(s) for s in (video / 'metrics.jsonl').read_text().splitlines()]
  losses = [entry['loss'] for entry in entries if 'loss' in entry]
  assert losses
  assert np.isfinite(losses).all()
  # What was imported is as it was; what was added has been trained.
  _, before, _ = checkpoint.load(image)
  _, after, step = checkpoint.load(video)
  assert step == 4
  for name, value in names(before).items():
    np.testing.assert_allclose(names(after)[name], value, atol=1e-6, err_msg=name)

  output = f'--output={imported}/out.mp4'
  with script('sample') as sample:
    code, _, err = call(
      sample, f'--workdir={video}', '--base_only', '--prompt=a red circle', output
    )
  assert code == 0, err
  assert decode(imported / 'out.mp4').shape == (4, 8, 8, 3)


def test_a_second_stage_is_where_super_resolution_begins(imported, tmp_path):
  pipeline(tmp_path / 'IF', 'if_ii')
  from_diffusers(tmp_path / 'IF', tmp_path / 'image')
  image, params, _ = checkpoint.load(tmp_path / 'image')
  assert image.degrade.augment == 'upsampled'
  config = ssr.get_config('if_m')
  config.text.update(image.text)
  config.model.update(SMALLER | {'residual_scale': image.model.residual_scale,
                                 'emb_features': 64})  # fmt: skip
  config.data.update(size=16, shorter_side=16, frames=4)
  config.loader.batch = 1
  plan = make_plan(config, make_mesh((('data', 1),), jax.devices()[:1]), open_stage)
  # Of new parameters, which are none of the frozen ones, shapes are enough: to compile how they are
  # initialised takes long.
  new = jax.tree.map(lambda p: np.full(p.shape, np.nan, p.dtype), plan.params)
  _, frozen = partition(inflate(params, new), config.trainable)
  assert names(frozen).keys() == names(plan.frozen).keys()
  for name, value in names(params).items():
    np.testing.assert_array_equal(names(frozen)[name], value, err_msg=name)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda f: (f / 'unet' / 'config.json').unlink(), 'There is no '),
    (lambda f: (f / 'text_encoder' / 'model.safetensors').write_bytes(b'1234'), 'truncated'),
    (lambda f: shutil.rmtree(f / 'tokenizer'), 'tokenizer'),
  ],
)
def test_what_is_not_whole_is_refused_in_one_line_and_leaves_nothing(change, message, tmp_path):
  change(pipeline(tmp_path / 'IF', 'if_i'))
  with pytest.raises(ValueError, match=r'.+') as error:
    from_diffusers(tmp_path / 'IF', tmp_path / 'image')
  assert message in str(error.value)
  assert '\n' not in str(error.value)
  assert [p.name for p in tmp_path.iterdir()] == ['IF']
