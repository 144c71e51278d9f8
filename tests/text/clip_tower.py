"""The text encoder and the tokenizer of a pipeline of Stable Diffusion, with random weights."""

import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

from tests.evaluation.features import drawn
from text.clip import CLIPText, shapes
from text.clip_tokenizer import digest
from text.convert_clip import torch_names

CONFIG = {
  'model_type': 'clip_text_model', 'hidden_size': 8, 'num_hidden_layers': 1, 'hidden_act': 'gelu',
  'num_attention_heads': 2, 'intermediate_size': 32, 'vocab_size': 49408, 'layer_norm_eps': 1e-5,
  'max_position_embeddings': 77,
}  # fmt: skip
PAIRS = [('a', 'b</w>'), *((str(i), 'x') for i in range(1, 48894))]
SHA256 = digest(PAIRS)


def write(pipeline: pathlib.Path) -> pathlib.Path:
  """Writes the folders `text_encoder` and `tokenizer` of a pipeline; returns the former."""
  folder = pipeline / 'text_encoder'
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(CONFIG))
  turn = lambda shape, name: shape[::-1] if name.endswith('/kernel') else shape
  tower = shapes(CLIPText(8, 1, 2))
  sizes = {}
  for name, shape in tower.items():
    parts = torch_names(name)
    for part in parts:
      sizes[f'text_model.{part}'] = turn((*shape[:-1], shape[-1] // len(parts)), name)
  more = {'text_model.embeddings.position_ids': np.arange(77)[None]}
  save_file(drawn.weights(sizes) | more, folder / 'model.safetensors')
  (folder.parent / 'tokenizer').mkdir()
  lines = '\n'.join(map(' '.join, PAIRS))
  (folder.parent / 'tokenizer' / 'merges.txt').write_text(f'#version: 0.2\n{lines}\n')
  return folder
