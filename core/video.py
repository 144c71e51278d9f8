"""Video files, conversion between uint8 and floats, and ways to look at videos.

Models process videos as floats in [-1, 1]; files have uint8.  The uint8 value u is u / 127.5 - 1.
"""

import fractions
import itertools
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, PngImagePlugin

from core import capacity, writable
from core.errors import UserError
from core.folder import new_file

Path = str | os.PathLike
Pixels = UInt8[np.ndarray, 't h w 3']


def to_uint8(video: Float[np.ndarray, '...']) -> UInt8[np.ndarray, '...']:
  """The video in uint8, rounded; values outside [-1, 1] are clipped, and NaN is a ValueError."""
  if np.isnan(video).any():
    raise UserError(f'{np.isnan(video).sum()} of {video.size} values of the video are NaN.')
  return np.rint(127.5 * (np.clip(video, -1, 1) + 1)).astype(np.uint8)


def to_float(video: UInt8[np.ndarray, '...']) -> Float[np.ndarray, '...']:
  """The video as float32 in [-1, 1], the inverse of `to_uint8`."""
  return video.astype(np.float32) / 127.5 - 1


def write(
  path: Path,
  video: Pixels,
  *,
  fps: float = 16.0,
  metadata: Mapping[str, str] | None = None,
  upscale: int = 1,
) -> None:
  """Writes the video in the format of the path's extension; equal videos give equal files.

  .mp4: H.264, 4:2:0, BT.709; the last row or column of an odd side is repeated.
  .gif, .webp: an animation that repeats forever; equal consecutive frames are merged.
  .png: the first frame.
  .npy: the array, without metadata.

  upscale: the side of the square of pixels that replaces each pixel.

  The file is written atomically.  The errors are those of `check_writable`, and ValueError if `fps`
  is not positive, or if the video is too large for the format, memory or disk (`core.capacity`).
  """
  path = pathlib.Path(path)
  encode = _encoder(path)
  t, h, w, _ = video.shape
  if reason := capacity.fault(path, t, upscale * h, upscale * w):
    raise UserError(f'Cannot write {path} of {upscale * w}x{upscale * h} pixels: {reason}.')
  if not fps > 0:
    raise UserError(f'Got {fps} frames a second; allowed is any positive number.')
  with new_file(path) as file:
    encode(file, video, upscale, fps, dict(metadata or {}))


def check_writable(path: Path) -> None:
  """Raises ValueError for an unknown extension, and OSError if the file can't be written."""
  _encoder(pathlib.Path(path))
  writable.require_file(pathlib.Path(path))


def read_metadata(path: Path) -> dict[str, str]:
  """The metadata that `write` stored in a file; empty if there are none."""
  match pathlib.Path(path).suffix.lower():
    case '.mp4':
      with av.open(str(path)) as container:
        comment = container.metadata.get('comment', '{}')
    case '.png':
      with Image.open(path) as image:
        return {key: str(text) for key, text in image.text.items()}
    case '.gif':
      with Image.open(path) as image:
        comment = image.info.get('comment', b'{}')
    case '.webp':
      with Image.open(path) as image:
        comment = image.getexif().get(ExifTags.Base.ImageDescription, '{}')
    case other:
      raise UserError(f'No metadata in {other!r} files.  Allowed: .gif, .mp4, .png, .webp.')
  return json.loads(comment)


