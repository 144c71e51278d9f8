"""Measures how much of the damage inside video files is detected, for each codec.

python -m benchmarks.damage

A video is encoded, a few bytes of one of its packets are changed, and the frames that `data.decode`
returns are compared with those of the intact file.
"""

import collections
import dataclasses
import io

import av
import numpy as np
from absl import app, flags
from jaxtyping import UInt8

from data import decode

VISIBLE = 3  # differences of pixel values up to this, of 255, are invisible
FRAMES, HEIGHT, WIDTH = 32, 96, 128
BYTES = 5  # the largest number of bytes that are changed


@dataclasses.dataclass(frozen=True)
class Codec:
  """Settings of a codec: FFmpeg's encoder, the container, the pixel format and options."""

  encoder: str
  container: str
  pixels: str = 'yuv420p'
  options: dict = dataclasses.field(default_factory=dict)
  bit_rate: int | None = None


CODECS = {
  'H.264': Codec('libx264', 'mp4', options={'g': '16', 'bf': '3', 'threads': '1'}),
  'HEVC': Codec('libx265', 'mp4', options={'x265-params': 'keyint=16:log-level=none:pools=1'}),
  'HEVC with checksums': Codec(
    'libx265', 'mp4', options={'x265-params': 'keyint=16:log-level=none:pools=1:hash=1'}
  ),
  'MPEG-4': Codec('mpeg4', 'avi', options={'g': '12', 'bf': '2'}, bit_rate=1_500_000),
  'MPEG-2': Codec('mpeg2video', 'matroska', options={'g': '12', 'bf': '2'}, bit_rate=1_500_000),
  'MPEG-1': Codec('mpeg1video', 'matroska', options={'g': '12', 'bf': '2'}, bit_rate=1_500_000),
  'H.263': Codec('flv', 'flv', options={'g': '12'}, bit_rate=1_500_000),
  'AV1': Codec('libsvtav1', 'mp4', options={'preset': '12', 'svtav1-params': 'lp=1'}),
  'VP9': Codec('libvpx-vp9', 'webm', options={'g': '16', 'deadline': 'realtime'}),
  'VP8': Codec('libvpx', 'webm', options={'g': '16', 'deadline': 'realtime', 'b': '600k'}),
  'FFV1': Codec('ffv1', 'matroska', options={'level': '3', 'slicecrc': '1'}),
  'PNG': Codec('png', 'mov', pixels='rgb24'),
  'GIF': Codec('gif', 'gif', pixels='rgb8'),
  'MJPEG': Codec('mjpeg', 'avi', pixels='yuvj420p'),
  'ProRes': Codec('prores_ks', 'mov', pixels='yuv422p10le'),
}


def film() -> UInt8[np.ndarray, 't h w 3']:
  """A test video: a disc that moves over a moving texture."""
  y, x = np.mgrid[:HEIGHT, :WIDTH]
  texture = np.random.default_rng(0).integers(0, 256, (2 * HEIGHT, 2 * WIDTH, 3)).astype(float)
  for axis in (0, 1, 0, 1):
    texture = (texture + np.roll(texture, 1, axis) + np.roll(texture, 2, axis)) / 3
  texture = (4 * (texture - 127.5) + 127.5).clip(0, 255).astype(np.uint8)
  frames = np.stack([texture[t : t + HEIGHT, 2 * t : 2 * t + WIDTH] for t in range(FRAMES)])
  for t, frame in enumerate(frames):
    frame[(x - 30 - t) ** 2 + (y - 40 - 10 * np.sin(t / 5)) ** 2 < 300] = 255, 4 * t, 30
  return frames


def encode(codec: Codec, frames: UInt8[np.ndarray, 't h w 3']) -> bytes:
  """The video file, with 25 frames a second."""
  file = io.BytesIO()
  with av.open(file, 'w', format=codec.container) as out:
    stream = out.add_stream(codec.encoder, rate=25, options=codec.options)
    stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], codec.pixels
    if codec.bit_rate:
      stream.bit_rate = codec.bit_rate
    for number, pixels in enumerate(frames):
      frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
      frame.pts = number
      out.mux(stream.encode(frame))
    out.mux(stream.encode())
  return file.getvalue()


def corrupted(file: bytes, rng: np.random.Generator) -> tuple[bytes, int]:
  """The file with a few bytes of one packet changed, and that packet's index in decoding order.

  The first packets are unchanged, and so is the header of each, which has its size and kind.
  """
  with av.open(io.BytesIO(file)) as container:
    packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
  # If two packets are equal, it is unknown which of them is at a place in the file.
  places = {n: file.find(data) for n, data in enumerate(packets) if file.count(data) == 1}
  number = int(rng.choice([n for n in places if n >= 4]))
  size, bad = len(packets[number]), bytearray(file)
  for _ in range(rng.integers(1, BYTES + 1)):
    bad[places[number] + int(rng.integers(min(20, size // 4), size))] ^= int(rng.integers(1, 256))
  return bytes(bad), number


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The result of decoding a corrupted file."""

  visible: bool  # whether a frame is wrong or missing if all of the file is decoded
  detected: bool  # whether `data.decode` reports damage
  wrong: int  # returned frames that differ from the intact ones
  lost: int  # intact frames that are not returned


def judge(file: bytes, whole: UInt8[np.ndarray, 't h w 3']) -> Outcome:
  """The comparison of a corrupted file's frames with those of the intact one."""
  returned, damage = [], None
  try:
    returned.extend(frame.image.to_ndarray(format='rgb24') for frame in decode.read(file))
  except ValueError as error:
    damage = error
  with av.open(io.BytesIO(file)) as container:
    every = []
    try:
      every.extend(frame.to_ndarray(format='rgb24') for frame in container.decode(video=0))
    except av.FFmpegError:
      every = every[: len(whole) - 1]  # decoding failed, so that it lacks frames
  good = _good(every, whole)
  return Outcome(
    visible=not all(good) or len(every) != len(whole),
    detected=damage is not None,
    wrong=sum(not same for same in _good(returned, whole)),
    lost=max(([*good, False]).index(False) - len(returned), 0),
  )


def _good(frames, whole) -> list[bool]:
  """Whether each frame looks like the intact frame of the same index."""
  return [
    frame.shape == intact.shape and np.abs(frame.astype(int) - intact).max() <= VISIBLE
    for frame, intact in zip(frames, whole)
  ]


def measure(codec: Codec, trials: int, seed: int = 0) -> list[Outcome]:
  """The outcomes of `trials` corrupted files."""
  file = encode(codec, film())
  with av.open(io.BytesIO(file)) as container:
    whole = np.stack([f.to_ndarray(format='rgb24') for f in container.decode(video=0)])
  rng = np.random.default_rng(seed)
  return [judge(corrupted(file, rng)[0], whole) for _ in range(trials)]


def main(argv) -> None:
  del argv
  print('| codec | visible | detected | wrong frames | good frames lost |\n|---|---|---|---|---|')
  for name, codec in CODECS.items():
    outcomes = [one for one in measure(codec, flags.FLAGS.trials) if one.visible]
    total = collections.Counter()
    for one in outcomes:
      total.update(detected=one.detected, wrong=one.wrong, lost=one.lost)
    print(
      f'| {name} | {len(outcomes)} | {total["detected"]} | {total["wrong"]} | {total["lost"]} |'
    )


if __name__ == '__main__':
  flags.DEFINE_integer('trials', 40, 'Number of corrupted files for each codec.')
  app.run(main)
