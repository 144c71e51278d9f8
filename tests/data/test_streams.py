import concurrent.futures
import dataclasses
import fractions
import io

import av
import numpy as np
import pytest
from av.stream import Disposition

from benchmarks import damage
from data import captions, decode, streams
from tests.data.videos import built

FILM = damage.film()
# Codecs for which all, some and none of the changed bytes are detected: see docs/videos.md.
CERTAIN = ('MPEG-2', 'H.263', 'FFV1', 'HEVC with checksums', 'PNG')
SOME = ('MPEG-1', 'H.264', 'HEVC', 'MPEG-4', 'AV1', 'GIF', 'MJPEG', 'ProRes')
SILENT = ('VP8', 'VP9')


@pytest.fixture(scope='module')
def files():
  """The video encoded by a codec, cached."""
  made = {}
  return lambda name: made.setdefault(name, damage.encode(damage.CODECS[name], FILM))


def frames(file):
  """The frames as they are stored, and the damage that ends them early."""
  result = []
  try:
    result.extend(frame.image.to_ndarray(format='rgb24') for frame in decode.read(file))
  except ValueError as error:
    return np.array(result), str(error)
  return np.array(result), None


def order(file):
  """The index of each packet's frame in order of presentation."""
  with av.open(io.BytesIO(file)) as container:
    times = [packet.pts for packet in container.demux(video=0) if packet.size]
  return [sorted(times).index(time) for time in times]


def remuxed(file, keep, container='matroska'):
  """The file with only those packets for which `keep(number, packet)` is true."""
  made = io.BytesIO()
  with av.open(io.BytesIO(file)) as source, av.open(made, 'w', format=container) as out:
    stream = out.add_stream_from_template(source.streams.video[0])
    for number, packet in enumerate(source.demux(video=0)):
      if packet.size and keep(number, packet):
        packet.stream = stream
        out.mux(packet)
  return made.getvalue()


@pytest.mark.parametrize('name', damage.CODECS)
def test_a_whole_file_is_not_called_damaged(files, name):
  facts = decode.probe(files(name))
  assert (facts.frames, facts.fault) == (len(FILM), None)
  assert facts.seconds == pytest.approx(len(FILM) / 25, abs=0.05)


@pytest.mark.parametrize('name', CERTAIN + SOME)
def test_what_is_flipped_ends_a_file_before_the_frames_that_it_spoils(files, name):
  whole, _ = frames(files(name))
  shown = order(files(name))
  rng, reported = np.random.default_rng(0), 0
  for _ in range(20 if name == 'MJPEG' else 8):
    corrupted, packet = damage.corrupted(files(name), rng)
    given, fault = frames(corrupted)
    if name in CERTAIN or fault:
      # All that is decoded from there on may be wrong; what is shown before is not.
      right = min(shown[packet:])
      assert fault.startswith(f'damaged, after {len(given)} frames: ')
      if name != 'AV1':  # it may be noticed some frames later, as in H.264 of arithmetic codes
        assert len(given) <= right + (0 if name in CERTAIN else 1)
      np.testing.assert_allclose(given[:right].astype(int), whole[: min(right, len(given))], atol=3)
      reported += 1
  assert reported >= 1


@pytest.mark.parametrize('name', SILENT)
def test_vp8_and_vp9_tell_of_a_broken_header_alone(files, name):
  with av.open(io.BytesIO(files(name))) as container:
    packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
  # The first frame's sync code (RFC 6386, 9.1; VP9 Bitstream, 7.2), in a later key frame.
  keys = [n for n, data in enumerate(packets) if sync(name) in data[:8]]
  at = files(name).index(packets[keys[1]]) + packets[keys[1]].index(sync(name))
  corrupted = files(name)[:at] + b'\0\0\0' + files(name)[at + 3 :]
  given, fault = frames(corrupted)
  assert fault == f'damaged, after {keys[1]} frames: Invalid data found when processing input'
  np.testing.assert_array_equal(given, frames(files(name))[0][: keys[1]])
  # A change to what is coded is decoded as if it were meant.
  corrupted, packet = damage.corrupted(files(name), np.random.default_rng(0))
  given, fault = frames(corrupted)
  assert (len(given), fault) == (len(FILM), None)
  assert (given[packet] != frames(files(name))[0][packet]).any()


def sync(name):
  return b'\x9d\x01\x2a' if name == 'VP8' else b'\x49\x83\x42'


