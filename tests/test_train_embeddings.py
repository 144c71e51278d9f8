"""Training on a dataset whose captions `text.embed` has embedded."""

import pathlib

import jax
import numpy as np
import pytest

from benchmarks import runs
from configs import ssr_image, style, t2i
from data import dataset, decode
from tests.data.videos import encoded, numbered
from tests.scripts import save, script
from tests.tiny_run import SMALLEST, changed
from text import embeddings, encoder
from text.convert import convert
from text.embed import embed
from training.phases import Clock
from training.texts import open_texts

RECORDED = pathlib.Path(__file__).parent / 'text' / 'recorded' / 't5'
CAPTIONS = ['a red circle', 'blue', 'a circle moving', 'red', 'a circle moving']
PROMPTS = ('a blue circle', 'blue')
TEXT = {'tokens': 8, 'dtype': 'float32', 'stored_dtype': 'float16', 'mask_padding': True}
T5_WIDTH = 16


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  """The folders of a T5 and of a dataset."""
  folder = tmp_path_factory.mktemp('inputs')
  convert(RECORDED, folder / 't5')
  contents = encoded(numbered(4), np.arange(4) * 100)
  (folder / 'a.mkv').write_bytes(contents)
  facts = decode.probe(contents)
  clips = [dataset.Clip('a.mkv', text, 'train', facts) for text in CAPTIONS]
  clips.append(dataset.Clip('a.mkv', 'red circle', 'validation', facts))
  dataset.write(folder, clips, folder / 'set', shards=1)
  return folder


@pytest.fixture(autouse=True)
def no_encoder():
  """Opens encoders anew, as a new process does."""
  encoder._opened.cache_clear()
  yield
  encoder._opened.cache_clear()


def refuse(*_):
  raise AssertionError('T5 is loaded')


def configured(inputs, stage=t2i):
  config = changed(stage.get_config('tiny'))
  config.update_from_flattened_dict(
    SMALLEST | {f'text.{key}': value for key, value in TEXT.items()}
  )
  config.model.attention = ('joint',)  # to the tokens of the text
  config.update(steps=2, save_every=0, evaluate_every=0, drop_text=0.5, sample_prompts=PROMPTS)
  config.data.update(source=str(inputs / 'set'), frames=1, fps=10.0)
  config.scores.metrics = ()
  config.text.update(source=str(inputs / 't5'), width=T5_WIDTH)
  return config


def test_a_run_without_an_encoder_in_memory_has_the_bits_of_one_with_it(
  inputs, tmp_path, monkeypatch, capsys
):
  """Parameters, optimizer state, losses and samples; also the texts that are dropped are the same,
  which are half of them."""
  config, loaded = configured(inputs), []
  # In a new network, layers that are zero hide the text.
  config.init_from = str(save(tmp_path / 'parent', config))
  encoder._opened.cache_clear()
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', jax.config.jax_compilation_cache_dir)
  load = encoder.load
  monkeypatch.setattr(encoder, 'load', lambda *args: loaded.append(args) or load(*args))
  with script('train') as train:
    train.train(config, tmp_path / 'beside', Clock())
    assert len(loaded) == 1
    assert 'T5 is not loaded' not in capsys.readouterr().err
    embed(inputs / 'set', config.text.source, **TEXT, prompts=PROMPTS)
    encoder._opened.cache_clear()
    monkeypatch.setattr(encoder, 'load', refuse)
    train.train(config, tmp_path / 'stored', Clock())
  assert 'embeddings; T5 is not loaded.' in capsys.readouterr().err
  beside, stored = (runs.arrays(tmp_path / name, 2) for name in ('beside', 'stored'))
  assert beside.keys() == stored.keys()
  assert [name for name in beside if beside[name] != stored[name]] == []
  metrics = lambda name: [
    {key: line[key] for key in line if 'loss' in key or key == 'grad_norm'}
    for line in runs.lines(tmp_path / name)
  ]
  assert metrics('beside') == metrics('stored')
  assert len(runs.losses(tmp_path / 'stored')) == 2
  for i in range(2):
    one, two = (tmp_path / n / f'samples/step_00000002/{i}.png' for n in ('beside', 'stored'))
    assert one.read_bytes() == two.read_bytes()
  # Texts do make a difference: what reads them has got gradients.
  read_by = [name for name in beside if 'mu' in name and 'text' in name and 'kernel' in name]
  assert read_by
  assert all(np.frombuffer(beside[name], np.float32).any() for name in read_by)


