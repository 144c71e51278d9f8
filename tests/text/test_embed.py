"""The command that embeds the captions of a dataset, and what training reads of it."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from core import weights
from tests.text.conftest import CAPTIONS, SIZES
from text import embed as command
from text import embeddings, encoder
from text.embed import embed
from text.embeddings import open_embeddings
from text.encoder import open_encoder

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
OPTIONS = dict(tokens=20, dtype='float32', mask_padding=True)
DISTINCT = len(set(CAPTIONS))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
  monkeypatch.setattr(embeddings, 'PART', 2)
  monkeypatch.setattr(command, 'POLL', 0.01)


def contents(dataset):
  """The bytes of all files of the embeddings of a dataset, by name."""
  folder = dataset / 'embeddings'
  return {p.relative_to(folder): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def with_eight_devices():
  """The environment of a process with as many devices as this one."""
  flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=8'
  return os.environ | {'XLA_FLAGS': flags}


def read(dataset, source, texts=(), **options):
  return open_embeddings([dataset], texts, source=source, **SIZES | OPTIONS | options)


@pytest.mark.parametrize('mask_padding', [True, False])
@pytest.mark.parametrize(
  ('dtype', 'stored_dtype'),
  [('float32', ''), ('float32', 'float16'), ('float32', 'bfloat16'), ('bfloat16', '')],
)
def test_what_is_read_has_the_bits_of_the_encoder_beside_training(
  dataset_of, source, dtype, stored_dtype, mask_padding
):
  dataset = dataset_of()
  options = dict(dtype=dtype, stored_dtype=stored_dtype, mask_padding=mask_padding)
  embed(dataset, source, **OPTIONS | options, prompts=['a blue circle'])
  encode = open_encoder(source=source, **SIZES | options)
  stored = read(dataset, source, ['', 'a blue circle'], **options)
  texts = [*reversed(CAPTIONS), '', 'a blue circle', 'blue']
  for some in (texts, texts[3:5], texts[:1], []):
    got, known = stored(some), encode(some)
    assert got[0].dtype == np.float32
    np.testing.assert_array_equal(got[0], known[0])
    np.testing.assert_array_equal(got[1], known[1])
  assert len({row.tobytes() for row in stored(texts)[0]}) == len(set(texts))
  exact, _ = open_encoder(source=source, **SIZES | options | {'stored_dtype': ''})(texts)
  rounded = exact.astype(np.dtype(stored_dtype or dtype)).astype(np.float32)
  np.testing.assert_array_equal(stored(texts)[0], rounded)
  assert np.array_equal(rounded, exact) == (not stored_dtype)


def test_a_text_has_the_same_bits_alone_and_among_others(source):
  encode = open_encoder(source=source, **SIZES)
  together, _ = encode(CAPTIONS)
  for i, text in enumerate(CAPTIONS):
    np.testing.assert_array_equal(encode([text])[0][0], together[i])


@pytest.mark.parametrize('mask_padding', [True, False])
def test_a_caption_is_embedded_and_stored_once(dataset_of, source, opened, mask_padding):
  opened, ran = opened
  dataset = dataset_of([*CAPTIONS, *CAPTIONS[::-1], CAPTIONS[0]])
  _, mask = opened(cache='', mask_padding=mask_padding)(CAPTIONS)
  encoder._opened.cache_clear()
  ran.clear()
  line = embed(dataset, source, **OPTIONS | {'mask_padding': mask_padding})
  assert line == f'{dataset}/embeddings: embeddings of 7 distinct captions of 15 clips'
  assert sum(ran) == DISTINCT + 1  # and the empty text
  size = sum(len(x) for name, x in contents(dataset).items() if name.parts[0] == 'parts')
  assert size == mask.sum() * SIZES['width'] * 4 + 8 * DISTINCT
  for _ in range(2):  # nothing is left to do, and then one prompt
    embed(dataset, source, **OPTIONS | {'mask_padding': mask_padding}, prompts=['', 'blue red'])
  assert sum(ran) == DISTINCT + 2


KILLED = """
import os, signal, sys
from text import embeddings, encoder
from text.embed import embed
import pathlib
embeddings.PART = 2
made = encoder.embedder
count = 0
def embedder(model, params):
  apply = made(model, params)
  def killed(ids, mask):
    global count
    count += len(ids)
    if count > 6:
      os.kill(os.getpid(), signal.SIGKILL)
    return apply(ids, mask)
  return killed
