"""Whether the Fréchet video distance grows with damage, on real clips.

  python -m benchmarks.fvd --videos=DIR --i3d=i3d.safetensors

Clips are compared with themselves, and with the same clips damaged in five ways at five strengths.
A distance that does not grow with each of them cannot be trusted to fall as a model gets better:
where it does not is an error.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from core import command
from core.errors import UserError
from core.video import Pixels
from evaluation import frechet
from evaluation.distortions import distorted
from evaluation.features.i3d import LEAST
from evaluation.features.networks import Features, open_features
from evaluation.videos import Reading, batched, clips, open_folder

KINDS = ('noise', 'blur', 'frame shuffling', 'freezing', 'colour shift')
STRENGTHS = range(1, 6)
WHOLE = ('none', 0)

Moments = dict[tuple[str, int], frechet.Moments]  # by the kind of damage and its strength


def moments(network: Features, some: Iterable[Pixels], kinds: Sequence[str], batch: int) -> Moments:
  """Those of the features of all clips, whole and damaged in every way of these kinds.

  some: clips of any sizes, of which one is held at a time.
  batch: clips, whole or damaged, that are seen at once.
  """
  ways = [WHOLE, *itertools.product(kinds, STRENGTHS)]

  def prepared() -> Iterator[tuple[str, np.ndarray]]:
    # Each clip has a seed of its own: one order of frames for all might be a lucky one.
    for seed, clip in enumerate(some):
      for kind, strength in ways:
        damaged = distorted(clip, kind, strength, seed) if strength else clip
        yield kind, network.prepare(damaged)

  found = {}
  features = itertools.chain.from_iterable(map(network.see, batched(prepared(), batch)))
  for way, feature in zip(itertools.cycle(ways), features):
    one = frechet.moments(feature[None])
    found[way] = frechet.joined(found[way], one) if way in found else one
  return found


def table(distances: dict[str, list[float]]) -> str:
  """In Markdown, of each kind of damage the distances by strength and whether they grow."""
  lines = [['damage', *map(str, STRENGTHS), 'grows'], ['---'] * (len(STRENGTHS) + 2)]
  for kind, of in distances.items():
    lines.append([kind, *(f'{d:.4g}' for d in of), 'yes' if grows(of) else 'NO'])
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def grows(distances: Sequence[float]) -> bool:
  """Whether each is more than the one before, and the first more than none."""
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
  some = (clip for _, clip in tqdm(read, unit='clip', file=sys.stderr))
  found = moments(network, some, kinds, f.batch)
  whole = found[WHOLE]
  left_out = f'{len(skipped)} videos left out'
  print(f'{whole.count} clips of {f.frames} frames, {left_out}; I3D {network.weights}')
  print(f'{jax.devices()[0].device_kind}, JAX {jax.__version__}\n')
  print(f'of the clips and themselves: {frechet.distance(whole, whole):.2e}\n')
  distances = {
    kind: [frechet.distance(whole, found[kind, strength]) for strength in STRENGTHS]
    for kind in kinds
  }
  print(table(distances))
  if failed := [kind for kind, of in distances.items() if not grows(of)]:
    command.fail(f'The distance does not grow with {", ".join(failed)}.')


if __name__ == '__main__':
  flags.DEFINE_string('videos', None, 'A folder of real videos.', required=True)
  flags.DEFINE_string('i3d', 'random:0', 'Weights: .safetensors, .npz, or random:SEED.')
  flags.DEFINE_integer('count', 0, 'Of clips; 0 is the first of each video.', lower_bound=0)
  flags.DEFINE_integer('frames', 16, 'Of a clip.', lower_bound=LEAST)
  flags.DEFINE_integer('batch', 4, 'Clips seen at once.', lower_bound=1)
  flags.DEFINE_list('kinds', None, 'Some kinds of damage alone.')
  command.run(main)
