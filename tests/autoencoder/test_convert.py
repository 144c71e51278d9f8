"""The autoencoder of a pipeline of diffusers, converted and back."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from autoencoder import convert as command
from autoencoder.convert import convert, to_diffusers
from autoencoder.stored import open_autoencoder
from core.params import names
from tests.evaluation.features import drawn

RECORDED = pathlib.Path(__file__).parent / 'recorded'
QUERY, VALUE = (f'encoder.mid_block.attentions.0.to_{name}.weight' for name in 'qv')
FILE = 'diffusion_pytorch_model.safetensors'


@pytest.fixture
def source(tmp_path):
  """A folder `vae` as diffusers writes it."""
  folder = tmp_path / 'pipeline' / 'vae'
  folder.mkdir(parents=True)
  shutil.copyfile(RECORDED / 'config.json', folder / 'config.json')
  shapes, _ = drawn.recorded(RECORDED / 'autoencoder.npz')
  save_file(drawn.weights(shapes), folder / FILE, {'format': 'pt'})
  return folder


def rename(source, new, end=()):
  """Renames the weights by this function, and makes attention's kernels end in these axes."""
  tensors = load_file(source / FILE)
  attention = lambda name, x: x.reshape(*x.shape, *end) if name in (QUERY, VALUE) else x
  save_file({new(name): attention(name, x) for name, x in tensors.items()}, source / FILE)


def configure(source, **changed):
  path = source / 'config.json'
  config = json.loads(path.read_text()) | changed
  path.write_text(json.dumps({key: x for key, x in config.items() if x != 'absent'}))


def old(name):
  pairs = ('to_q', 'query'), ('to_k', 'key'), ('to_v', 'value'), ('to_out.0', 'proj_attn')
  for new, older in pairs:
    name = name.replace(f'attentions.0.{new}.', f'attentions.0.{older}.')
  return name


def test_there_and_back_is_the_same_bits(source, tmp_path):
  convert(source, tmp_path / 'ours')
  to_diffusers(tmp_path / 'ours', tmp_path / 'theirs', 32)
  before, after = load_file(source / FILE), load_file(tmp_path / 'theirs' / FILE)
  assert before.keys() == after.keys()
  for name, x in before.items():
    np.testing.assert_array_equal(after[name], x, err_msg=name)
  config, known = (
    json.loads((folder / 'config.json').read_text()) for folder in (tmp_path / 'theirs', RECORDED)
  )
  assert config == {key: x for key, x in known.items() if key != 'force_upcast'}


def test_an_open_autoencoder_is_float32(source, tmp_path):
  halves = {name: x.astype(np.float16) for name, x in load_file(source / FILE).items()}
  save_file(halves, source / FILE)
  convert(source, tmp_path / 'ours')
  model, params = open_autoencoder(tmp_path / 'ours', 'bfloat16')
  assert (model.channels, model.scaling, model.dtype) == ((8, 16, 12), 0.18215, 'bfloat16')
  kernel = params['encoder']['middle']['attention']['query']['kernel']
  assert {p.dtype for p in names(params).values()} == {np.dtype('float32')}
  np.testing.assert_array_equal(kernel, halves[QUERY].T)


@pytest.mark.parametrize('end', [(), (1, 1)])
def test_attention_of_old_files_is_the_same(source, tmp_path, end):
  """The files of Stable Diffusion are of 2022: other names, and no scaling factor."""
  convert(source, tmp_path / 'new')
  rename(source, old, end)
  configure(source, scaling_factor='absent', mid_block_add_attention='absent')
  convert(source, tmp_path / 'old')
  new, older = (load_file(tmp_path / n / 'model.safetensors') for n in ('new', 'old'))
  for name, x in new.items():
    np.testing.assert_array_equal(older[name], x, err_msg=name)


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'_class_name': 'VQModel'}, r"_class_name is 'VQModel'; in AutoencoderKL of Stable Diffusi"),
    ({'act_fn': 'relu'}, r"config\.json is not of an AutoencoderKL .*: act_fn is 'relu'; in Auto"),
    ({'shift_factor': 0.1}, r'shift_factor is 0\.1; in AutoencoderKL of Stable Diffusion it is No'),
    ({'block_out_channels': 'absent'}, r"it lacks 'block_out_channels'$"),
    ({'up_block_types': ['UpDecoderBlock2D']}, r"up_block_types is \['UpDecoderBlock2D'\]; in A"),
    ({'layers_per_block': 2}, r'vae lacks decoder.up_blocks.0\.resnets\.2\.conv1\.bias, .*: it '),
    ({'latent_channels': 3}, r'decoder\.conv_in\.weight in .* has shape \(12, 4, 3, 3\); its conf'),
  ],
)
def test_other_networks_are_refused_and_nothing_is_left(source, tmp_path, config, message):
  configure(source, **config)
  with pytest.raises(ValueError, match=message) as error:
    convert(source, tmp_path / 'out')
  assert '\n' not in str(error.value)
  assert [p.name for p in tmp_path.iterdir()] == ['pipeline']


def test_what_is_left_over_or_truncated_is_refused(source, tmp_path):
  rename(source, lambda name: name.replace('to_q.weight', 'to_p.weight'))
  with pytest.raises(ValueError, match=r'vae lacks decoder\.mid_block\.attentions\.0\.to_q\.we'):
    convert(source, tmp_path / 'out')
  tensors = load_file(source / FILE)
  tensors = {name.replace('to_p', 'to_q'): x for name, x in tensors.items()}
  save_file(tensors | {'more': np.ones(2, np.float32)}, source / FILE)
  with pytest.raises(ValueError, match=r'vae also has more: it is not an AutoencoderKL of Stable '):
    convert(source, tmp_path / 'out')
  (source / FILE).write_bytes((source / FILE).read_bytes()[:-8])
  with pytest.raises(ValueError, match=r'model\.safetensors is damaged or truncated'):
    convert(source, tmp_path / 'out')
  assert [p.name for p in tmp_path.iterdir()] == ['pipeline']


def test_another_folder_is_not_opened(source, tmp_path):
  with pytest.raises(ValueError, match=r'config\.json was not written by autoencoder\.convert\.$'):
    open_autoencoder(source)
  with pytest.raises(ValueError, match=r'^There is no file .*none/config\.json\.$'):
    open_autoencoder(tmp_path / 'none')


def test_the_command(source, tmp_path, monkeypatch, capsys):
  class Flag:
    def __init__(self, value):
      self.value = value

  values = {'from': Flag(source), 'out': Flag(tmp_path / 'ours')}
  flags = type('Flags', (dict,), {'to_diffusers': False})(values)
  monkeypatch.setattr(command.flags, 'FLAGS', flags)
  command.main()
  out = tmp_path / 'ours'
  assert capsys.readouterr().out == f'{out}: latents of 4 channels, 4 times smaller\n'