def test_a_run_whose_embeddings_do_not_fit_is_refused_before_anything_is_made(inputs, tmp_path):
  embed(inputs / 'set', str(inputs / 't5'), **TEXT, prompts=PROMPTS)
  config = configured(inputs)
  config.sample_prompts = ('a blue circle', 'green')
  with script('train') as train:
    with pytest.raises(ValueError, match=r'of 1 prompts of this run\.  What adds them:') as error:
      train.train(config, tmp_path / 'run', Clock())
    assert str(error.value).endswith(' --mask_padding --prompt=green')
    config.text.tokens = 9
    with pytest.raises(ValueError, match='it has tokens=8, not 9'):
      train.train(config, tmp_path / 'run', Clock())
  assert list(tmp_path.iterdir()) == []


def test_prompts_of_scores_are_needed_and_those_of_super_resolution_are_not(inputs, tmp_path):
  embed(inputs / 'set', str(inputs / 't5'), **TEXT, prompts=PROMPTS)
  (tmp_path / 'prompts.txt').write_text('a\ngreen\n')
  config = configured(inputs)
  config.scores.update(metrics=('motion',), prompts=str(tmp_path / 'prompts.txt'))
  with pytest.raises(ValueError, match=r'no embeddings of 2 prompts .* --prompt=a --prompt=green'):
    open_texts(config)
  upscaling = configured(inputs, ssr_image)
  upscaling.sample_prompts = ('green',)
  open_texts(upscaling)(['blue', ''])


def test_a_mixture_reads_the_embeddings_of_all_its_datasets_or_loads_the_encoder(
  inputs, tmp_path, monkeypatch, capsys
):
  contents = (inputs / 'a.mkv').read_bytes()
  clip = dataset.Clip('a.mkv', 'a green ring', 'train', decode.probe(contents))
  dataset.write(inputs, [clip], tmp_path / 'set', shards=1)
  embed(inputs / 'set', str(inputs / 't5'), **TEXT, prompts=PROMPTS)
  texts, config = ['a green ring', 'red', ''], configured(inputs)
  config.data.update(
    source='synthetic', mixture=((str(inputs / 'set'), 1.0), (str(tmp_path / 'set'), 2.0))
  )
  beside = open_texts(config)(texts)  # as one of the datasets has no embeddings
  line = f'T5 is loaded, because {tmp_path}/set of the mixture has no stored embeddings:  '
  asked = f'{line}python -m text.embed --dataset={tmp_path}/set --encoder={inputs}/t5 --tokens=8 '
  assert asked in capsys.readouterr().err
  of_shapes = config.copy_and_resolve_references()
  of_shapes.data.mixture = ((str(inputs / 'set'), 1.0), ('synthetic', 2.0))
  open_texts(of_shapes)
  assert 'embeddings:  text.embed does not read synthetic' in capsys.readouterr().err
  embed(tmp_path / 'set', config.text.source, **TEXT)
  encoder._opened.cache_clear()
  monkeypatch.setattr(encoder, 'load', refuse)
  encode = open_texts(config)
  for stored, wanted in zip(encode(texts), beside, strict=True):
    np.testing.assert_array_equal(stored, wanted)
  with pytest.raises(ValueError, match=r"set/embeddings has no embedding of 'blue ring'"):
    encode(['blue ring'])


def test_words_and_styles_are_encoded_as_ever(inputs, monkeypatch):
  embed(inputs / 'set', str(inputs / 't5'), **TEXT)
  monkeypatch.setattr(embeddings, 'open_embeddings', refuse)
  words = configured(inputs)
  words.text.source = 'hashed'
  open_texts(words)
  of_picture = style.get_config('tiny')
  of_picture.data.source = str(inputs / 'set')
  of_picture.text.update(source=str(inputs / 't5'), width=T5_WIDTH, **TEXT)
  open_texts(of_picture)


def test_a_dataset_of_tfds_is_refused_with_what_embeds_its_captions(inputs):
  message = r'Got --dataset=tfds:a; allowed is a folder that data\.builder wrote\.  The T5 beside'
  with pytest.raises(ValueError, match=message):
    embed(pathlib.Path('tfds:a'), str(inputs / 't5'), **TEXT)
