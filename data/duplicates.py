"""Perceptual hashes of clips, and the clips that look like an earlier one.

A frame's hash is that of Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010, section 3.2.1: which of its lowest frequencies are above their median.  It hardly
changes with size, compression and brightness.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int, UInt8

LOW = 8  # frequencies along each side
BITS = LOW * LOW - 1  # of a frame; the mean brightness is left out
FRAMES = 4  # of a clip
PIXELS = 32  # along each side
STRUCTURE = 4  # levels: the standard deviation below which a frame has too little to be compared

# The type-II discrete cosine transform in integers, so that hashes are equal on every machine.
_FREQUENCIES, _POSITIONS = np.mgrid[:LOW, :PIXELS]
_DCT = np.rint(1024 * np.cos(np.pi * _FREQUENCIES * (2 * _POSITIONS + 1) / (2 * PIXELS))).astype(
  np.int64
)


def frame_hash(pixels: UInt8[np.ndarray, 'side side 3']) -> Int[np.ndarray, ' bits']:
  """The bits of a square frame whose side is a multiple of `PIXELS`, or -1 without structure."""
  side = len(pixels) // PIXELS
  grey = pixels.reshape(PIXELS, side, PIXELS, side, 3).sum((1, 3, 4), dtype=np.int64)
  if grey.std() < STRUCTURE * 3 * side * side:
    return np.full(BITS, -1, np.int8)
  low = (_DCT @ grey @ _DCT.T).ravel()[1:]
  return (low > np.median(low)).astype(np.int8)


def clip_hash(hashes: Int[np.ndarray, 't bits']) -> str:
  """The hash of a clip in hexadecimal, from those of its frames; '' if one has no structure.

  It is that of `FRAMES` frames at equal distances.
  """
  at = [(2 * i + 1) * len(hashes) // (2 * FRAMES) for i in range(FRAMES)]
  bits = hashes[at].ravel() if len(hashes) else np.full(1, -1)
  return '' if (bits < 0).any() else np.packbits(bits.astype(np.uint8)).tobytes().hex()


def of_earlier(hashes: Iterable[str], distance: int) -> Iterator[int | None]:
  """For each clip, the first earlier clip that looks like it and is no duplicate itself, or None.

  distance: clips look alike if at most so many of their `FRAMES` times `BITS` bits differ.  Clips
    whose hash is '' look like no other.

  Of bits that are divided into `distance` + 1 bands, one band is equal if at most `distance` bits
  differ, so that only clips with an equal band are compared.
  """
  bands = np.array_split(np.arange(FRAMES * BITS), distance + 1)
  kept, by_band = [], [{} for _ in bands]
  for index, text in enumerate(hashes):
    if not text:
      yield None
      continue
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    bits = np.unpackbits(packed)[: FRAMES * BITS]
    keys = [bits[band].tobytes() for band in bands]
    similar = sorted({i for key, seen in zip(keys, by_band) for i in seen.get(key, ())})
    match = _nearest(packed, [kept[i][1] for i in similar], distance)
    if match is not None:
      yield kept[similar[match]][0]
      continue
    for key, seen in zip(keys, by_band):
      seen.setdefault(key, []).append(len(kept))
    kept.append((index, packed))
    yield None


def _nearest(packed: np.ndarray, others: Sequence[np.ndarray], distance: int) -> int | None:
  """The first of the others from which at most `distance` bits differ."""
  if not others:
    return None
  different = np.bitwise_count(np.stack(others) ^ packed).sum(1)
  near = np.flatnonzero(different <= distance)
  return int(near[0]) if len(near) else None
