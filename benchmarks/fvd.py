"""Checks that the Fréchet video distance of real clips grows with damage.

  python -m benchmarks.fvd --videos=DIR --i3d=i3d.safetensors

Clips are compared with themselves, and with the same clips damaged in five ways at five strengths.
A distance that does not grow with the strength cannot be trusted to fall as a model improves, so
that is an error.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from benchmarks.distortions import distorted
from core import command
from core.errors import UserError
from core.video import Pixels
from evaluation.clips import Reading, batched, clips
from evaluation.feature_statistics import Moments, feature_moments, frechet_distance, merge_moments
from evaluation.features.i3d import MIN_FRAMES
from evaluation.features.networks import FeatureNetwork, open_features
from evaluation.folder import open_folder

KINDS = ('noise', 'blur', 'frame shuffling', 'freezing', 'colour shift')
STRENGTHS = range(1, 6)
WHOLE = ('none', 0)

Moments = dict[tuple[str, int], Moments]  # by the kind of damage and its strength


def moments(
  network: FeatureNetwork, clips: Iterable[Pixels], kinds: Sequence[str], batch: int
) -> Moments:
  """The moments of the features of all clips, intact and with every kind and strength of damage.

  clips: clips of any sizes; one is in memory at a time.
  batch: the number of clips in a batch of the network.
  """
  ways = [WHOLE, *itertools.product(kinds, STRENGTHS)]

  def prepared() -> Iterator[tuple[str, np.ndarray]]:
    # Each clip has its own seed, so that the result does not depend on one order of frames.
    for seed, clip in enumerate(clips):
      for kind, strength in ways:
        damaged = distorted(clip, kind, strength, seed) if strength else clip
        yield kind, network.prepare(damaged)

  result = {}
  features = itertools.chain.from_iterable(map(network.extract, batched(prepared(), batch)))
  for way, feature in zip(itertools.cycle(ways), features):
    one = feature_moments(feature[None])
    result[way] = merge_moments(result[way], one) if way in result else one
  return result


def table(distances: dict[str, list[float]]) -> str:
  """A Markdown table of the distances by kind and strength of damage, and whether they grow."""
  lines = [['damage', *map(str, STRENGTHS), 'grows'], ['---'] * (len(STRENGTHS) + 2)]
  for kind, values in distances.items():
    lines.append([kind, *(f'{d:.4g}' for d in values), 'yes' if grows(values) else 'NO'])
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def grows(distances: Sequence[float]) -> bool:
  """Whether the distances are strictly increasing and above 0."""
  return bool(all(np.diff([0.0, *distances]) > 0))


def main() -> None:
  f = flags.FLAGS
  kinds = list(dict.fromkeys(f.kinds or KINDS))
  if unknown := sorted(set(kinds) - set(KINDS)):
    raise UserError(f'Unknown kinds: {", ".join(unknown)}.  Allowed: {", ".join(KINDS)}.')
  network, folder = open_features('i3d', f.i3d, f.batch), open_folder(f.videos)
  skipped = []
  skip = lambda file, reason: skipped.append(file)
  read = clips(folder, Reading(f.frames), lambda clip: clip, skip=skip, count=f.count or None)
  pixels = (clip for _, clip in tqdm(read, unit='clip', file=sys.stderr))
  result = moments(network, pixels, kinds, f.batch)
  whole = result[WHOLE]
  left_out = f'{len(skipped)} videos left out'
  print(f'{whole.count} clips of {f.frames} frames, {left_out}; I3D {network.weights}')
  print(f'{jax.devices()[0].device_kind}, JAX {jax.__version__}\n')
  print(f'distance of the clips to themselves: {frechet_distance(whole, whole):.2e}\n')
  distances = {
    kind: [frechet_distance(whole, result[kind, strength]) for strength in STRENGTHS]
    for kind in kinds
  }
  print(table(distances))
  if failed := [kind for kind, values in distances.items() if not grows(values)]:
    command.fail(f'The distance does not grow with {", ".join(failed)}.')


if __name__ == '__main__':
  flags.DEFINE_string('videos', None, 'Folder of real videos.', required=True)
  flags.DEFINE_string(
    'i3d', 'random:0', 'Weights of I3D: a .safetensors or .npz file, or random:SEED.'
  )
  flags.DEFINE_integer('count', 0, 'Number of clips; 0 is one of each video.', lower_bound=0)
  flags.DEFINE_integer('frames', 16, 'Number of frames of a clip.', lower_bound=MIN_FRAMES)
  flags.DEFINE_integer('batch', 4, 'Number of clips in a batch.', lower_bound=1)
  flags.DEFINE_list('kinds', None, 'Kinds of damage to measure; by default all.')
  command.run(main)
