import fractions
import io

import av
import numpy as np

from data import decode

H, W, COUNT = 48, 64, 20


def moment(k):
  """A bar that moves to the right by 3 pixels."""
  picture = np.zeros((H, W, 3), np.uint8)
  picture[:, 3 * k % 48 : 3 * k % 48 + 10] = 235
  return picture


def film(interlaced):
  """A video of frames whose odd lines are of one moment, and whose even lines are of the next."""
  options = {'qp': '1'} | ({'x264-params': 'tff=1'} if interlaced else {})
  file = io.BytesIO()
  with av.open(file, 'w', format='matroska') as out:
    stream = out.add_stream('libx264', rate=25, options=options)
    stream.height, stream.width, stream.pix_fmt = H, W, 'yuv420p'
    for k in range(COUNT):
      picture = moment(2 * k)
      picture[::2] = moment(2 * k + 1)[::2]
      frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
      frame.pts, frame.time_base = k, fractions.Fraction(1, 25)
      out.mux(stream.encode(frame))
    out.mux(stream.encode())
  return file.getvalue()


def error(pictures):
  """The mean difference of each picture from the first moment of its frame."""
  moments = np.stack([moment(2 * k) for k in range(len(pictures))])
  return np.abs(pictures.astype(int) - moments).mean((1, 2, 3))


def test_interlaced_frames_show_their_first_moment():
  woven, deinterlaced = (decode.decode(film(flagged), fps=25.0) for flagged in (False, True))
  assert len(woven) == len(deinterlaced) == COUNT
  assert error(woven).min() > 10
  assert (error(deinterlaced) < 0.7 * error(woven)).all()
  # The lines of the first moment are unchanged.
  lines = slice(3, -3, 2)
  assert np.abs(deinterlaced[:, lines].astype(int) - woven[:, lines]).mean() < 2


def test_times_are_those_of_the_file():
  flagged, plain = (list(decode.read(film(interlaced))) for interlaced in (True, False))
  assert [(f.time, f.end) for f in flagged] == [(f.time, f.end) for f in plain]


def test_a_cut_file_gives_its_frames():
  file = film(interlaced=True)
  frames = decode.probe(file[: len(file) * 2 // 3]).frames
  assert 5 < frames < COUNT
  np.testing.assert_array_equal(
    decode.decode(file[: len(file) * 2 // 3], fps=25.0)[: frames - 1],
    decode.decode(file, fps=25.0)[: frames - 1],
  )
