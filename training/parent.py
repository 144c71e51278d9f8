"""The trained model that a run starts from, its parent: `init_from` names the workdir."""

import pathlib

import jax
from ml_collections import ConfigDict

from core.errors import UserError
from core.sharding import fsdp
from core.typing import Params
from training import checkpoint


def load_params(config: ConfigDict, mesh: jax.sharding.Mesh) -> Params:
  """The parent's averaged and frozen parameters, sharded over the mesh; {} without a parent."""
  if not config.init_from:
    return {}
  shardings = lambda shapes: fsdp(shapes, mesh, config.shard_above)
  _, params, _ = checkpoint.load(pathlib.Path(config.init_from), shardings)
  return params


def require_same_texts(workdir: pathlib.Path, config: ConfigDict) -> None:
  """UserError unless the parent in the workdir gets its texts encoded as the config says."""
  old, new = text_settings(checkpoint.load_config(workdir)), text_settings(config)
  if differ := sorted(key for key in old if old[key] != new[key]):
    needed = ' '.join(f'--config.text.{key}={old[key]}' for key in differ)
    raise UserError(f'{workdir} was trained with other text settings; it needs {needed}.')


def text_settings(config: ConfigDict) -> dict:
  """The keys of `config.text` that change what a model gets for a text."""
  source = config.text.get('source', 'hashed')
  if source not in ('', 'hashed'):
    source = str(pathlib.Path(source).resolve())
  # Hashed words are always masked.  Configs from before there was this key do not mask.
  mask_padding = source != 'hashed' and config.text.get('mask_padding', False)
  return {
    'source': source,
    'tokens': config.text.tokens,
    'width': config.text.width,
    'mask_padding': mask_padding,
  }
