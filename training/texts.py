"""The encoder of the texts of a run: a T5 beside the training, or embeddings that were stored."""

import pathlib

from ml_collections import ConfigDict

from data import prompts as lists
from data.mixture import names
from text import embeddings
from text.encoder import open_encoder
from text.hashed import Encoder
from training.monitor import log


def open_texts(config: ConfigDict) -> Encoder:
  """The encoder of captions and prompts.

  If `text.embed` has written embeddings to the dataset of the run, or to all datasets of its
  mixture, and `config.text` names a T5, they are read: T5 is never loaded, and a text without a
  stored embedding is an error.  Else it is the encoder that `config.text` names.  Both return the
  same bits.

  UserError if the embeddings of a dataset do not fit the config, or prompts of the run are not
  among them: see `embeddings.open_embeddings`.
  """
  # A style is trained on a picture, whatever `data` says.
  stored = [] if config.stage == 'style' else _with_embeddings(config)
  if not stored or config.text.get('source', 'hashed') in ('', 'hashed'):
    return open_encoder(**config.text)
  encode = embeddings.open_embeddings(stored, ['', *_prompts(config)], **config.text)
  folders = ' and '.join(str(embeddings.folder_of(dataset)) for dataset in stored)
  log(f'Embeddings of texts are read from {folders}; T5 is not loaded.')
  return encode


def _with_embeddings(config: ConfigDict) -> list[pathlib.Path]:
  """The datasets of the run, if all of its sources are datasets with embeddings; else []."""
  d = config.data
  datasets = [pathlib.Path(name) for name in names(d.source, d.get('mixture', ()))]
  return datasets if all(embeddings.folder_of(path).exists() for path in datasets) else []


def _prompts(config: ConfigDict) -> list[str]:
  """The texts of samples and of scored videos."""
  # Samples of super-resolution, which alone has `degrade`, are of clips and their captions.
  prompts = [] if config.degrade else list(config.sample_prompts)
  if config.scores.metrics:
    prompts += lists.read(pathlib.Path(config.scores.prompts)) if config.scores.prompts else []
  return prompts
