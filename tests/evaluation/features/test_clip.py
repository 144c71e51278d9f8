import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from core.params import names
from evaluation.features import clip, networks, published, weights
from evaluation.features.clip import CLIP, preprocess
from evaluation.features.networks import NETWORKS, open_clip, parameter_shapes
from tests.evaluation.features import drawn
from tests.oracles import relative_error
from text.clip_tokenizer import tokenizer

RECORDED = pathlib.Path(__file__).parent / 'recorded'
SMALL = CLIP(24, 32, 3, 4, 8, 24, 2, 3, vocabulary=50)
IMAGES = (3, 24, 24, 3)
VOCABULARY = pathlib.Path(os.environ.get('LUMIERE_DATA', ''), 'tokenizers')
VOCABULARY /= 'clip_bpe_simple_vocab_16e6.txt.gz'
needs_data = pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')


@pytest.fixture(scope='module')
def named():
  return drawn.weights(drawn.recorded(RECORDED / 'clip.npz')[0])


@pytest.fixture(scope='module')
def ours():
  return parameter_shapes(SMALL, jnp.zeros(IMAGES), jnp.zeros((1, 77), jnp.int32))


@pytest.fixture(scope='module')
def params(named, ours, tmp_path_factory):
  path = tmp_path_factory.mktemp('clip') / 'model.safetensors'
  save_file(named | {'text_model.embeddings.position_ids': np.arange(77)[None]}, path)
  return weights.load(ours, published.CLIP, str(path.parent))[0]


def test_both_towers_answer_as_those_of_transformers(params):
  images, tokens = jnp.asarray(drawn.normal('images', IMAGES)), jnp.asarray(drawn.tokens(50))
  frames, read = jax.jit(SMALL.apply)({'params': params}, images, tokens)
  for got, known in zip((frames, read), drawn.recorded(RECORDED / 'clip.npz')[1]):
    assert relative_error(got, known) <= 1e-5


def test_weights_of_openai_are_the_same(named, ours, params, tmp_path):
  more = {'input_resolution': np.array(24), 'context_length': np.array(77)}
  save_file(drawn.as_openai(named) | more, tmp_path / 'openai.safetensors')
  other, _ = weights.load(ours, published.CLIP, str(tmp_path / 'openai.safetensors'))
  assert names(other).keys() == ours.keys()
  for name, array in names(other).items():
    np.testing.assert_array_equal(array, names(params)[name], err_msg=name)


@pytest.mark.parametrize(('network', 'millions'), [('clip_b32', 151.277), ('clip_l14', 427.617)])
def test_the_networks_are_as_large_as_published(network, millions):
  """As OpenAI's models are: 151,277,313 and 427,616,513 parameters."""
  spec = NETWORKS[network]
  one = spec.model.clone(layers=1, text_layers=1)  # all layers are alike
  times = {'image/layer0': spec.model.layers, 'text/layer0': spec.model.text_layers}
  sizes = parameter_shapes(one, *spec.examples).items()
  total = sum(np.prod(shape) * times.get(name[: name.find('0') + 1], 1) for name, shape in sizes)
  assert total / 1e6 == pytest.approx(millions, abs=0.001)


def test_images_of_one_colour_are_normed_by_channel():
  got = preprocess(np.full((2, 30, 50, 3), [255, 0, 51], np.uint8))
  known = (np.array([1, 0, 0.2]) - clip.MEAN) / clip.STD
  assert (got.shape, got.dtype) == ((2, 224, 224, 3), np.float32)
  np.testing.assert_allclose(got, np.broadcast_to(known, got.shape), atol=1e-5)


@pytest.mark.parametrize(
  ('height', 'width', 'top', 'left'),
  [(224, 224, 0, 0), (224, 301, 0, 38), (303, 224, 40, 0), (224, 225, 0, 0)],
)
def test_the_middle_is_cut_out(height, width, top, left):
  """Of images which have the size already; torchvision rounds a half to the even number."""
  images = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
  known = images[:, top : top + 224, left : left + 224] / np.float32(255)
  np.testing.assert_allclose(preprocess(images), (known - clip.MEAN) / clip.STD, atol=1e-5)


def test_what_is_finer_than_pixels_is_gone():
  """A chessboard of pixels, at half its size, is grey: without antialiasing it would not be."""
  board = np.indices((448, 448)).sum(0) % 2 * 255
  images = np.repeat(board[None, ..., None], 3, -1).astype(np.uint8)
  grey = (0.5 - clip.MEAN) / clip.STD
  got = preprocess(images)[0, 4:-4, 4:-4]
  np.testing.assert_allclose(got, np.broadcast_to(grey, got.shape), atol=0.02)


@needs_data
def test_an_open_clip_compares_frames_with_texts(monkeypatch):
  """Of random weights: frames and texts are unit vectors, the same wherever they are."""
  spec = NETWORKS['clip_b32']
  examples = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32), spec.examples[1]
  small, prepare = CLIP(24, 32, 1, 4, 8, 24, 1, 3), lambda x: spec.prepare(x)[:, ::14, ::14]
  few = networks.NetworkSpec(small, examples, (), '', prepare, spec.apply)
  monkeypatch.setitem(NETWORKS, 'clip_b32', few)
  opened = open_clip('clip_b32', 'random:1', str(VOCABULARY), batch=2)
  videos = np.random.default_rng(0).integers(0, 256, (3, 2, 20, 24, 3), np.uint8)
  frames = opened.frames.extract(np.stack([opened.frames.prepare(video) for video in videos]))
  read = opened.embed_texts(['a cat', 'a dog', 'a cat', *['a bird'] * 20])
  assert (frames.shape, read.shape) == ((3, 2, 24), (23, 24))
  assert (opened.frames.name, opened.frames.weights) == ('clip_b32', 'random:1')
  np.testing.assert_allclose(np.linalg.norm(frames, axis=-1), 1, rtol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(read, axis=-1), 1, rtol=1e-5)
  np.testing.assert_allclose(read[0], read[2], atol=1e-6)
  np.testing.assert_allclose(read[3], read[22], atol=1e-6)
  assert np.abs(read[0] - read[1]).max() > 0.01
  reversed_frames = opened.frames.extract(opened.frames.prepare(videos[2][::-1])[None])
  np.testing.assert_allclose(reversed_frames[0, 0], frames[2, 1], atol=1e-5)


def test_another_network_is_no_clip(monkeypatch):
  with pytest.raises(ValueError, match=r'^There is no file nowhere: merges\.txt, or '):
    open_clip('clip_b32', 'random:0', 'nowhere', 1)
  monkeypatch.setattr(networks, 'open_tokenizer', lambda path: tokenizer([]))
  with pytest.raises(
    ValueError, match=r"^Got the network 'i3d'; allowed are clip_b32, clip_l14\.$"
  ):
    open_clip('i3d', 'random:0', 'merges.txt', 1)


def test_a_text_hears_nothing_after_its_end(params):
  tokens = drawn.tokens(50)[:1]
  changed = tokens.copy()
  changed[0, tokens[0].argmax() + 1 :] = 0  # as OpenAI fills a row
  apply = jax.jit(lambda params, tokens: SMALL.apply(params, tokens, method='embed_texts'))
  one, two = (apply({'params': params}, jnp.asarray(t)) for t in (tokens, changed))
  np.testing.assert_array_equal(one, two)
