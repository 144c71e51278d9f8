"""What may be wrong with a video, done to a good one by degrees: measures of quality should tell.

Every function returns a new clip of the same shape.
"""

import fractions
import io
from collections.abc import Callable

import av
import numpy as np
from jaxtyping import Float, Int

from core.errors import UserError
from core.video import Pixels

# Of each kind what strengths from 1 to 5 mean: more is worse.
STRENGTHS = {
  'noise': (4.0, 8.0, 16.0, 32.0, 64.0),  # standard deviation, in levels of 255
  'blur': (0.01, 0.02, 0.03, 0.05, 0.08),  # standard deviation, of the shorter side
  'frame shuffling': (0.2, 0.4, 0.6, 0.8, 1.0),  # share of frames that are displaced
  'freezing': (1 / 6, 1 / 3, 1 / 2, 2 / 3, 1.0),  # share of the clip in which nothing moves
  'colour shift': (0.1, 0.2, 0.3, 0.4, 0.5),  # share by which red gains and blue loses
  'flicker': (0.01, 0.02, 0.03, 0.06, 0.12),  # standard deviation of a frame's gain
  'alternation': (0.01, 0.02, 0.03, 0.06, 0.12),  # share by which every second frame is darker
  'compression': (24, 30, 36, 42, 48),  # x264's constant rate factor
}


def distorted(clip: Pixels, kind: str, strength: int, seed: int = 0) -> Pixels:
  """The clip with one kind of `STRENGTHS` done to it, as strongly as 1 to 5 says; what is random is
  the same for the same seed."""
  if kind not in STRENGTHS:
    raise UserError(f'Got the distortion {kind!r}; allowed are {", ".join(sorted(STRENGTHS))}.')
  if strength not in range(1, 6):
    raise UserError(f'Got a strength of {strength} of {kind}; allowed are 1 to 5.')
  return _KINDS[kind](clip, STRENGTHS[kind][strength - 1], np.random.default_rng(seed))


def noise(clip: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
  """With normal noise of this standard deviation, in levels, in every value."""
  frames = (frame + sigma * rng.standard_normal(frame.shape, np.float32) for frame in clip)
  return np.stack([_rounded(frame) for frame in frames])


def blur(clip: Pixels, share: float) -> Pixels:
  """Blurred by a Gaussian whose standard deviation is this share of the shorter side."""
  sigma = share * min(clip.shape[1:3])
  reach = int(np.ceil(3 * sigma))
  taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
  taps = (taps / taps.sum()).astype(np.float32)
  return np.stack([_rounded(_convolved(_convolved(frame, taps, 0), taps, 1)) for frame in clip])


def frame_shuffling(clip: Pixels, share: float, rng: np.random.Generator) -> Pixels:
  """With this share of the frames each in the place of another one of them."""
  return clip[shuffled(len(clip), share, rng)]


def shuffled(frames: int, share: float, rng: np.random.Generator) -> Int[np.ndarray, ' t']:
  """The order of so many frames of which this share, rounded, is displaced; two at least."""
  order = np.arange(frames)
  count = min(max(round(share * frames), 2), frames)
  some = rng.permutation(frames)[:count]
  order[some] = np.roll(some, 1)  # one cycle: none of them stays
  return order


def freezing(clip: Pixels, share: float, rng: np.random.Generator) -> Pixels:
  """With the first frame of a part of it, that is this share of the clip, shown all the time."""
  count = min(max(round(share * len(clip)), 2), len(clip))
  start = int(rng.integers(len(clip) - count + 1))
  order = np.arange(len(clip))
  order[start : start + count] = start
  return clip[order]


def colour_shift(clip: Pixels, share: float) -> Pixels:
  """With red brighter and blue darker by this share."""
  gains = np.array([1 + share, 1, 1 - share], np.float32)
  return np.stack([_rounded(frame * gains) for frame in clip])


def flicker(clip: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
  """With every frame brighter or darker by a share of its own, normal of this deviation."""
  return _lit(clip, 1 + sigma * rng.standard_normal(len(clip)))


def alternation(clip: Pixels, share: float) -> Pixels:
  """With every second frame darker by this share."""
  return _lit(clip, 1 - share * (np.arange(len(clip)) % 2))


def compression(clip: Pixels, crf: int) -> Pixels:
  """After x264, in 4:2:0 as files have it, at this constant rate factor (0 to 51).

  Where a side is odd, its last row or column is there twice meanwhile.  Equal clips are equal
  afterwards.
  """
  even = [(0, 0), *((0, side % 2) for side in clip.shape[1:3]), (0, 0)]
  padded, file = np.pad(clip, even, mode='edge'), io.BytesIO()
  with av.open(file, 'w', format='mp4') as container:
    # Bits depend on the number of threads, and on what was in memory before, of which x264's tree
    # of macroblocks reads some where it is written in assembly.  Files have the tree: without it
    # what is still does not stay so.
    options = {'crf': str(crf), 'threads': '1', 'x264-params': 'asm=0'}
    stream = container.add_stream('libx264', rate=fractions.Fraction(16), options=options)
    stream.height, stream.width, stream.pix_fmt = *padded.shape[1:3], 'yuv420p'
    for frame in padded:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
    container.mux(stream.encode())
  file.seek(0)
  with av.open(file) as container:
    frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
  return np.ascontiguousarray(np.stack(frames)[:, : clip.shape[1], : clip.shape[2]])


_KINDS: dict[str, Callable] = {
  'noise': noise,
  'blur': lambda clip, share, rng: blur(clip, share),
  'frame shuffling': frame_shuffling,
  'freezing': freezing,
  'colour shift': lambda clip, share, rng: colour_shift(clip, share),
  'flicker': flicker,
  'alternation': lambda clip, share, rng: alternation(clip, share),
  'compression': lambda clip, crf, rng: compression(clip, crf),
}


def _lit(clip: Pixels, gains: Float[np.ndarray, ' t']) -> Pixels:
  return np.stack([_rounded(frame * np.float32(gain)) for frame, gain in zip(clip, gains)])


def _convolved(frame, taps, axis: int):
  """Along one axis, at whose ends the frame goes on as it ends."""
  reach = len(taps) // 2
  padded = np.pad(frame, [(reach, reach) if i == axis else (0, 0) for i in range(3)], mode='edge')
  rows = (padded.take(range(i, i + frame.shape[axis]), axis) for i in range(len(taps)))
  return sum(tap * row for tap, row in zip(taps, rows))


def _rounded(frame: Float[np.ndarray, 'h w 3']) -> np.ndarray:
  return np.rint(frame).clip(0, 255).astype(np.uint8)
