"""Clips that look alike have near hashes, and the search for near ones misses none."""

import time

import numpy as np
import pytest
import scipy.fft

from data import duplicates

BITS = duplicates.FRAMES * duplicates.BITS


def frame(seed):
  coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(float)
  return np.clip(scipy.ndimage.zoom(coarse, (8, 8, 1), order=1), 0, 255).astype(np.uint8)


def test_a_hash_is_that_of_the_cosine_transform_of_scipy():
  for seed in range(20):
    pixels = frame(seed)
    grey = pixels.astype(float).reshape(32, 2, 32, 2, 3).mean((1, 3, 4))
    # SciPy's unnormalised transform is twice the sum of cosines.
    low = scipy.fft.dctn(grey, type=2)[:8, :8].ravel()[1:]
    expected = low > np.median(low)
    assert (duplicates.frame_hash(pixels) == expected).mean() > 0.95  # ours is in integers


def test_changes_that_keep_the_look_keep_the_hash():
  pixels = frame(0)
  hashed = duplicates.frame_hash(pixels)
  noise = np.random.default_rng(1).normal(0, 4, pixels.shape)
  for changed in (pixels * 0.7, pixels * 0.8 + 40, np.clip(pixels + noise, 0, 255)):
    assert (duplicates.frame_hash(changed.astype(np.uint8)) != hashed).sum() <= 4
  others = [(duplicates.frame_hash(frame(seed)) != hashed).sum() for seed in range(1, 40)]
  assert min(others) >= 12


def test_a_clip_without_structure_has_no_hash():
  flat = np.full((64, 64, 3), 90, np.uint8)
  hashes = np.stack([duplicates.frame_hash(p) for p in (flat, frame(0), frame(1), frame(2))])
  assert (hashes[0] == -1).all()
  assert duplicates.clip_hash(hashes) == ''
  assert duplicates.clip_hash(hashes[:0]) == ''
  assert len(duplicates.clip_hash(hashes[1:])) == 2 * -(-BITS // 8)


def test_the_frames_of_a_clip_are_at_equal_distances():
  hashes = np.zeros((80, duplicates.BITS), np.int8)
  hashes[[10, 30, 50, 70], 0] = 1
  bits = np.unpackbits(np.frombuffer(bytes.fromhex(duplicates.clip_hash(hashes)), np.uint8))
  assert np.flatnonzero(bits).tolist() == [k * duplicates.BITS for k in range(4)]


def compared(bits, hashes, distance):
  """What the search should return, by comparing each hash with all earlier ones that are kept."""
  expected, kept = [], []
  for i, row in enumerate(bits):
    near = [k for k in kept if (bits[k] != row).sum() <= distance] if hashes[i] else []
    expected.append(near[0] if near else None)
    if hashes[i] and not near:
      kept.append(i)
  return expected


@pytest.mark.parametrize('distance', [0, 1, 7, 20, 63])
def test_the_search_equals_the_comparison_of_all_pairs(distance):
  rng = np.random.default_rng(distance)
  bits = rng.integers(0, 2, (300, BITS), np.uint8)
  for i in range(100, 300):  # copies of others, at distances around the limit
    bits[i] = bits[rng.integers(0, 100)]
    changes = max(distance + rng.integers(-3, 4), 0)
    bits[i, rng.choice(BITS, changes, replace=False)] ^= 1
  hashes = [np.packbits(row).tobytes().hex() for row in bits]
  hashes[5] = hashes[150] = ''
  expected = compared(bits, hashes, distance)
  assert list(duplicates.of_earlier(hashes, distance)) == expected
  assert sum(match is not None for match in expected) > 30


def test_the_time_of_the_search_does_not_grow_with_the_square_of_the_copies():
  rng = np.random.default_rng(0)
  bits = np.repeat(rng.integers(0, 2, (1, BITS), np.uint8), 1000, 0)
  for row in bits:  # two of them differ in about 22 bits, so that several are kept
    row[rng.choice(BITS, 12, replace=False)] ^= 1
  hashes = [np.packbits(row).tobytes().hex() for row in bits]
  expected = compared(bits, hashes, 20)
  assert 10 < expected.count(None) < 100
  begin = time.process_time()
  assert list(duplicates.of_earlier(hashes, 20)) == expected
  assert time.process_time() - begin < 10  # a comparison of all pairs with each key takes 75 s
