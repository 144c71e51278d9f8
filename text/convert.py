"""Converts the encoder of a T5 v1.1, as Hugging Face writes it, to one that `text.encoder` opens.

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

from core import command, weights
from core.folder import new_folder
from text.t5 import T5Encoder, shapes
from text.tokenizer import find, load

FAMILIES = ('mt5', 't5')
# Our sizes and theirs, of which files of 2020 lack the last: it was always 128.
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
EMBED_AGAIN = 'encoder.embed_tokens.weight'  # a second name of `shared.weight`


def convert(
  source: pathlib.Path, out: pathlib.Path, tokenizer: pathlib.Path | None = None
) -> T5Encoder:
  """The network whose sizes, weights and tokenizer were written to the new folder `out`.

  source: a folder with `config.json` and `*.safetensors` of a T5 v1.1, with its decoder or without.
  tokenizer: a folder with `spiece.model` or `tokenizer.json`.  If None, `source` is looked in, then
  the folder `tokenizer` beside it, where a pipeline of diffusers has it.

  Weights keep their dtype; one file's worth of them is in memory at a time.  ValueError where
  `source` is something else, is not whole, or has a tensor that would not be used.
  """
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
    weights.write(folder, 'model', ((name, _read(name, part)) for name, part in named.items()))
  return model


def _read(name: str, part: weights.Stored) -> np.ndarray:
  """The tensor, which for a dense layer torch has as `out in`."""
  return part.read().T if name.endswith('/kernel') else part.read()


def _sizes(source: pathlib.Path) -> dict:
  """The sizes that `config.json` says; ValueError where it is of another family."""
  path = source / 'config.json'
  if not path.is_file():
    raise UserError(f'There is no file {path}.')
  try:
    config = json.loads(path.read_text('utf-8'))
  except ValueError as error:
    raise UserError(f'{path} is damaged: {error}.') from error
  if not isinstance(config, dict):
    raise UserError(f'{path} is damaged: it is not a JSON object.')
  if (family := config.get('model_type')) not in FAMILIES:
    raise UserError(f'{path} is of a {family}; allowed are {", ".join(FAMILIES)}.')
  # Transformers takes a file that does not say for the first T5.
  if (dense := config.get('feed_forward_proj', 'relu')) != 'gated-gelu':
    raise UserError(
      f'{path} has feed_forward_proj {dense}, as the T5 of 2019; allowed is gated-gelu, of T5 v1.1.'
    )
  config = {'relative_attention_max_distance': 128} | config
  if missing := sorted(set(SIZES.values()) - config.keys()):
    raise UserError(f'{path} does not say {", ".join(missing)}.')
  return {ours: config[theirs] for ours, theirs in SIZES.items()}


def _named(source: pathlib.Path, model: T5Encoder) -> dict[str, weights.Stored]:
  """The tensors by our names; ValueError unless these are all, of the right shapes."""
  found = weights.find(source)
  if again := found.pop(EMBED_AGAIN, None):
    found.setdefault('shared.weight', again)
  found = {n: part for n, part in found.items() if not n.startswith(('decoder.', 'lm_head.'))}
  expected = {name: (_theirs(name), shape) for name, shape in shapes(model).items()}
  names = {theirs for theirs, _ in expected.values()}
  for what, wrong in (('lacks', names - found.keys()), ('also has', found.keys() - names)):
    if wrong:
      raise UserError(f'{source} {what} {", ".join(sorted(wrong))}: it is no encoder of T5 v1.1.')
  for ours, (theirs, shape) in expected.items():
    shape = shape[::-1] if ours.endswith('/kernel') else shape
    if (got := found[theirs].shape) != shape:
      raise UserError(f'{theirs} in {source} is of shape {got}; config.json says {shape}.')
  return {ours: found[theirs] for ours, (theirs, _) in expected.items()}


def _theirs(name: str) -> str:
  if name in NAMES:
    return f'{NAMES[name]}.weight'
  layer, rest = name.split('/', 1)
  return f'encoder.block.{layer.removeprefix("layer")}.{NAMES_OF_LAYER[rest]}.weight'


def _define_flags() -> None:
  # Not when this module is imported: a process has one set of flags, and this one is a command's.
  flags.DEFINE_string('from', None, 'Folder of config.json and *.safetensors.', required=True)
  flags.DEFINE_string('out', None, 'Folder to write, which may not exist.', required=True)
  flags.DEFINE_string('tokenizer', None, 'Folder of the tokenizer: --from, or ../tokenizer.')


def main() -> None:
  given = {name: flags.FLAGS[name].value for name in ('from', 'out', 'tokenizer')}
  source, out, folder = (None if path is None else pathlib.Path(path) for path in given.values())
  model = convert(source, out, folder)
  print(f'{out}: {model.layers} layers, embeddings of {model.width}')


if __name__ == '__main__':
  _define_flags()
  command.run(main)
