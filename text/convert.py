"""Converts a T5 v1.1 or the text tower of a CLIP from Hugging Face's format for `text.encoder`.

python -m text.convert --from=DIR --out=DIR
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import json
import pathlib
import shutil

import numpy as np
from absl import flags

from core import command, files, weights
from core.folder import new_folder
from text import convert_clip
from text.clip import CLIPText
from text.t5 import T5Encoder, shapes
from text.tokenizer import find, load

FAMILIES = ('mt5', 't5')
CLIP = 'clip_text_model'
# Our names of sizes, and those of transformers.  Files of 2020 lack the last, which was always 128.
SIZES = {
  'vocabulary': 'vocab_size',
  'width': 'd_model',
  'heads': 'num_heads',
  'head_features': 'd_kv',
  'hidden': 'd_ff',
  'layers': 'num_layers',
  'buckets': 'relative_attention_num_buckets',
  'epsilon': 'layer_norm_epsilon',
  'max_distance': 'relative_attention_max_distance',
}
NAMES = {
  'embed/embedding': 'shared',
  'distance/embedding': 'encoder.block.0.layer.0.SelfAttention.relative_attention_bias',
  'norm_out/scale': 'encoder.final_layer_norm',
}
NAMES_OF_LAYER = {
  'norm_attention/scale': 'layer.0.layer_norm',
  'query/kernel': 'layer.0.SelfAttention.q',
  'key/kernel': 'layer.0.SelfAttention.k',
  'value/kernel': 'layer.0.SelfAttention.v',
  'out/kernel': 'layer.0.SelfAttention.o',
  'norm_dense/scale': 'layer.1.layer_norm',
  'gate/kernel': 'layer.1.DenseReluDense.wi_0',
  'wide/kernel': 'layer.1.DenseReluDense.wi_1',
  'narrow/kernel': 'layer.1.DenseReluDense.wo',
}
TIED_EMBEDDING = 'encoder.embed_tokens.weight'  # a copy of `shared.weight`


def convert(
  source: pathlib.Path, out: pathlib.Path, tokenizer: pathlib.Path | None = None
) -> T5Encoder | CLIPText:
  """Writes the sizes, weights and tokenizer of a network to the new folder `out`, and returns it.

  source: a folder with `config.json` and `*.safetensors` of a T5 v1.1, with or without its decoder,
    or of the text tower of a CLIP.
  tokenizer: a folder with `spiece.model` or `tokenizer.json`, and of a CLIP with `merges.txt` or
    `tokenizer.json`.  If None, it is looked for in `source`, and then in the folder `tokenizer`
    beside it, as in a pipeline of diffusers.

  Weights keep their dtype, and those of one output file are in memory at a time.

  ValueError if `source` is another model, is incomplete, or has a tensor that would not be used.
  """
  if files.read_object(source / 'config.json').get('model_type') == CLIP:
    return convert_clip.convert(source, out, tokenizer)
  model = T5Encoder(**_sizes(source))
  named = _named(source, model)
  beside = source.resolve().parent / 'tokenizer'
  file = find(tokenizer) if tokenizer else find(source, beside)
  if (pieces := load(file).get_piece_size()) > model.vocabulary:
    raise UserError(f'{file} has {pieces} tokens, and the model in {source} {model.vocabulary}.')
  with new_folder(out) as folder:
    sizes = {size: getattr(model, size) for size in SIZES}
    (folder / 'config.json').write_text(json.dumps(sizes, indent=2) + '\n')
    shutil.copyfile(file, folder / file.name)
    weights.write(folder, 'model', ((name, _read(name, tensor)) for name, tensor in named.items()))
  return model


def _read(name: str, tensor: weights.Stored) -> np.ndarray:
  """The tensor, transposed if it is a dense kernel, which torch stores as `out in`."""
  return tensor.read().T if name.endswith('/kernel') else tensor.read()


def _sizes(source: pathlib.Path) -> dict:
  """The sizes in `config.json`; ValueError if it is of another family of models."""
  path = source / 'config.json'
  config = files.read_object(path)
  if (family := config.get('model_type')) not in FAMILIES:
    raise UserError(f'{path} has model_type {family}; allowed are {", ".join((CLIP, *FAMILIES))}.')
  # The default of transformers is relu, that of the first T5.
  if (dense := config.get('feed_forward_proj', 'relu')) != 'gated-gelu':
    raise UserError(
      f'{path} has feed_forward_proj {dense}, as T5 v1.0; allowed is gated-gelu, as T5 v1.1.'
    )
  config = {'relative_attention_max_distance': 128} | config
  if missing := sorted(set(SIZES.values()) - config.keys()):
    raise UserError(f'{path} lacks {", ".join(missing)}.')
  return {name: config[key] for name, key in SIZES.items()}


def _named(source: pathlib.Path, model: T5Encoder) -> dict[str, weights.Stored]:
  """The tensors by our names; ValueError unless exactly these are there, in the right shapes."""
  tensors = weights.find(source)
  if tied := tensors.pop(TIED_EMBEDDING, None):
    tensors.setdefault('shared.weight', tied)
  tensors = {n: t for n, t in tensors.items() if not n.startswith(('decoder.', 'lm_head.'))}
  turned = lambda name, shape: shape[::-1] if name.endswith('/kernel') else shape
  expected = {_torch_name(name): [turned(name, s)] for name, s in shapes(model).items()}
  weights.require(source, tensors, expected, 'an encoder of T5 v1.1')
  return {name: tensors[_torch_name(name)] for name in shapes(model)}


def _torch_name(name: str) -> str:
  if name in NAMES:
    return f'{NAMES[name]}.weight'
  layer, rest = name.split('/', 1)
  return f'encoder.block.{layer.removeprefix("layer")}.{NAMES_OF_LAYER[rest]}.weight'


def _define_flags() -> None:
  # Not at import: a process has one set of flags, and importing this module must not add to it.
  flags.DEFINE_string(
    'from', None, 'Folder with config.json and *.safetensors of a T5 v1.1 or a CLIP.', required=True
  )
  flags.DEFINE_string('out', None, 'New folder to write the encoder to.', required=True)
  flags.DEFINE_string(
    'tokenizer', None,
    'Folder with spiece.model or tokenizer.json; by default the folder of --from, or the folder '
    'tokenizer beside it.',
  )  # fmt: skip


def main() -> None:
  values = [flags.FLAGS[name].value for name in ('from', 'out', 'tokenizer')]
  source, out, tokenizer = (None if path is None else pathlib.Path(path) for path in values)
  model = convert(source, out, tokenizer)
  print(f'{out}: {model.layers} layers, embeddings of {model.width}')


if __name__ == '__main__':
  _define_flags()
  command.run(main)
