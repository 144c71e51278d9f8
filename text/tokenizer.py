"""The tokens of T5: those of a unigram model (Kudo, 2018), cut by the library sentencepiece.

Its file is `spiece.model`.  Hugging Face's `tokenizer.json` says the same in other words, of which
the model is made again.
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

FILES = ('spiece.model', 'tokenizer.json')  # where a folder has both, the second is of the first
PAD, END = '<pad>', '</s>'
# Sentencepiece does all of these, and each text is stripped.
NORMALIZERS = {'Precompiled', 'Replace', 'Strip'}
SPLITTERS = {'Metaspace', 'WhitespaceSplit'}


def open_tokenizer(path: pathlib.Path, tokens: int) -> Tokenizer:
  """Returns `tokenize(texts) -> (ids, mask)`: int32 `b n`, and where these are of the text (`b n`).

  `tokens` is n.  As DeepFloyd IF does, a text is stripped and in lower case; the end, `</s>`, is
  its last token, also where it is cut off; the rest is 0.  Whatever is in a text is a text: a
  `</s>` in it is four letters.

  ValueError where the file is missing or damaged, or is not one of T5's family.
  """
  if tokens < 1:
    raise UserError(f'Got tokens={tokens}; it must be at least 1.')
  model = load(path)

  def tokenize(texts: Sequence[str]):
    ids = np.zeros((len(texts), tokens), np.int32)
    mask = np.zeros((len(texts), tokens), bool)
    for row, kept, text in zip(ids, mask, texts):
      of_text = model.encode(text.lower().strip())[: tokens - 1]
      row[: len(of_text) + 1] = [*of_text, model.eos_id()]
      kept[: len(of_text) + 1] = True
    return ids, mask

  return tokenize


def load(path: pathlib.Path) -> SentencePieceProcessor:
  """The model in a file `tokenizer.json`, or in one of sentencepiece; errors as above."""
  if not path.is_file():
    raise UserError(f'There is no file {path}.')
  data = _of_json(path) if path.suffix == '.json' else path.read_bytes()
  model = SentencePieceProcessor()
  try:
    model.load_from_serialized_proto(data)
  except RuntimeError as error:
    raise UserError(f'{path} is damaged, or no model of sentencepiece: {error}.') from error
  trained = ModelProto.FromString(data).trainer_spec
  if trained.model_type != trained.UNIGRAM or model.pad_id() != 0 or model.eos_id() < 0:
    raise UserError(f'{path} is not of T5: a unigram model with {PAD} for 0, and with {END}.')
  return model


def find(*folders: pathlib.Path) -> pathlib.Path:
  """The file of a tokenizer in the first folder that has one; ValueError where none has."""
  for path in (folder / name for folder in folders for name in FILES):
    if path.is_file():
      return path
  raise UserError(f'There is no {" or ".join(FILES)} in {" or ".join(map(str, folders))}.')


def _of_json(path) -> bytes:
  """The model of sentencepiece, serialized, that Hugging Face's file says."""
  try:
    said = json.loads(path.read_text('utf-8'))
    model, special = said['model'], {t['content'] for t in said['added_tokens'] if t['special']}
    normalizers, splitters = _steps(said['normalizer']), _steps(said['pre_tokenizer'])
    if model.get('type', 'Unigram') != 'Unigram' or not isinstance(model['vocab'], list):
      raise UserError('it is not a unigram model')
    if model.get('byte_fallback'):
      raise UserError('it falls back to bytes')
    if unknown := {s['type'] for s in (*normalizers, *splitters)} - NORMALIZERS - SPLITTERS:
      raise UserError(f'it has the steps {", ".join(sorted(unknown))}')
    made = ModelProto()
    made.trainer_spec.model_type = made.trainer_spec.UNIGRAM
    made.trainer_spec.unk_id = model['unk_id']
    made.trainer_spec.pad_piece, made.trainer_spec.eos_piece = PAD, END
    for i, (piece, score) in enumerate(model['vocab']):
      # Those that are special are never made of a text.
      kind = 'UNKNOWN' if i == model['unk_id'] else 'CONTROL' if piece in special else 'NORMAL'
      made.pieces.add(piece=piece, score=score, type=getattr(made.SentencePiece, kind))
    made.trainer_spec.unk_piece = made.pieces[model['unk_id']].piece
    for step in normalizers:
      if step['type'] == 'Precompiled':
        made.normalizer_spec.precompiled_charsmap = base64.b64decode(step['precompiled_charsmap'])
  except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
    reason = ' '.join(str(error).split())
    raise UserError(f'{path} is damaged, or not a tokenizer of T5: {reason}.') from error
  return made.SerializeToString()


def _steps(said) -> list[dict]:
  """The steps of a normalizer or splitter of a text, of which there may be none, one or many."""
  if said is None or said['type'] != 'Sequence':
    return [said] if said else []
  return said.get('normalizers') or said.get('pretokenizers')