def test_a_dataset_holds_damaged_files_as_far_as_they_are_right(files, tmp_path):
  (tmp_path / 'videos').mkdir()
  lines, rng = {}, np.random.default_rng(0)
  for name in ('MPEG-2', 'H.263', 'FFV1'):
    (tmp_path / 'videos' / name).write_bytes(damage.corrupted(files(name), rng)[0])
    lines[name] = captions.Line('a film', 'train')
  report = built(tmp_path / 'videos', lines, tmp_path / 'out', fps=25.0, min_frames=1, workers=1)
  assert report['written'] == 3
  assert set(report['damaged']) == set(lines)
  assert 'slice CRC mismatch' in report['damaged']['FFV1']


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('H.264', {'x264-params': 'open-gop=1:keyint=8:min-keyint=8:bframes=3:scenecut=0:b-adapt=0'}),
    ('HEVC', {'x265-params': 'keyint=8:min-keyint=8:bframes=3:b-adapt=0:log-level=none:pools=1'}),
    ('MPEG-2', {'g': '8', 'bf': '2'}),
    ('MPEG-4', {'g': '8', 'bf': '2'}),
  ],
)
@pytest.mark.parametrize('middle', [False, True])
def test_a_file_may_begin_within_a_film(name, options, middle):
  """Starts at a key frame, before which frames refer to missing frames, or at any other place."""
  codec = damage.CODECS[name]
  codec = damage.Codec(codec.encoder, 'matroska', codec.pixels, options, codec.bit_rate)
  file = damage.encode(codec, FILM)
  whole, _ = frames(file)
  with av.open(io.BytesIO(file)) as container:
    packets = [(p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size]
  keys = [n for n, (_, is_key) in enumerate(packets) if is_key]
  start = keys[1] + 2 if middle else keys[2]
  result, fault = frames(remuxed(file, lambda number, packet: number >= start))
  assert fault is None
  first = order(file)[keys[2]]
  np.testing.assert_array_equal(result, whole[len(whole) - len(result) :])
  assert len(result) == len(whole) - first


def test_a_lost_packet_ends_a_film_of_hevc(files):
  whole, _ = frames(files('HEVC'))
  given, fault = frames(remuxed(files('HEVC'), lambda number, packet: number != 5))
  assert fault == f'damaged, after {len(given)} frames: hevc: Could not find ref with POC 5'
  assert 0 < len(given) <= min(order(files('HEVC'))[5:])
  np.testing.assert_array_equal(given, whole[: len(given)])


def test_lost_bytes_of_a_transport_stream_end_a_film():
  """The continuity counter of packets of 188 bytes shows it (ISO/IEC 13818-1, 2.4.3.3)."""
  codec = damage.CODECS['MPEG-2']
  source = damage.encode(dataclasses.replace(codec, container='mpegts'), FILM)
  whole, _ = frames(source)
  middle = len(source) // 2 // 188 * 188
  given, fault = frames(source[:middle] + source[middle + 188 :])
  assert fault.startswith(f'damaged, after {len(given)} frames: ')
  assert 4 < len(given) < len(whole)
  np.testing.assert_array_equal(given, whole[: len(given)])


def test_a_packet_that_is_cut_is_not_shown(files):
  for name in ('MJPEG', 'MPEG-4'):
    with av.open(io.BytesIO(files(name))) as container:
      last = max(packet.pos for packet in container.demux(video=0) if packet.size)
    given, fault = frames(files(name)[: last + 200])
    assert fault == f'damaged, after {len(given)} frames: a packet is incomplete'
    np.testing.assert_array_equal(given, frames(files(name))[0][: len(given)])


def encrypted(**options):
  """H.264 whose samples are encrypted (ISO/IEC 23001-7)."""
  keys = {'encryption_key': '0' * 32, 'encryption_kid': '1' * 32}
  file = io.BytesIO()
  options = {'encryption_scheme': 'cenc-aes-ctr', **keys, **options}
  with av.open(file, 'w', format='mp4', options=options) as out:
    stream = out.add_stream('libx264', rate=25)
    stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, 'yuv420p'
    for pixels in FILM:
      out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
    out.mux(stream.encode())
  return file.getvalue()


HEIGHT, WIDTH = damage.HEIGHT, damage.WIDTH


def test_an_encrypted_file_has_no_frame():
  with pytest.raises(ValueError, match=r'^damaged, no decodable frame: encrypted$'):
    decode.probe(encrypted())


def test_messages_of_one_file_are_not_those_of_another_that_is_decoded_meanwhile(files):
  corrupted = damage.corrupted(files('FFV1'), np.random.default_rng(0))[0]
  work = [corrupted, files('FFV1')] * 8
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    facts = list(pool.map(decode.probe, work))
  assert [bool(fact.fault) for fact in facts] == [True, False] * 8


def test_what_decoders_say_is_not_printed(files, capfd, caplog):
  decode.probe(damage.corrupted(files('FFV1'), np.random.default_rng(0))[0])
  with pytest.raises(ValueError, match='cannot be opened'):
    decode.probe(files('H.264')[:500])
  assert capfd.readouterr() == ('', '')
  assert not caplog.records


def step(number, *messages, **kwargs):
  return streams._Step(number, messages=messages, **kwargs)


@pytest.mark.parametrize(
  ('messages', 'codec', 'faults'),
  [
    ([(), (), ('bad',), ()], 'ffv1', [None, None, 'ffv1: bad', None]),
    ([('bad',), (), ()], 'ffv1', ['ffv1: bad', None, None]),
    ([('odd',), ('odd',), ('odd',)], 'ffv1', [None] * 3),  # there is a message for every packet
    ([('odd',)], 'ffv1', [None]),
    ([(), ('mmco: unref short failure',)], 'h264', [None, None]),  # damage would be flagged
    ([(), ('reference picture missing',)], 'h264', [None, 'h264: reference picture missing']),
  ],
)
def test_which_messages_report_damage(messages, codec, faults):
  steps = [step(number, *texts) for number, texts in enumerate(messages)]
  steps.append(step(len(messages), flush=True))
  assert [one.fault for one in streams._with_faults(iter(steps), codec)] == [*faults, None]


def streamed(*streams, container='matroska', default=(), cover=None):
  """A file with several video streams, each `(width, height, gray value, bits a second)`.

  default: the numbers of those that are marked so; cover: that of a picture of the whole.
  """
  file = io.BytesIO()
  with av.open(file, 'w', format=container) as out:
    made = []
    for number, (width, height, _, rate) in enumerate(streams):
      stream = out.add_stream('mjpeg' if number == cover else 'mpeg4', rate=10)
      stream.width, stream.height = width, height
      stream.pix_fmt = 'yuvj420p' if number == cover else 'yuv420p'
      stream.bit_rate = rate
      mark = Disposition.attached_pic if number == cover else Disposition.default
      stream.disposition = mark if number in (cover, *default) else 0
      made.append(stream)
    for k in range(10):
      for number, (stream, (width, height, level, _)) in enumerate(zip(made, streams)):
        pixels = np.random.default_rng(k).integers(level, level + 30, (height, width, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
        frame.pts, frame.time_base = k, fractions.Fraction(1, 10)
        if k == 0 or number != cover:
          out.mux(stream.encode(frame))
    for stream in made:
      out.mux(stream.encode())
  return file.getvalue()


SMALL, WIDE, MIDDLE = (48, 32, 50, 200_000), (96, 64, 100, 400_000), (64, 48, 150, 100_000)


@pytest.mark.parametrize('default', [0, 1, 2])
def test_of_several_streams_the_one_that_is_marked_is_taken(default):
  file = streamed(SMALL, WIDE, MIDDLE, default=[default])
  level = (SMALL, WIDE, MIDDLE)[default][2]
  assert decode.decode(file, fps=10.0).mean() == pytest.approx(level + 14.5, abs=4)


def test_of_several_streams_that_are_marked_that_of_most_bits_is_taken():
  facts = decode.probe(streamed(SMALL, WIDE, MIDDLE, container='mp4', default=[0, 1, 2]))
  assert (facts.height, facts.width) == (64, 96)


def test_music_with_a_cover_is_no_video():
  file = io.BytesIO()
  with av.open(file, 'w', format='mp4') as out:
    sound, cover = out.add_stream('aac', rate=8000), out.add_stream('mjpeg', rate=10)
    cover.width, cover.height, cover.pix_fmt = 16, 16, 'yuvj420p'
    cover.disposition = Disposition.attached_pic
    silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
    silence.sample_rate = 8000
    out.mux(sound.encode(silence))
    picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format='rgb24')
    for stream, packets in ((cover, cover.encode(picture)), (sound, ())):
      out.mux([*packets, *stream.encode()])
  with pytest.raises(ValueError, match=r'^no video stream$'):
    decode.probe(file.getvalue())


@pytest.mark.parametrize('place', [0, 1])
def test_the_picture_of_a_cover_is_no_video(place):
  both = [MIDDLE, WIDE] if place else [WIDE, MIDDLE]
  facts = decode.probe(streamed(*both, container='mp4', cover=place))
  assert (facts.frames, facts.height, facts.width) == (10, 48, 64)
