"""The encoder of the texts of a run: a T5 beside the training, or embeddings that were stored."""

import pathlib

from ml_collections import ConfigDict

from data import prompts as lists
from text import embeddings
from text.encoder import open_encoder
from text.hashed import Encoder
from training.monitor import log


def open_texts(config: ConfigDict) -> Encoder:
  """The encoder of captions and prompts.

  If `text.embed` has written embeddings to the dataset of the run, and `config.text` names a T5,
  they are read: T5 is never loaded, and a text without a stored embedding is an error.  Else it is
  the encoder that `config.text` names.  Both return the same bits.

  UserError if the embeddings of the dataset do not fit the config, or prompts of the run are not
  among them: see `embeddings.open_embeddings`.
  """
  if not _has_embeddings(config):
    return open_encoder(**config.text)
  dataset = pathlib.Path(config.data.source)
  encode = embeddings.open_embeddings(dataset, ['', *_prompts(config)], **config.text)
  log(f'Embeddings of texts are read from {embeddings.folder_of(dataset)}; T5 is not loaded.')
  return encode


def _has_embeddings(config: ConfigDict) -> bool:
  # A style is trained on a picture, whatever `data.source` is.
  if config.text.get('source', 'hashed') in ('', 'hashed') or config.stage == 'style':
    return False
  return embeddings.folder_of(pathlib.Path(config.data.source)).exists()


def _prompts(config: ConfigDict) -> list[str]:
  """The texts of samples and of scored videos."""
  # Samples of super-resolution, which alone has `degrade`, are of clips and their captions.
  prompts = [] if config.degrade else list(config.sample_prompts)
  if config.scores.metrics:
    prompts += lists.read(pathlib.Path(config.scores.prompts)) if config.scores.prompts else []
  return prompts