encoder.embedder = embedder
embed(pathlib.Path(sys.argv[1]), sys.argv[2], tokens=20, dtype='float32', mask_padding=True)
"""


def test_a_killed_command_continues_where_it_was_with_the_same_bits(dataset_of, source, opened):
  _, ran = opened
  whole, killed = dataset_of(name='whole'), dataset_of(name='killed')
  embed(whole, source, **OPTIONS)
  ran.clear()
  done = subprocess.run(
    [sys.executable, '-c', KILLED, killed, source],
    cwd=ROOT, env=with_eight_devices(), capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == -9, done.stderr
  # The empty text and two parts of two captions were complete; a part of two was lost.
  assert len([name for name in contents(killed) if name.suffix == '.bin']) == 3
  with pytest.raises(
    ValueError, match=r'is incomplete\.  What completes it:  python -m text\.embed'
  ):
    read(killed, source)
  embed(killed, source, **OPTIONS)
  assert sum(ran) == DISTINCT - 4
  assert contents(whole) == contents(killed)


def test_hosts_share_the_work_and_write_what_one_host_writes(dataset_of, source, opened, capsys):
  _, ran = opened
  one, two = dataset_of(name='one'), dataset_of(name='two')
  embed(one, source, **OPTIONS)
  ran.clear()
  lines = {}
  work = lambda host: lines.update({host: embed(two, source, **OPTIONS, host=host, hosts=2)})
  other = threading.Thread(target=work, args=[1])
  other.start()
  while 'Waiting for 2 of 4 lists of captions' not in capsys.readouterr().out:
    assert other.is_alive()
  work(0)
  other.join()
  assert sum(ran) == DISTINCT + 1
  assert sorted(lines) == [0, 1]
  assert any('7 distinct captions of 7 clips' in line for line in lines.values())
  assert contents(one) == contents(two)
  embeddings.part_path(two / 'embeddings', 0).unlink()
  line = embed(two, source, **OPTIONS, host=1, hosts=2)
  assert line.startswith('1 of 4 parts of ')
  assert line.endswith(' are not there yet: other hosts write them.')


@pytest.mark.parametrize(
  ('other', 'message'),
  [
    ({'tokens': 12}, 'tokens=20, not 12'),
    ({'dtype': 'bfloat16'}, 'dtype=float32, not bfloat16, stored_dtype=float32, not bfloat16'),
    ({'stored_dtype': 'float16'}, 'stored_dtype=float32, not float16'),
    ({'mask_padding': False}, 'mask_padding=True, not False'),
  ],
)
def test_embeddings_with_other_settings_are_refused(dataset_of, source, other, message):
  dataset = dataset_of()
  embed(dataset, source, **OPTIONS)
  before = contents(dataset)
  with pytest.raises(ValueError, match=message + r'\.  Remove it to embed the captions again'):
    embed(dataset, source, **OPTIONS | other)
  with pytest.raises(ValueError, match=r'does not fit config\.text: it has ' + message) as error:
    read(dataset, source, **other)
  assert '\n' not in str(error.value)
  assert contents(dataset) == before


def test_embeddings_of_another_encoder_are_refused(dataset_of, source, tmp_path):
  dataset, other = dataset_of(), tmp_path / 'other'
  embed(dataset, source, **OPTIONS)
  shutil.copytree(source, other)
  read(dataset, str(other))  # a copy is the same encoder
  tensors = {name: part.read() for name, part in weights.find(other).items()}
  tensors['norm_out/scale'] = 2 * tensors['norm_out/scale']
  weights.write(other, 'model', tensors.items())
  tokenizer = other / 'tokenizer.json'
  tokenizer.write_text(tokenizer.read_text('utf-8') + ' ', 'utf-8')
  for refusing in (
    lambda: read(dataset, str(other)),
    lambda: embed(dataset, str(other), **OPTIONS),
  ):
    with pytest.raises(ValueError, match='has other weights of T5, another tokenizer'):
      refusing()


def test_a_dataset_that_has_changed_is_refused(dataset_of, source):
  dataset = dataset_of()
  embed(dataset, source, **OPTIONS)
  path = dataset / 'dataset_info.json'
  path.write_text(path.read_text() + '\n')
  with pytest.raises(ValueError, match=r'has changed since its captions were embedded\.  Remove'):
    read(dataset, source)
  with pytest.raises(ValueError, match=r'has changed since .*embeddings was begun\.  Remove that'):
    embed(dataset, source, **OPTIONS)


def test_other_devices_do_not_complete_it(dataset_of, source, monkeypatch):
  dataset = dataset_of()
  embed(dataset, source, **OPTIONS)
  devices = command.jax.local_devices()
  monkeypatch.setattr(command.jax, 'local_devices', lambda: devices[:4])
  embed(dataset, source, **OPTIONS, prompts=['blue red'])  # which changes no caption
  (dataset / 'embeddings' / 'complete.json').unlink()
  with pytest.raises(ValueError, match='was begun with devices=8 x cpu; this host has devices=4 x'):
    embed(dataset, source, **OPTIONS)


def test_texts_that_are_missing_are_named_with_the_command_that_adds_them(dataset_of, source):
  dataset = dataset_of()
  embed(dataset, source, **OPTIONS)
  prompts = ['a red circle', "a boy's circle", '']
  with pytest.raises(ValueError, match='has no embeddings of 1 prompts of this run') as error:
    read(dataset, source, prompts)
  words = shlex.split(str(error.value).split('What adds them:  ')[1])
  done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True,
                        env=with_eight_devices())  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert done.stdout.endswith('7 distinct captions of 7 clips\n')
  encode = read(dataset, source, prompts)
  np.testing.assert_array_equal(
    encode(prompts)[0], open_encoder(source=source, **SIZES, mask_padding=True)(prompts)[0]
  )
  with pytest.raises(ValueError, match=r"has no embedding of 'green'\. .* --prompt=green$"):
    encode(['blue', 'green'])


@pytest.mark.parametrize(
  'damage',
  [
    lambda data: data[:-1],
    lambda data: data[:3],
    lambda data: b'',
    lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    lambda data: b'\xff' + data[1:],
  ],
)
def test_a_damaged_file_is_named_and_can_be_written_again(dataset_of, source, damage):
  dataset = dataset_of()
  embed(dataset, source, **OPTIONS)
  encode, known = read(dataset, source), read(dataset, source)(CAPTIONS)
  for path in (dataset / 'embeddings' / 'parts').rglob('*.bin'):
    path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(ValueError, match=r'\.bin is damaged or truncated; remove it, and run text'):
    encode(CAPTIONS)
  shutil.rmtree(dataset / 'embeddings' / 'parts')
  with pytest.raises(ValueError, match=r'There is no .*\.bin; run text\.embed again'):
    encode(CAPTIONS)
  embed(dataset, source, **OPTIONS)
  np.testing.assert_array_equal(encode(CAPTIONS)[0], known[0])


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'host': 2, 'hosts': 2}, 'Got host 2 of 2; allowed are 0 to 1'),
    ({'source': 'hashed'}, r'Got --encoder=hashed, .* allowed is a folder of a T5\.'),
    ({'source': 'none'}, 'source=none is neither hashed nor a folder that text.convert wrote'),
    ({'tokens': 0}, 'Got tokens=0; it must be at least 1'),
    ({'stored_dtype': 'int8'}, 'Got stored_dtype=int8; allowed are bfloat16, float16, float32'),
  ],
)
def test_what_is_not_allowed_is_refused_and_nothing_is_written(
  dataset_of, source, options, message
):
  dataset = dataset_of()
  with pytest.raises(ValueError, match=message):
    embed(dataset, **{'source': source} | OPTIONS | options)
  assert not (dataset / 'embeddings').exists()
  with pytest.raises(ValueError, match=r'data\.builder writes one with every dataset'):
    embed(dataset.parent, source, **OPTIONS)


def test_numbers_beyond_float16_are_refused(dataset_of, source, monkeypatch):
  large = lambda model, params: lambda ids, mask: np.full((*ids.shape, 16), 7e4, np.float32)
  monkeypatch.setattr(encoder, 'embedder', large)
  encoder._opened.cache_clear()
  dataset = dataset_of()
  with pytest.raises(ValueError, match='larger than the largest number of float16; allowed as st'):
    embed(dataset, source, **OPTIONS, stored_dtype='float16')
  embed(dataset_of(name='other'), source, **OPTIONS, stored_dtype='bfloat16')
  encoder._opened.cache_clear()
