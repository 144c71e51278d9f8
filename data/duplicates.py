"""Perceptual hashes of clips, and the clips that look like an earlier one.

A frame's hash is that of Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010, section 3.2.1: which of its lowest frequencies are above their median.  It hardly
changes with size, compression and brightness.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int, Shaped, UInt8, UInt32, UInt64

LOW = 8  # frequencies along each side
BITS = LOW * LOW - 1  # of a frame; the mean brightness is left out
FRAMES = 4  # of a clip
PIXELS = 32  # along each side
WORDS = 4  # of 64 bits, in a hash
KEY_BITS = 22  # hashes are compared if so many of their bits are equal: about 1 in 4 million
BLOCK = 2**20  # hashes that are compared at once
STRUCTURE = 4  # levels: the standard deviation below which a frame has too little to be compared

Words = Shaped[np.ndarray, 'n 4']  # of unsigned integers, in the byte order of the hashes

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

  All hashes are read first.  About 70 bytes a clip are in memory, and 8 to 16 for each pair of
  clips that look alike.
  """
  packed, hashed = bytearray(), bytearray()
  for text in hashes:
    packed += bytes.fromhex(text)
    hashed.append(bool(text))
  match = _matches(np.frombuffer(packed, '>u8').reshape(-1, WORDS), distance)
  positions = np.flatnonzero(np.frombuffer(hashed, bool))
  numbers = iter(range(len(match)))
  for present in hashed:
    number = next(numbers) if present else 0
    earlier = match[match[number]] if present else number  # of a copy of a clip that looks like it
    yield int(positions[earlier]) if earlier != number else None


def _matches(words: Words, distance: int) -> UInt32[np.ndarray, ' n']:
  """For each hash, itself, the first equal one, or what `of_earlier` returns for distinct ones.

  Time grows with the square of the number of clips that look alike, and otherwise almost linearly.
  """
  count, pairs, match = len(words), np.zeros(0, np.int64), _first_equal(words)
  distinct = np.flatnonzero(match == np.arange(count, dtype=np.uint32)).astype(np.uint32)
  for parts in _parts(distance) if distance else ():
    key = _key(words, parts)[distinct]
    order = np.argsort(key)
    key = key[order]
    order = distinct[order]
    first, near_here = np.flatnonzero(key[1:] == key[:-1]), [pairs]
    for step in itertools.count(1):
      first = first[first + step < len(key)]
      first = first[key[first] == key[first + step]]
      if not len(first):
        break
      for block in _blocks(first):
        one, other = order[block], order[block + step]
        near = np.bitwise_count(words[one] ^ words[other]).sum(1) <= distance
        one, other = one[near].astype(np.int64), other[near].astype(np.int64)
        near_here.append(np.maximum(one, other) * count + np.minimum(one, other))
    if len(near_here) > 1:
      pairs = np.unique(np.concatenate(near_here))
  for pair in pairs:  # in the order of the later clips, and for each of its earlier ones
    later, earlier = divmod(int(pair), count)
    if match[later] == later and match[earlier] == earlier:
      match[later] = earlier
  return match


def _first_equal(words: Words) -> UInt32[np.ndarray, ' n']:
  """The index of the first hash that equals each one."""
  result, mixed = np.arange(len(words), dtype=np.uint32), np.zeros(len(words), np.uint64)
  for word in words.T:
    mixed = mixed * np.uint64(0x9E3779B97F4A7C15) ^ word.astype(np.uint64)
  order = np.argsort(mixed, kind='stable')
  for block in _blocks(np.flatnonzero(mixed[order[1:]] == mixed[order[:-1]]) + 1):
    equal = block[(words[order[block]] == words[order[block - 1]]).all(1)]
    for at in equal:  # in ascending order
      result[order[at]] = result[order[at - 1]]
  return result


def _parts(distance: int) -> Iterator[tuple[tuple[int, int], ...]]:
  """Parts of the bits, of which one is equal in two hashes if at most `distance` bits differ.

  Of bits that are divided into `distance` + k parts, k are equal, since every bit that differs is
  in one part.  All choices of k, which is 1 or 2, are returned: a single part of few bits would
  often be equal by chance.  See Manku et al., "Detecting Near-Duplicates for Web Crawling", 2007.
  """
  together = 1 if FRAMES * BITS // (distance + 1) >= KEY_BITS else 2
  ends = np.linspace(0, FRAMES * BITS, distance + together + 1).astype(int)
  yield from itertools.combinations(itertools.pairwise(ends.tolist()), together)


def _key(words: Words, parts: Sequence[tuple[int, int]]) -> UInt64[np.ndarray, ' n']:
  """A number from these bits of each hash, or from as many as it can have."""
  key = np.zeros(len(words), np.uint64)
  for start, end in parts:
    end = min(end, start + 64 // len(parts))
    key = key << np.uint64(end - start) | _bits(words, start, end)
  return key


def _bits(words: Words, start: int, end: int) -> UInt64[np.ndarray, ' n']:
  """At most 64 bits of each hash, as a number."""
  first, last = start // 64, (end - 1) // 64
  value = words[:, last].astype(np.uint64) >> np.uint64(64 * (last + 1) - end)
  if first < last:
    value |= words[:, first].astype(np.uint64) << np.uint64(end - 64 * last)
  return value & np.uint64(2 ** (end - start) - 1)


def _blocks(indices: np.ndarray) -> Iterator[np.ndarray]:
  """Parts of an array, small enough to compare the hashes of each at once."""
  for start in range(0, len(indices), BLOCK):
    yield indices[start : start + BLOCK]
