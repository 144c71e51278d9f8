import fractions
import io
import itertools
import struct
from contextlib import nullcontext as nothing

import av
import numpy as np
import pytest
from PIL import Image

from data import captions, decode, timing
from tests.data.videos import built, encoded, numbered

SLIDES = [0, 12, 24, 25, 65]  # seconds at which each is shown first; the last for 12
LENGTHS = [12, 12, 1, 40, 12]
LEVELS = [0, 50, 100, 150, 200]


def slides(container):
  """Frames of the gray values `LEVELS`, most of which are shown for longer than `timing.GAP`."""
  pictures = numbered(256)[LEVELS]
  if container in ('gif', 'apng', 'webp'):
    file, (first, *others) = io.BytesIO(), map(Image.fromarray, pictures)
    kind = {'apng': 'png'}.get(container, container)
    durations = [1000 * seconds for seconds in LENGTHS]
    first.save(file, kind, save_all=True, append_images=others, duration=durations, lossless=True)
    return file.getvalue()
  lossless = 'png' if container == 'mov' else 'ffv1'
  return encoded(pictures, [1000 * s for s in SLIDES], container, lossless=lossless)


def streamed(container, codec, seconds):
  """Frames at these times, in a container for streams."""
  file = io.BytesIO()
  with av.open(file, 'w', format=container) as out:
    stream = out.add_stream(codec, rate=25)
    stream.height, stream.width, stream.pix_fmt = 32, 32, 'yuv420p'
    for picture, time in zip(numbered(len(seconds), 16), seconds):
      frame = av.VideoFrame.from_ndarray(picture.repeat(2, 0).repeat(2, 1), format='rgb24')
      frame.pts, frame.time_base = round(25 * time), fractions.Fraction(1, 25)
      out.mux(stream.encode(frame))
    out.mux(stream.encode())
  return file.getvalue()


@pytest.mark.parametrize(
  ('container', 'shown'),
  [
    *(('gif', 77), ('apng', 77), ('webp', 77)),
    # These containers don't store the duration of the last frame.
    *(('matroska', 65.04), ('mov', 65.04)),
  ],
)
def test_slides_that_are_shown_long_are_no_damage(container, shown):
  facts = decode.probe(slides(container))
  assert (facts.frames, facts.fault) == (5, None)
  assert facts.seconds == pytest.approx(shown, abs=0.01)
  result = decode.decode(slides(container), fps=1.0, count=66)[:, 0, 0, 0]
  np.testing.assert_array_equal(result, np.repeat(LEVELS, [12, 12, 1, 40, 1]))


def test_slides_make_a_dataset(tmp_path):
  (tmp_path / 'videos').mkdir()
  lines = {}
  for container in ('gif', 'mov', 'matroska'):
    (tmp_path / 'videos' / container).write_bytes(slides(container))
    lines[container] = captions.Line('slides', 'train')
  report = built(tmp_path / 'videos', lines, tmp_path / 'out', min_frames=8, workers=1)
  assert (report['written'], report['damaged'], report['skipped']) == (3, {}, {})


def test_a_gap_which_the_container_contradicts_ends_a_file():
  file = encoded(numbered(6), [0, 100, 200, 300, 5_000_000, 5_000_100])
  assert decode.probe(file).frames == 6
  # The Duration of Matroska in milliseconds, with a wrong time.
  at = file.index(b'\x44\x89\x88') + 3
  spoilt = file[:at] + struct.pack('>d', 600.0) + file[at + 8 :]
  assert decode.decode(spoilt, fps=10.0)[:4, 0, 0, 0].tolist() == [0, 1, 2, 3]
  facts = decode.probe(spoilt)
  assert facts.frames == 4
  assert facts.fault == 'damaged: no frame for 4999.7 s'


def test_a_gap_in_flv_is_judged_by_the_length_in_its_metadata():
  file = streamed('flv', 'flv', [0, 0.2, 0.4, 30, 30.2])
  assert decode.probe(file).fault is None
  at = file.index(b'duration\0') + len(b'duration\0')
  facts = decode.probe(file[:at] + struct.pack('>d', 1.0) + file[at + 8 :])
  assert (facts.frames, facts.fault) == (3, 'damaged: no frame for 29.6 s')


def test_a_gap_is_damage_where_a_container_knows_no_length():
  # FFmpeg computes the length of a transport stream from its times, since it is not stored.
  facts = decode.probe(streamed('mpegts', 'mpeg1video', [0, 0.2, 0.4, 3000, 3000.2]))
  assert (facts.frames, facts.fault) == (3, 'damaged: no frame for 2999.6 s')


def images(times, durations=None):
  for number, time in enumerate(times):
    image = av.VideoFrame.from_ndarray(numbered(1)[0], format='rgb24')
    image.pts, image.time_base = round(1000 * time), fractions.Fraction(1, 1000)
    image.duration = round(1000 * durations[number]) if durations else 0
    yield image


@pytest.mark.parametrize(
  ('times', 'durations', 'end', 'count'),
  [
    ([0, 1, 30, 31], None, 32.0, 4),  # the container states the end
    ([0, 1, 30, 31], None, 5.0, 2),
    ([0, 1, 30, 31], None, None, 2),  # the length is unknown
    ([0, 1, 30, 31], [1, 29, 1, 1], None, 4),  # the duration of the previous frame says so
    ([0, 1, 30, 31], [1, 20, 1, 1], None, 2),
    ([0, 1, 30, 31], [1, 29, 1, 1], 5.0, 2),
    ([0, 1, 11, 12], None, None, 4),  # not longer than any frame may be shown
  ],
)
def test_who_says_that_a_frame_is_shown_long(times, durations, end, count):
  result = timing.timed(images(times, durations), usual=1.0, aspect=1.0, end=end)
  assert [frame.time for frame in itertools.islice(result, count)] == times[:count]
  with pytest.raises(ValueError, match='damaged: no frame for 29 s') if count < 4 else nothing():
    assert not list(result)


def test_the_last_slide_ends_where_the_container_does():
  *_, last = timing.timed(images([0, 12, 24], [12, 1, 12]), usual=1.0, aspect=1.0, end=25.0)
  assert last.end == 25.0
