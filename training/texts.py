"""The encoder of the texts of a run: a T5 beside the training, or embeddings that were stored."""

import pathlib
from collections.abc import Sequence

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
  stored embedding is an error.  Else it is the encoder that `config.text` names; a line is logged
  if only some of the datasets have embeddings.  Both return the same bits.

  UserError if the embeddings of a dataset do not fit the config, or prompts of the run are not
  among them: see `embeddings.open_embeddings`.
  """
  # A style is trained on a picture, whatever `data` says.
  sources = [] if config.stage == 'style' else _sources(config)
  stored = [source for source in sources if embeddings.folder_of(source).exists()]
  if not stored or config.text.get('source', 'hashed') in ('', 'hashed'):
    return open_encoder(**config.text)
  if missing := [source for source in sources if source not in stored]:
    log(_reason(missing, config))
    return open_encoder(**config.text)
  encode = embeddings.open_embeddings(stored, ['', *_prompts(config)], **config.text)
  folders = ' and '.join(str(embeddings.folder_of(dataset)) for dataset in stored)
  log(f'Embeddings of texts are read from {folders}; T5 is not loaded.')
  return encode


def _sources(config: ConfigDict) -> list[pathlib.Path]:
  return [pathlib.Path(n) for n in names(config.data.source, config.data.get('mixture', ()))]


def _reason(missing: Sequence[pathlib.Path], config: ConfigDict) -> str:
  """Why T5 is loaded though some sources have embeddings, and what to do."""
  settings = {key: value for key, value in config.text.items() if key not in ('cache', 'width')}
  settings = embeddings.encoder_settings(**settings)
  commands = [
    embeddings.command(source, config.text.source, settings) if source.is_dir()
    else f'text.embed does not read {source}'
    for source in missing
  ]  # fmt: skip
  return (
    f'T5 is loaded, because {" and ".join(map(str, missing))} of the mixture has no stored '
    f'embeddings:  {";  ".join(commands)}'
  )


def _prompts(config: ConfigDict) -> list[str]:
  """The texts of samples and of scored videos."""
  # Samples of super-resolution, which alone has `degrade`, are of clips and their captions.
  prompts = [] if config.degrade else list(config.sample_prompts)
  if config.scores.metrics:
    prompts += lists.read(pathlib.Path(config.scores.prompts)) if config.scores.prompts else []
  return prompts