def xt_slice(
  video: Pixels, row: int | None = None, column: int | None = None
) -> UInt8[np.ndarray, 't s 3']:
  """The X-T slice (Lumiere, Fig. 2): one row of every frame, stacked over time.

  The row is the middle one by default.  With `column`, that column of every frame is stacked.
  """
  _, h, w, _ = video.shape
  if row is not None and column is not None:
    raise UserError(f'Got row {row} and column {column}; allowed is one of the two.')
  if column is not None:
    return video[:, :, _within('Column', column, w)]
  return video[:, _within('Row', h // 2 if row is None else row, h)]


def upscaled(video: Pixels, factor: int) -> UInt8[np.ndarray, 't h2 w2 3']:
  """The video with every pixel repeated to a square of `factor` by `factor` pixels."""
  if factor < 1:
    raise UserError(f'Got a factor of {factor}; allowed is 1 or more.')
  return repeat(video, 't h w c -> t (h p) (w q) c', p=factor, q=factor)


def _frames(video: Pixels, upscale: int) -> Iterator[UInt8[np.ndarray, 'h w 3']]:
  return (upscaled(frame[None], upscale)[0] for frame in video)


def encode_mp4(
  path: Path,
  frames: Iterable[UInt8[np.ndarray, 'h w 3']],
  *,
  fps: float,
  crf: int = 15,
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes the frames, of which there is at least one, as `write` does; one is in memory at a time.

  crf: x264's constant rate factor, from 0, lossless in 4:2:0, to 51; 6 more halve the file.
  """
  frames, metadata = iter(frames), metadata or {}
  first = next(frames)
  even = [(0, side % 2) for side in first.shape[:2]]
  # The index in front lets a browser play before it has the whole file.
  with av.open(str(path), 'w', format='mp4', options={'movflags': '+faststart'}) as container:
    container.metadata.update(title=metadata.get('prompt', ''), comment=json.dumps(metadata))
    # The output depends on the number of threads.  It also depends on uninitialised memory if x264
    # uses its macroblock tree.
    options = {'crf': str(crf), 'threads': '4', 'x264-params': 'mbtree=0'}
    rate = fractions.Fraction(fps).limit_denominator(1001)
    stream = container.add_stream('libx264', rate=rate, options=options)
    stream.height, stream.width = (n + sum(pad) for n, pad in zip(first.shape, even))
    stream.pix_fmt = 'yuv420p'
    # Without these tags, players guess the colour space from the size.
    codec = stream.codec_context
    codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
    codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    for pixels in itertools.chain([first], frames):
      pixels = np.pad(pixels, [*even, (0, 0)], mode='edge')
      frame = av.VideoFrame.from_ndarray(pixels, format='rgb24').reformat(
        format='yuv420p', dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
      )
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _write_mp4(path, video, upscale, fps, metadata):
  encode_mp4(path, _frames(video, upscale), fps=fps, metadata=metadata)


def _write_gif(path, video, upscale, fps, metadata):
  # One palette for all frames and no dithering, because both would flicker.
  stride = math.ceil(math.sqrt(video.size / 2**21))
  palette = Image.fromarray(rearrange(video[:, ::stride, ::stride], 't h w c -> (t h) w c'))
  palette = palette.quantize(256)
  frames = (
    image.quantize(palette=palette, dither=Image.Dither.NONE)
    for image in map(Image.fromarray, _frames(video, upscale))
  )
  _save_animation(
    path, 'GIF', frames, _durations(len(video), fps, unit=10), comment=json.dumps(metadata)
  )


def _write_webp(path, video, upscale, fps, metadata):
  exif = Image.Exif()
  exif[ExifTags.Base.ImageDescription] = json.dumps(metadata)
  durations = _durations(len(video), fps, unit=1)
  frames = map(Image.fromarray, _frames(video, upscale))
  _save_animation(path, 'WEBP', frames, durations, exif=exif, quality=90)


def _save_animation(path, kind, frames: Iterator[Image.Image], durations, **options):
  first = next(frames)
  options |= dict(save_all=True, append_images=frames, duration=durations, loop=0)
  first.save(path, kind, **options)


def _write_png(path, video, upscale, fps, metadata):
  text = PngImagePlugin.PngInfo()
  for key, value in metadata.items():
    text.add_itxt(key, value)
  Image.fromarray(next(_frames(video, upscale))).save(path, 'PNG', pnginfo=text)


def _write_npy(path, video, upscale, fps, metadata):
  t, h, w, c = video.shape
  header = np.lib.format.header_data_from_array_1_0(video)
  with path.open('wb') as file:
    np.lib.format.write_array_header_1_0(
      file, header | {'fortran_order': False, 'shape': (t, h * upscale, w * upscale, c)}
    )
    for frame in _frames(video, upscale):
      file.write(frame.tobytes())


_ENCODERS = {
  '.gif': _write_gif,
  '.mp4': _write_mp4,
  '.npy': _write_npy,
  '.png': _write_png,
  '.webp': _write_webp,
}


EXTENSIONS = tuple(_ENCODERS)


def _encoder(path: pathlib.Path) -> Callable[..., None]:
  extension = path.suffix.lower()
  if extension not in _ENCODERS:
    allowed = ', '.join(EXTENSIONS)
    raise UserError(f'Cannot write {path}: its extension is {extension!r}; allowed are {allowed}.')
  return _ENCODERS[extension]


def _durations(frames: int, fps: float, unit: int) -> list[int]:
  """The duration of each frame in milliseconds, in multiples of `unit`, without drift in their sum.

  Times are rounded down, so that reading the file at the same frame rate gives every frame once.
  """
  ends = np.floor(np.arange(frames + 1) * 1000 / (fps * unit)).astype(int) * unit
  return np.diff(ends).tolist()


def _within(name: str, index: int, size: int) -> int:
  if not 0 <= index < size:
    raise UserError(f'{name} {index} is not in the video; allowed are 0 to {size - 1}.')
  return index
