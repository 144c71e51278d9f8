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

  All hashes are read first.  About 70 bytes a clip are in memory.
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

  First, hashes that may look alike are joined to groups, and then those of a group are compared.
  Time grows with the number of clips that look alike times that of those among them that are kept,
  and otherwise almost linearly.
  """
  match = _first_equal(words)
  distinct = np.flatnonzero(match == np.arange(len(words))).astype(np.uint32)
  group = np.arange(len(words), dtype=np.uint32)
  for parts in _parts(distance) if distance else ():
    key = _key(words, parts)[distinct]
    order = np.argsort(key)
    for items, first, differing in _with_first(words, distinct[order], key[order], distance):
      # A hash near to one that leaves with `first` differs from it in at most twice as many bits.
      near = differing <= 2 * distance
      _join(group, items[near], first[near])
  ordered = distinct[np.argsort(group[distinct], kind='stable')]  # by group, and in it as given
  for items, first, differing in _with_first(words, ordered, group[ordered], distance):
    near = differing <= distance
    match[items[near]] = first[near]
  return match


def _with_first(
  words: Words, items: np.ndarray, part: np.ndarray, distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Yields items, the first one in the part of each, and in how many bits their hashes differ.

  It and those that differ from it in at most `distance` bits are then removed, and again, until no
  part has two items.

  items: indices of hashes; those of one part are adjacent.
  part: the part of each.
  """
  while True:
    begins = np.ones(len(part) + 1, bool)  # whether a part begins there, or all have ended
    begins[1:-1] = part[1:] != part[:-1]
    several = ~(begins[:-1] & begins[1:])
    items, part, begins = items[several], part[several], begins[:-1][several]
    if not len(items):
      return
    first = items[begins][np.cumsum(begins) - 1]
    differing = np.concatenate(
      [
        np.bitwise_count(words[items[block]] ^ words[first[block]]).sum(1, dtype=np.int16)
        for block in _blocks(np.arange(len(items)))
      ]
    )
    yield items, first, differing
    left = differing > distance
    items, part = items[left], part[left]


def _join(group: np.ndarray, ones: np.ndarray, others: np.ndarray) -> None:
  """Joins the group of each one with that of the other: both get the lower number."""
  while len(apart := np.flatnonzero(group[ones] != group[others])):
    ones, others = ones[apart], others[apart]
    one, other = group[ones], group[others]
    np.minimum.at(group, np.maximum(one, other), np.minimum(one, other))
    while (group != (joined := group[group])).any():
      group[:] = joined


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
