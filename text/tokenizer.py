"""The tokenizer of T5: a unigram model (Kudo, 2018), run by the library sentencepiece.

Its file is `spiece.model`.  If there is only Hugging Face's `tokenizer.json`, which contains the
same model in another format, it is converted.
"""

import base64
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int
from sentencepiece import SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto

from core.errors import UserError

Tokenizer = Callable[[Sequence[str]], tuple[Int[np.ndarray, 'b n'], Bool[np.ndarray, 'b n']]]

FILES = ('spiece.model', 'tokenizer.json')  # in order of preference
PAD, END = '<pad>', '</s>'
# Steps of tokenizer.json that sentencepiece also performs; texts are stripped here.
NORMALIZERS = {'Precompiled', 'Replace', 'Strip'}
SPLITTERS = {'Metaspace', 'WhitespaceSplit'}


def open_tokenizer(path: pathlib.Path, tokens: int) -> Tokenizer:
  """Returns `tokenize(texts) -> (ids, mask)`: int32 `b n`, and a mask of the text's tokens (`b n`).

  tokens: n.

  As in DeepFloyd IF, texts are stripped and lower-cased.  The last token of a text is `</s>`, even
  if the text is truncated, and padding is 0.  A `</s>` inside a text is tokenized as four letters.

  ValueError if the file is missing or damaged, or is not a tokenizer of T5's family.
  """
  if tokens < 1:
    raise UserError(f'Got tokens={tokens}; it must be at least 1.')
  model = load(path)

  def tokenize(texts: Sequence[str]):
    ids = np.zeros((len(texts), tokens), np.int32)
    mask = np.zeros((len(texts), tokens), bool)
    for row, row_mask, text in zip(ids, mask, texts):
      text_ids = model.encode(text.lower().strip())[: tokens - 1]
      row[: len(text_ids) + 1] = [*text_ids, model.eos_id()]
      row_mask[: len(text_ids) + 1] = True
    return ids, mask

  return tokenize


def load(path: pathlib.Path) -> SentencePieceProcessor:
  """The model in a file of FILES; errors are those of `open_tokenizer`."""
  if not path.is_file():
    raise UserError(f'There is no file {path}.')
  data = _from_json(path) if path.suffix == '.json' else path.read_bytes()
  model = SentencePieceProcessor()
  try:
    model.load_from_serialized_proto(data)
  except RuntimeError as error:
    raise UserError(f'{path} is damaged, or not a model of sentencepiece: {error}.') from error
  trained = ModelProto.FromString(data).trainer_spec
  if trained.model_type != trained.UNIGRAM or model.pad_id() != 0 or model.eos_id() < 0:
    raise UserError(f'{path} is not of T5, a unigram model in which {PAD} is 0 and {END} exists.')
  return model


def find(*folders: pathlib.Path) -> pathlib.Path:
  """The file of a tokenizer in the first folder that has one; ValueError if none has one."""
  for path in (folder / name for folder in folders for name in FILES):
    if path.is_file():
      return path
  raise UserError(f'There is no {" or ".join(FILES)} in {" or ".join(map(str, folders))}.')


def _from_json(path) -> bytes:
  """The serialized sentencepiece model of Hugging Face's file `tokenizer.json`."""
  try:
    config = json.loads(path.read_text('utf-8'))
    model = config['model']
    special = {token['content'] for token in config['added_tokens'] if token['special']}
    normalizers, splitters = _steps(config['normalizer']), _steps(config['pre_tokenizer'])
    if model.get('type', 'Unigram') != 'Unigram' or not isinstance(model['vocab'], list):
      raise UserError('it is not a unigram model')
    if model.get('byte_fallback'):
      raise UserError('it has byte_fallback')
    if unknown := {s['type'] for s in (*normalizers, *splitters)} - NORMALIZERS - SPLITTERS:
      raise UserError(f'it has the steps {", ".join(sorted(unknown))}')
    proto = ModelProto()
    proto.trainer_spec.model_type = proto.trainer_spec.UNIGRAM
    proto.trainer_spec.unk_id = model['unk_id']
    proto.trainer_spec.pad_piece, proto.trainer_spec.eos_piece = PAD, END
    for i, (piece, score) in enumerate(model['vocab']):
      # A text is never split into special tokens.
      kind = 'UNKNOWN' if i == model['unk_id'] else 'CONTROL' if piece in special else 'NORMAL'
      proto.pieces.add(piece=piece, score=score, type=getattr(proto.SentencePiece, kind))
    proto.trainer_spec.unk_piece = proto.pieces[model['unk_id']].piece
    for step in normalizers:
      if step['type'] == 'Precompiled':
        proto.normalizer_spec.precompiled_charsmap = base64.b64decode(step['precompiled_charsmap'])
  except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
    reason = ' '.join(str(error).split())
    raise UserError(f'{path} is damaged, or not a tokenizer of T5: {reason}.') from error
  return proto.SerializeToString()


def _steps(step) -> list[dict]:
  """The steps of a normalizer or pre-tokenizer, which may be None, one step or a sequence."""
  if step is None or step['type'] != 'Sequence':
    return [step] if step else []
  return step.get('normalizers') or step.get('pretokenizers')
