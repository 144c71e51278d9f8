import hashlib

import numpy as np
import pytest
from safetensors.numpy import save_file

from core.params import names
from evaluation.features.weights import Naming, draw, load

SHAPES = {'a/kernel': (3, 4), 'a/bias': (4,), 'b/kernel': (4, 6), 'b/scale': (6,)}
NAMING = Naming(
  'somebody',
  names=((r'^a/kernel$', 'a.w'), (r'^b/kernel$', 'b.{x,y}.w'), (r'/', '.')),
  layouts=((r'a/kernel', '1 o i -> i o'),),
  ones=('b/scale',),
  ignored=(r'.*\.step',),
)
OTHER = Naming('somebody else', names=((r'/', '_'),))
NAMINGS = (OTHER, NAMING)
RNG = np.random.default_rng(0)
STORED = {
  'a.w': RNG.normal(size=(1, 4, 3)).astype(np.float32),
  'a.bias': RNG.normal(size=4).astype(np.float32),
  'b.x.w': RNG.normal(size=(4, 3)).astype(np.float32),
  'b.y.w': RNG.normal(size=(4, 3)).astype(np.float32),
}


def written(path, stored=STORED):
  save_file(stored, path) if path.suffix == '.safetensors' else np.savez(path, **stored)
  return str(path)


@pytest.mark.parametrize('name', ['w.safetensors', 'w.npz'])
def test_tensors_get_our_names_and_axes(name, tmp_path):
  more = {'a.step': np.array(3)}  # a whole number, which may not be read as a weight
  path = written(tmp_path / name, STORED | more)
  params, identity = load(SHAPES, NAMINGS, path)
  params = names(params)
  np.testing.assert_array_equal(params['a/kernel'], STORED['a.w'][0].T)
  np.testing.assert_array_equal(params['a/bias'], STORED['a.bias'])
  np.testing.assert_array_equal(
    params['b/kernel'], np.concatenate([STORED['b.x.w'], STORED['b.y.w']], 1)
  )
  assert params['b/scale'].tolist() == [1] * 6
  digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
  assert identity == f'sha256:{digest}'


def test_weights_may_be_in_several_files_or_a_folder(tmp_path):
  one = {name: x for name, x in STORED.items() if name.startswith('a')}
  two = {name: x for name, x in STORED.items() if name.startswith('b')}
  paths = [written(tmp_path / 'one.safetensors', one), written(tmp_path / 'two.safetensors', two)]
  digests = [hashlib.sha256(open(path, 'rb').read()).hexdigest() for path in paths]
  for source in (','.join(paths), str(tmp_path)):
    params, identity = load(SHAPES, NAMINGS, source)
    assert identity == f'sha256:{"+".join(digests)}'
    assert {name: x.shape for name, x in names(params).items()} == SHAPES


def test_half_precision_is_read_as_float32(tmp_path):
  half = {name: x.astype(np.float16) for name, x in STORED.items()}
  params = names(load(SHAPES, NAMINGS, written(tmp_path / 'w.safetensors', half))[0])
  assert {x.dtype for x in params.values()} == {np.dtype('float32')}
  np.testing.assert_allclose(params['a/bias'], STORED['a.bias'], rtol=1e-3)


@pytest.mark.parametrize(
  ('stored', 'message'),
  [
    ({k: v for k, v in STORED.items() if k != 'a.w'}, r'lacks a\.w: .* names of somebody\.'),
    (STORED | {'c': np.ones(1)}, r'also has c: nearest are the names of somebody\.'),
    (
      STORED | {'a.w': np.ones((1, 3, 4), np.float32)},
      r'a\.w in .* is of shape \(1, 3, 4\); it must be \(1, 4, 3\)\.',
    ),
    (
      STORED | {'b.y.w': np.ones((4, 2), np.float32)},
      r'b\.y\.w in .* is of shape \(4, 2\); it must be \(4, 3\)\.',
    ),
    (STORED | {'a.bias': np.arange(4)}, r'damaged, or no \.npz of weights: a\.bias is of int64'),
    ({str(i): np.ones(1) for i in range(11)}, r'lacks a_bias, a_kernel, b_kernel, b_scale: '),
    (
      STORED | {str(i): np.ones(1) for i in range(11)},
      r'also has 0, 1, 10, 2, 3, 4, 5, 6 and 3 more: ',
    ),
  ],
)
def test_what_does_not_fit_is_refused(stored, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    load(SHAPES, NAMINGS, written(tmp_path / 'w.npz', stored))


def test_a_name_in_two_files_is_refused(tmp_path):
  paths = ','.join([written(tmp_path / 'w.npz'), written(tmp_path / 'w.safetensors')])
  with pytest.raises(
    ValueError, match=r'^a\.bias is in more than one of .*w\.npz, .*w\.safetensors'
  ):
    load(SHAPES, NAMINGS, paths)


@pytest.mark.parametrize('name', ['w.safetensors', 'w.npz'])
@pytest.mark.parametrize('damage', [lambda whole: b'', lambda whole: whole[: len(whole) // 2]])
def test_a_damaged_file_is_refused(name, damage, tmp_path):
  path = tmp_path / name
  written(path)
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(ValueError, match=rf'{name} is damaged'):
    load(SHAPES, NAMINGS, str(path))


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    ('', r"^Got the weights ''; allowed are "),
    ('random', r"^Got the weights 'random'; allowed are .* and random:SEED\.$"),
    ('random:-1', r"^Got the weights 'random:-1'; allowed are "),
    ('nowhere/i3d.npz', r'^There is no file nowhere/i3d\.npz\.$'),
    (
      'i3d.pt',
      r'^i3d\.pt is a pickle, .* evaluation/features/from_torch\.py makes a \.safetensors of it\.$',
    ),
  ],
)
def test_other_sources_are_refused(source, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=message):
    load(SHAPES, NAMINGS, source)


def test_random_weights_are_those_of_their_seed():
  params, identity = load(SHAPES, NAMINGS, 'random:7')
  assert identity == 'random:7'
  again, other = (names(load(SHAPES, NAMINGS, f'random:{seed}')[0]) for seed in (7, 8))
  for name, array in names(params).items():
    np.testing.assert_array_equal(array, again[name])
  assert not np.array_equal(names(params)['a/kernel'], other['a/kernel'])


def test_random_weights_keep_the_variance():
  """Of what is positive and negative alike, and then cut off below zero (He et al., 2015)."""
  layers = {f'{i:02}/kernel': (400, 400) for i in range(20)}
  x = np.abs(RNG.normal(size=(50, 400)))
  before = np.square(x).mean()
  for kernel in draw(layers, seed=0).values():
    x = np.maximum(x @ kernel, 0)
  assert np.square(x).mean() == pytest.approx(before, rel=0.6)
  of_norm = draw({'scale': (3,), 'var': (3,), 'bias': (3,), 'mean': (3,)}, seed=0)
  assert {name: set(x.tolist()) for name, x in of_norm.items()} == {
    'scale': {1}, 'var': {1}, 'bias': {0}, 'mean': {0}
  }  # fmt: skip
