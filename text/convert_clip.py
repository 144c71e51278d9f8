"""The text tower of a CLIP in the format of transformers, converted for `text.encoder`."""

import json
import pathlib
import re
import shutil

import numpy as np

from core import files, weights
from core.errors import UserError
from core.folder import new_folder
from text.clip import ACTIVATIONS, EPSILON, CLIPText, shapes
from text.clip_tokenizer import END, TOKENS, VOCABULARY, find, open_tokenizer
from text.encoder import PADDING

KIND = 'the text tower of a CLIP'
SIZES = {
  'width': 'hidden_size',
  'layers': 'num_hidden_layers',
  'heads': 'num_attention_heads',
  'vocabulary': 'vocab_size',
  'activation': 'hidden_act',
}
SAME = {'max_position_embeddings': TOKENS, 'layer_norm_eps': EPSILON, 'vocab_size': VOCABULARY}
NAMES = (
  (r'^(position|token)/', r'embeddings.\1_embedding/'),
  (r'^layer(\d+)/', r'encoder.layers.\1.'),
  (r'norm_attention/', 'layer_norm1/'),
  (r'norm_dense/', 'layer_norm2/'),
  (r'^norm_out/', 'final_layer_norm/'),
  (r'qkv/', 'self_attn.{}_proj/'),
  (r'\.out/', '.self_attn.out_proj/'),
  (r'wide/', 'mlp.fc1/'),
  (r'narrow/', 'mlp.fc2/'),
  (r'/(kernel|scale|embedding)$', '.weight'),
  (r'/bias$', '.bias'),
)
PREFIX = 'text_model.'  # of all names before transformers 5
IGNORED = (r'(.*\.)?position_ids',)  # an array of the numbers 0 to 76
# The tokens that fill a row, of Stable Diffusion 1.x and 2.x.
PADDINGS = {'<|endoftext|>': END, '!': 0}


def convert(source: pathlib.Path, out: pathlib.Path, tokenizer: pathlib.Path | None) -> CLIPText:
  """Writes the sizes, weights and tokenizer of a network to the new folder `out`, and returns it.

  The arguments and the errors are those of `text.convert.convert`.
  """
  model = _model_of(source / 'config.json')
  tensors = weights.find(source, IGNORED)
  tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
  expected = {
    name: [_torch_shape(ours, shape)]
    for ours, shape in shapes(model).items()
    for name in torch_names(ours)
  }
  weights.require(source, tensors, expected, KIND)
  folders = [tokenizer] if tokenizer else [source, source.resolve().parent / 'tokenizer']
  beside = next((f for f in folders if find(f).is_file()), folders[-1])
  open_tokenizer(beside)  # which checks it
  padding = _padding(beside)
  with new_folder(out) as folder:
    sizes = {size: getattr(model, size) for size in SIZES} | {PADDING: padding}
    (folder / 'config.json').write_text(json.dumps(sizes, indent=2) + '\n')
    shutil.copyfile(find(beside), folder / find(beside).name)
    weights.write(folder, 'model', ((name, _read(name, tensors)) for name in shapes(model)))
  return model


def torch_names(name: str) -> list[str]:
  """The names in transformers, without `PREFIX`, of the tensors that make up our parameter."""
  for pattern, theirs in NAMES:
    name = re.sub(pattern, theirs, name)
  return [name.format(part) for part in 'qkv'] if '{}' in name else [name]


def _model_of(path: pathlib.Path) -> CLIPText:
  config = files.read_object(path)
  if missing := sorted({*SIZES.values(), *SAME, 'intermediate_size'} - config.keys()):
    raise UserError(f'{path} lacks {", ".join(missing)}.')
  wanted = SAME | {'intermediate_size': 4 * config['hidden_size']}
  for key, value in wanted.items():
    if config[key] != value:
      raise UserError(f'{path} has {key} {config[key]}; allowed is {value}, as of CLIP.')
  if (activation := config['hidden_act']) not in ACTIVATIONS:
    raise UserError(f'{path} has hidden_act {activation}; allowed are {", ".join(ACTIVATIONS)}.')
  return CLIPText(**{size: config[key] for size, key in SIZES.items()})


def _torch_shape(name, shape):
  """The shape of a tensor; three of them make up `qkv`, the last axis of ours."""
  if '/qkv/' in name:
    shape = (*shape[:-1], shape[-1] // 3)
  return shape[::-1] if name.endswith('/kernel') else shape


def _read(name, tensors) -> np.ndarray:
  arrays = [tensors[part].read() for part in torch_names(name)]
  arrays = [x.T for x in arrays] if name.endswith('/kernel') else arrays
  return np.concatenate(arrays, -1) if len(arrays) > 1 else arrays[0]


def _padding(tokenizer: pathlib.Path) -> int:
  """The token that fills a row.  Of the two files, transformers prefers the first."""
  for name in ('special_tokens_map.json', 'tokenizer_config.json'):
    path = tokenizer / name
    token = files.read_object(path).get('pad_token') if path.is_file() else None
    token = token['content'] if isinstance(token, dict) else token
    if token is not None:
      if token not in PADDINGS:
        raise UserError(f'{path} has pad_token {token}; allowed are {", ".join(PADDINGS)}.')
      return PADDINGS[token]
  return END
