"""A tokenizer that is small enough to compute by hand."""

import json
import pathlib

PIECES = [('<pad>', 0.0), ('</s>', 0.0), ('<unk>', 0.0), ('▁', -3.0)]
PIECES += [(letter, -6.0) for letter in 'abcdefghijklmnopqrstuvwxyz']
PIECES += [('▁a', -2.5), ('▁red', -4.0), ('▁blue', -4.0), ('▁circle', -5.0), ('ing', -5.0)]
PIECES += [('▁mov', -6.5), ('<extra_id_0>', 0.0)]
ID = {piece: i for i, (piece, _) in enumerate(PIECES)}
METASPACE = {'type': 'Metaspace', 'replacement': '▁', 'prepend_scheme': 'always', 'split': True}


def described() -> dict:
  """The contents of its tokenizer.json."""
  special = ('<pad>', '</s>', '<unk>', '<extra_id_0>')
  no = dict.fromkeys(('single_word', 'lstrip', 'rstrip', 'normalized'), False)
  end = {'SpecialToken': {'id': '</s>', 'type_id': 0}}
  of_end = {'</s>': {'id': '</s>', 'ids': [1], 'tokens': ['</s>']}}
  return {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': [{'id': ID[t], 'content': t, 'special': True, **no} for t in special],
    'normalizer': None,
    'pre_tokenizer': {
      'type': 'Sequence',
      'pretokenizers': [{'type': 'WhitespaceSplit'}, METASPACE],
    },
    'post_processor': {
      'type': 'TemplateProcessing',
      'single': [{'Sequence': {'id': 'A', 'type_id': 0}}, end],
      'pair': [{'Sequence': {'id': 'A', 'type_id': 0}}, end],
      'special_tokens': of_end,
    },
    'decoder': METASPACE,
    'model': {'type': 'Unigram', 'unk_id': 2, 'vocab': PIECES, 'byte_fallback': False},
  }


def write(path: pathlib.Path, **changed) -> pathlib.Path:
  """Writes the file, with other entries in places, and returns its path."""
  path.write_text(json.dumps(described() | changed), 'utf-8')
  return path
