r"""A style as a file: the changes of an image model's weights, for every video model inflated from
it.

  python -m pipelines.style --workdir=runs/neon --out=neon.npz

The spatial weights of a video model are interpolated with those of the style (Lumiere, Sec. 4.1):

  W = alpha W_style + (1 - alpha) W_orig.

The file also has fingerprints of W_orig, the weights of the image model on which the style was
trained.  A video model that was inflated from other weights would make noise with it, and is
refused.
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import dataclasses
import json
import pathlib
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from core import command
from core.folder import new_file
from core.params import blend, matches, names, nest
from core.typing import Params
from core.writable import require_file
from stunet.adapters import merge_adapters
from stunet.inflate import TEMPORAL
from training import checkpoint

_FACTS = 'facts'  # the name of the array in the file that holds JSON


@dataclasses.dataclass(frozen=True)
class Style:
  """The contents of the file."""

  descriptor: str  # the words that a prompt needs for it
  fingerprints: dict[str, int]  # of every weight of the image model
  changes: Params  # adapters, and the weights that differ from those of the image model


def fingerprint(weight) -> int:
  """A checksum of a weight, the same in float32 and in bfloat16.  All processes that share the
  weight call this together."""
  whole = multihost_utils.process_allgather(jnp.asarray(weight, jnp.bfloat16), tiled=True)
  return zlib.crc32(np.asarray(whole).tobytes())


def load_trained(workdir: pathlib.Path) -> Style:
  """The style that was trained in a workdir.  ValueError if none was."""
  config, params, _ = checkpoint.load(workdir)
  if config.get('stage') != 'style':
    raise UserError(f'{workdir} is not a style; configs/style.py trains one.')
  _, image, _ = checkpoint.load(pathlib.Path(config.init_from))
  image, trained = names(image), names(params)
  fingerprints = {name: fingerprint(weight) for name, weight in image.items()}
  changed = {
    name: weight
    for name, weight in trained.items()
    if name not in image or not np.array_equal(weight, image[name])
  }
  return Style(config.style.descriptor, fingerprints, nest(changed))


def save(path: pathlib.Path, style: Style) -> None:
  """Writes the file, whole or not at all."""
  facts = json.dumps({'descriptor': style.descriptor, 'began': style.fingerprints})
  arrays = {name: np.asarray(value) for name, value in names(style.changes).items()}
  with new_file(path) as new, new.open('wb') as file:
    np.savez_compressed(file, **{_FACTS: np.array(facts)}, **arrays)


def load(path: pathlib.Path) -> Style:
  """The style in a file; ValueError if the file has none."""
  try:
    with np.load(path) as file:
      arrays = {name: file[name] for name in file.files}
    facts = json.loads(str(arrays.pop(_FACTS)))
  except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
    raise UserError(f'{path} is not a style, as pipelines.style writes one.') from error
  return Style(facts['descriptor'], facts['began'], nest(arrays))


def blended(video: Params, style: Style, alpha: float) -> Params:
  """The video model with its spatial weights interpolated: alpha 0 leaves them as they are, and
  alpha 1 makes them those of the style.

  ValueError, with the names of the weights, if they are not those on which the style was trained.
  """
  named, trained_on = names(video), style.fingerprints
  spatial = {n: v for n, v in named.items() if not matches(n, TEMPORAL)}
  prints = {name: fingerprint(weight) for name, weight in spatial.items()}
  if other := sorted(n for n in prints.keys() | trained_on if prints.get(n) != trained_on.get(n)):
    raise UserError(
      f'The style began from another image model; {len(other)} of its weights differ: '
      f'{", ".join(other)}.'
    )
  styled = merge_adapters(nest(named | names(style.changes)))
  return blend(video, styled, alpha)


def main() -> None:
  if not flags.FLAGS.workdir or not flags.FLAGS.out:
    raise UserError('Both --workdir=DIR and --out=FILE are needed.')
  out = pathlib.Path(flags.FLAGS.out)
  if out.suffix != '.npz' or not out.parent.is_dir():
    raise UserError(f'Got --out={out}; allowed is a name that ends in .npz, in a folder.')
  require_file(out)
  save(out, load_trained(pathlib.Path(flags.FLAGS.workdir)))
  print(f'{out}: {out.stat().st_size:,} bytes')


if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'The style is read from the workdir of this run.')
  flags.DEFINE_string('out', None, 'The style is written to this file, whose name ends in .npz.')
  command.run(main)
