"""Whether the Fréchet video distance grows with damage, on real clips.

  python -m benchmarks.fvd --videos=DIR --i3d=i3d.safetensors

Clips are compared with themselves, and with the same clips damaged in five ways at five strengths.
A distance that does not grow with each of them cannot be trusted to fall as a model gets better.
"""

import sys
from collections.abc import Sequence

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from core import command
from evaluation import frechet
from evaluation.distortions import distorted
from evaluation.features import Features, open_features
from evaluation.videos import Reading, clips, open_folder

_VIDEOS = flags.DEFINE_string('videos', None, 'A folder of real videos.', required=True)
_I3D = flags.DEFINE_string('i3d', 'random:0', 'Weights: .safetensors, .npz, or random:SEED.')
_COUNT = flags.DEFINE_integer('count', 0, 'Of clips; 0 is the first of each video.')
_FRAMES = flags.DEFINE_integer('frames', 16, 'Of a clip.')
_BATCH = flags.DEFINE_integer('batch', 4, 'Clips seen at once.', lower_bound=1)

_KINDS = flags.DEFINE_list('kinds', None, 'Some kinds of damage alone.')

KINDS = ('noise', 'blur', 'frame shuffling', 'freezing', 'colour shift')
STRENGTHS = range(1, 6)


def main() -> None:
  kinds = _KINDS.value or KINDS
  if unknown := sorted(set(kinds) - set(KINDS)):
    raise ValueError(f'Unknown kinds: {", ".join(unknown)}.  Allowed: {", ".join(KINDS)}.')
  network, folder = open_features('i3d', _I3D.value, _BATCH.value), open_folder(_VIDEOS.value)
  skipped = []
  skip = lambda file, reason: skipped.append(file)
  read = clips(
    folder, Reading(_FRAMES.value), lambda clip: clip, skip=skip, count=_COUNT.value or None
  )
  found: dict[tuple[str, int], frechet.Moments] = {}
  some = []
  for _, clip in tqdm(read, unit='clip', file=sys.stderr):
    some.append(clip)
    if len(some) == _BATCH.value:
      see(network, some, kinds, found)
      some = []
  if some:
    see(network, some, kinds, found)
  whole = found['none', 0]
  left_out = f'{len(skipped)} videos left out'
  print(f'{whole.count} clips of {_FRAMES.value} frames, {left_out}; I3D {network.weights}')
  print(f'{jax.devices()[0].device_kind}, JAX {jax.__version__}\n')
  print(f'of the clips and themselves: {frechet.distance(whole, whole):.2e}\n')
  print(f'| damage | {" | ".join(map(str, STRENGTHS))} | grows |')
  print('|---' * (len(STRENGTHS) + 2) + '|')
  for kind in kinds:
    distances = [frechet.distance(whole, found[kind, strength]) for strength in STRENGTHS]
    grows = all(np.diff([0.0, *distances]) > 0)
    print(f'| {kind} | {" | ".join(f"{d:.4g}" for d in distances)} | {"yes" if grows else "NO"} |')


def see(network: Features, some: Sequence[np.ndarray], kinds: Sequence[str], found: dict) -> None:
  """Adds the features of the clips, whole and damaged in every way, to those found."""
  ways = [('none', 0), *((kind, strength) for kind in kinds for strength in STRENGTHS)]
  first = found['none', 0].count if found else 0
  for kind, strength in ways:
    # Each clip has a seed of its own: one order of frames for all might be a lucky one.
    damaged = (
      distorted(clip, kind, strength, seed) if strength else clip
      for seed, clip in enumerate(some, first)
    )
    features = network.see(np.stack([network.prepare(clip) for clip in damaged]))
    moments = frechet.moments(features.astype(np.float64))
    before = found.get((kind, strength))
    found[kind, strength] = frechet.joined(before, moments) if before else moments


if __name__ == '__main__':
  command.run(main)
