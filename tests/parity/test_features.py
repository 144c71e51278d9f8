"""I3D, C3D and CLIP against networks of torch, at the sizes they are used at."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPModel

from benchmarks.features_worker import I3D
from evaluation.features import c3d, clip, i3d, published, weights
from evaluation.features.networks import NETWORKS, open_features, parameter_shapes
from tests.evaluation.features import drawn
from tests.oracles import relative_error
from tests.parity import networks
from tests.parity.record_features import (
  WORDS,
  answer,
  clip_answers,
  filled,
  shapes,
  tokens,
)
from tests.parity.record_features import clip as clip_of
from tests.parity.record_t5 import TEXTS
from text.clip_tokenizer import open_tokenizer

RNG = np.random.default_rng(0)
# With a few layers of the larger one: all are alike, and it has 428 million parameters.
CLIPS = {
  'clip_b32': ({'patch_size': 32}, {}, {'projection_dim': 512}),
  'clip_l14': (
    {
      'patch_size': 14,
      'hidden_size': 1024,
      'num_hidden_layers': 3,
      'num_attention_heads': 16,
      'intermediate_size': 4096,
    },
    {
      'hidden_size': 768,
      'num_hidden_layers': 2,
      'num_attention_heads': 12,
      'intermediate_size': 3072,
    },
    {'projection_dim': 768},
  ),
}
needs_data = pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')


def saved(model, path, rename=lambda named: named, **more) -> str:
  """The file of a network's weights, and of what else a state of torch has."""
  state = {name: p.numpy() for name, p in model.state_dict().items()}
  named = rename({name: p for name, p in state.items() if name in shapes(model)})
  save_file({n: torch.from_numpy(np.ascontiguousarray(x)) for n, x in (named | more).items()}, path)
  return str(path)


def seen(network, source, videos) -> np.ndarray:
  opened = open_features(network, source, batch=2)
  return opened.extract(np.stack([opened.prepare(video) for video in videos]))


def report(what, got, known, most=1e-4):
  error = relative_error(got, known)
  print(f'{what}: {error:.1e}')
  assert error <= most


@pytest.mark.parametrize('frames', [16, 9, 26])
def test_i3d(frames, tmp_path):
  model = filled(I3D())
  videos = RNG.integers(0, 256, (2, frames, 240, 320, 3), np.uint8)
  counts = {'Mixed_3b.b0.bn.num_batches_tracked': np.array(5)}
  source = saved(model, tmp_path / 'i3d.safetensors', **counts)
  known = answer(model, np.stack([i3d.preprocess(video) for video in videos]))
  report(f'I3D of {frames} frames', seen('i3d', source, videos), known)


@pytest.mark.parametrize('rename', [drawn.as_hassony2, drawn.as_deepmind])
def test_i3d_of_other_names(rename, tmp_path):
  model = filled(I3D())
  if rename is drawn.as_deepmind:  # which has no scale
    for name, p in model.named_parameters():
      if name.endswith('bn.weight'):
        p.data.fill_(1)
  videos = RNG.integers(0, 256, (1, 16, 64, 64, 3), np.uint8)
  known = answer(model, np.stack([i3d.preprocess(video) for video in videos]))
  got = seen('i3d', saved(model, tmp_path / 'i3d.safetensors', rename), videos)
  report(f'I3D {rename.__name__}', got, known)


@pytest.mark.parametrize('rename', [lambda named: named, drawn.as_chainer])
def test_c3d(rename, tmp_path):
  model = filled(networks.C3D())
  videos = RNG.integers(0, 256, (3, 16, 240, 320, 3), np.uint8)
  mean = RNG.uniform(80, 120, (3, 16, 128, 171)).astype(np.float32)
  np.savez(tmp_path / 'mean2.npz', mean=mean)
  source = saved(model, tmp_path / 'c3d.safetensors', rename)
  clips = np.stack([c3d.preprocess(video) for video in videos])
  known = answer(model, clips - mean[:, :, 8:120, 8:120].transpose(1, 2, 3, 0))
  report('C3D', seen('c3d', f'{source},{tmp_path}/mean2.npz', videos), known)


