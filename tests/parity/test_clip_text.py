"""Stable Diffusion's text encoders against transformers, from folders as a pipeline has them."""

import gzip
import json
import os
import pathlib

import jax
import numpy as np
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from tests.evaluation.features import drawn
from tests.oracles import relative_error
from tests.parity.record_clip_text import states
from tests.parity.record_features import filled, shapes, tokens
from text.clip import CLIPText
from text.clip import shapes as shapes_of
from text.convert import convert
from text.convert_clip import torch_names
from text.encoder import embedder, load, open_encoder, open_network

pytestmark = pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
L = {'hidden_size': 768, 'intermediate_size': 3072, 'num_attention_heads': 12}
H = {'hidden_size': 1024, 'intermediate_size': 4096, 'num_attention_heads': 16}
# Fewer layers than published, all of which are alike.
TOWERS = {
  '1.x': (L | {'num_hidden_layers': 3, 'hidden_act': 'quick_gelu'}, '<|endoftext|>'),
  '2.x': (H | {'num_hidden_layers': 2, 'hidden_act': 'gelu'}, '!'),
}
PROMPTS = ['A Panda  playing a guitar, 4k ', '', 'word ' * 100, "it's été!"]


def pipeline(folder, model, padding):
  """Writes the folders of a pipeline with this text encoder."""
  data = pathlib.Path(os.environ['LUMIERE_DATA'], 'tokenizers')
  lines = gzip.decompress((data / 'clip_bpe_simple_vocab_16e6.txt.gz').read_bytes()).decode()
  model.save_pretrained(folder / 'text_encoder')
  (folder / 'tokenizer').mkdir()
  merges = '\n'.join(lines.split('\n')[: 48894 + 1])
  (folder / 'tokenizer' / 'merges.txt').write_text(merges + '\n', 'utf-8')
  special = json.dumps({'pad_token': padding})
  (folder / 'tokenizer' / 'special_tokens_map.json').write_text(special)


@pytest.mark.parametrize('name', TOWERS)
def test_from_prompts_to_states(name, tmp_path):
  sizes, padding = TOWERS[name]
  model = filled(CLIPTextModel(CLIPTextConfig(**sizes)))
  pipeline(tmp_path, model, padding)
  convert(tmp_path / 'text_encoder', tmp_path / 'ours')
  ids = tokens(os.environ['LUMIERE_DATA'], PROMPTS)
  if padding == '!':
    ends = ids == 49407
    ids = np.where(np.cumsum(ends, 1) - ends > 0, 0, ids)
  known = states(model, ids)
  network, files = open_network(tmp_path / 'ours', 'float32')
  embed = embedder(network, load(network, files, jax.local_devices()[:1]))
  drawn_ids = drawn.tokens(49408)
  errors = [relative_error(embed(drawn_ids, drawn_ids >= 0), states(model, drawn_ids))]
  options = dict(source=str(tmp_path / 'ours'), tokens=77, width=sizes['hidden_size'])
  errors.append(relative_error(open_encoder(**options)(PROMPTS)[0], known))
  print(f'{name}: states {errors[0]:.1e}, from prompts {errors[1]:.1e}')
  assert max(errors) <= 1e-5


@pytest.mark.parametrize(
  ('sizes', 'ours'),
  [
    (L | {'num_hidden_layers': 12}, CLIPText(768, 12, 12)),
    (H | {'num_hidden_layers': 23}, CLIPText(1024, 23, 16, activation='gelu')),
  ],
)
def test_the_names_and_sizes_are_those_of_transformers(sizes, ours):
  with torch.device('meta'):
    theirs = shapes(CLIPTextModel(CLIPTextConfig(**sizes)))
  theirs = {n.removeprefix('text_model.'): s for n, s in theirs.items()}
  assert {n for name in shapes_of(ours) for n in torch_names(name)} == theirs.keys()
  count = lambda shapes: sum(int(np.prod(shape)) for shape in shapes.values())
  assert count(theirs) == count(shapes_of(ours))