@pytest.mark.parametrize('network', CLIPS)
def test_clip(network, tmp_path):
  image, text, sizes = CLIPS[network]
  model = filled(clip_of(image, text, **sizes))
  model.save_pretrained(tmp_path)
  spec = NETWORKS[network]
  few = spec.model
  if network == 'clip_l14':
    few = few.clone(layers=3, text_layers=2)
  params, _ = weights.load(parameter_shapes(few, *spec.examples), spec.namings, str(tmp_path))
  known = clip_answers(model, 49408, (2, 224, 224, 3))
  inputs = drawn.normal('images', (2, 224, 224, 3)), drawn.tokens(49408)
  got = jax.jit(few.apply)({'params': params}, *map(jnp.asarray, inputs))
  for what, ours, theirs in zip(('images', 'texts'), got, known):
    report(f'{network} of {what}', ours, theirs)


@needs_data
def test_tokens_on_all_prompts():
  folder = pathlib.Path(os.environ['LUMIERE_DATA'])
  prompts = [
    line for p in sorted((folder / 'prompts').iterdir()) for line in p.read_text().split('\n')
  ]
  odd = [chr(i) for i in (*range(1, 0x1C80), *range(0x2000, 0x3000), *range(0x1F300, 0x1FA00))]
  texts = [*prompts, *TEXTS, *WORDS, *odd]
  ours = open_tokenizer(folder / 'tokenizers' / 'clip_bpe_simple_vocab_16e6.txt.gz')(texts)
  theirs = tokens(str(folder), texts)
  print(f'{len(prompts)} prompts and {len(texts) - len(prompts)} odd texts')
  assert len(prompts) > 3000
  assert [t for t, a, b in zip(texts, ours, theirs) if (a != b).any()] == []


@pytest.mark.parametrize('shape', [(240, 320), (512, 512), (180, 320), (320, 180), (1080, 1920)])
def test_resizing_is_that_of_torch(shape):
  """Both round the places of pixels to float32, and torch does so in an order of its own on every
  kind of CPU; so both are compared with torch in float64."""
  video = RNG.integers(0, 256, (2, *shape, 3), np.uint8)
  h, w = shape
  height, width = (224 if n == min(h, w) else -(-n * 224 // min(h, w)) for n in (h, w))
  top, left = (height - 224) // 2, (width - 224) // 2

  def torchs(dtype):
    x = torch.from_numpy(video).permute(0, 3, 1, 2).to(dtype) / 255
    x = torch.nn.functional.interpolate(x, (height, width), mode='bilinear', align_corners=False)
    return 2 * x[:, :, top : top + 224, left : left + 224].permute(0, 2, 3, 1).numpy() - 1

  exact = torchs(torch.float64)
  error = np.abs(torchs(torch.float32) - exact).max()
  assert error < 5e-4
  np.testing.assert_allclose(i3d.preprocess(video), exact, rtol=0, atol=1.1 * error + 1e-6)


def test_images_are_as_transformers_prepares_them():
  """Of squares, on which it crops as OpenAI does; its own processor of Pillow."""
  processing = pytest.importorskip('transformers.models.clip.image_processing_pil_clip')
  images = RNG.integers(0, 256, (2, 300, 300, 3), np.uint8)
  made = processing.CLIPImageProcessorPil()(list(images), return_tensors='np')['pixel_values']
  np.testing.assert_allclose(clip.preprocess(images), made.transpose(0, 2, 3, 1), atol=1e-5)


def test_the_published_names_are_those_of_transformers():
  """Strictly: a whole model of transformers is read, and nothing of it is left over."""
  image, text, sizes = CLIPS['clip_b32']
  with torch.device('meta'):
    of_model = shapes(CLIPModel(clip_of(image, text, **sizes).config))
  spec = NETWORKS['clip_b32']
  ours = parameter_shapes(spec.model, *spec.examples)
  assert {n for name in ours for n in published.CLIP[0].theirs(name)} == of_model.keys()
