"""What is cut from a file, scored and stored equals what is computed from its frames."""

import dataclasses
import itertools

import numpy as np
import pytest

from core import video
from data import decode, filters, sources, trace
from data.sources import Options
from tests.data.test_scenes import panning
from tests.data.videos import encoded

OPTIONS = Options(fps=10.0, seconds=2.0, min_frames=5, crf=0)


@pytest.fixture
def file(tmp_path):
  """Seven seconds at 25 frames a second, with a cut after three."""
  path = tmp_path / 'video.mkv'
  pictures = np.concatenate([panning(0, 75), panning(1, 100)])
  path.write_bytes(encoded(pictures, np.arange(175) * 40))
  return path


def test_clips_are_cut_at_scenes_and_have_the_frames_of_their_times(file):
  source = sources.process(file, OPTIONS)
  spans = [(part.start, part.end) for part in source.segments]
  assert spans == [pytest.approx(span) for span in ((0, 2), (2, 3), (3, 5), (5, 7))]
  assert [part.frames for part in source.segments] == [20, 10, 20, 20]
  for part in source.segments:
    assert (part.fault, part.whole, part.height, part.width) == (None, False, 48, 64)
    stored = decode.decode(part.encoded, fps=10.0)
    direct = decode.decode(file, fps=10.0, start=part.start, count=part.frames)
    assert stored.shape == direct.shape
    facts = decode.probe(part.encoded)
    assert (facts.frames, facts.seconds) == (part.frames, pytest.approx(part.frames / 10))
    # Lossless but for colours at half the size, the same for every frame.
    errors = np.abs(stored.astype(int) - direct).mean((1, 2, 3))
    assert errors.max() < 16
    others = np.abs(stored[1:].astype(int) - direct[:-1]).mean((1, 2, 3))
    assert (errors[1:] < others).all()


def test_a_file_that_is_one_clip_is_stored_as_it_is(file):
  for options in (
    dataclasses.replace(OPTIONS, seconds=0.0),
    dataclasses.replace(OPTIONS, seconds=7.0, cut_threshold=64.0),
  ):
    source = sources.process(file, options)
    [part] = source.segments
    assert (part.whole, part.encoded, part.frames) == (True, None, 175)
    assert (part.start, part.end) == (0.0, decode.probe(file).seconds)
  small = dataclasses.replace(OPTIONS, seconds=0.0, store_side=24)
  [part] = sources.process(file, small).segments
  assert (part.whole, part.height, part.width, part.frames) == (True, 24, 32, 70)
  assert decode.probe(part.encoded).height == 24


def test_odd_sizes_are_recorded_as_they_are_stored(tmp_path):
  (tmp_path / 'odd.mkv').write_bytes(encoded(panning(0, 50)[:, :47, :63], np.arange(50) * 100))
  source = sources.process(tmp_path / 'odd.mkv', OPTIONS)
  for part in source.segments:
    facts = decode.probe(part.encoded)
    assert (part.height, part.width) == (facts.height, facts.width) == (48, 64)


@pytest.mark.parametrize('seconds', [0.3, 1.99, 2.0, 2.01, 7.3])
@pytest.mark.parametrize('cuts', [[], [0.8], [0.1, 1.7, 5.0]])
def test_clips_divide_a_video_and_none_has_a_cut(seconds, cuts):
  cuts = [cut for cut in cuts if cut < seconds]
  spans = sources.divide(seconds, cuts, OPTIONS)
  assert (spans[0][0], spans[-1][1]) == (0.0, seconds)
  for (start, end), (after, _) in itertools.pairwise([*spans, (seconds, None)]):
    assert end == pytest.approx(after)
    assert start < end <= start + 2.0 + 0.002
    assert not any(start + 1e-9 < cut < end - 1e-9 for cut in cuts)
  assert len(spans) == sum(
    -(-decode.available(b - a, 10.0) // 20) for a, b in itertools.pairwise([0.0, *cuts, seconds])
  )


def test_scores_are_those_of_the_frames(tmp_path):
  moving = np.pad(panning(0, 10), [(0, 0), (0, 16), (0, 0), (0, 0)]).repeat(2, 0)
  pictures = np.concatenate([np.zeros((10, 64, 64, 3), np.uint8), moving])
  path = tmp_path / 'video.mkv'
  path.write_bytes(encoded(pictures, np.arange(len(pictures)) * 100))
  facts, traced = trace.follow(path, 10.0)
  scores = filters.scores(traced, 10.0, 0.0, facts.seconds)
  changes = np.abs(np.diff(pictures.astype(int), axis=0))
  assert scores.motion == pytest.approx(changes.mean())
  cells = changes.reshape(len(changes), 16, 4, 16, 4, 3).mean((2, 4, 5))
  assert scores.frozen == pytest.approx((cells.max((1, 2)) <= 1).mean())
  assert scores.black == pytest.approx(10 / len(pictures))
  later = filters.scores(traced, 10.0, 1.0, facts.seconds)
  assert later.motion == pytest.approx(changes[10:].mean())
  assert later.black == 0


def test_a_frame_rate_has_a_limit():
  assert Options(fps=240.0).fps == 240
  with pytest.raises(ValueError, match=r'^Got --fps=1e\+09; at most 240 is allowed\.$'):
    Options(fps=1e9)


def test_a_limit_leaves_out_what_is_beyond_it():
  scores = filters.Scores(motion=3.0, frozen=0.5, black=0.25, look='')
  assert filters.fault(scores, filters.Limits()) is None
  for changes, kind, reason in (
    ({'max_black': 0.2}, 'black', '25% of its frames are black; at most 20% are allowed'),
    ({'max_frozen': 0.4}, 'frozen', '50% of its frames equal the one before; at most 40% are'),
    ({'min_motion': 3.1}, 'too little motion', 'motion of 3 levels; at least 3.1 are needed'),
    ({'max_motion': 2.9}, 'too much motion', 'motion of 3 levels; at most 2.9 are allowed'),
  ):
    got = filters.fault(scores, filters.Limits(**changes))
    assert (got[0], got[1][: len(reason)]) == (kind, reason)
  for exact in ({'max_black': 0.25}, {'max_frozen': 0.5}, {'min_motion': 3.0}, {'max_motion': 3.0}):
    assert filters.fault(scores, filters.Limits(**exact)) is None


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: Options(crf=52), r'Got --crf=52; allowed is 0 to 51'),
    (lambda: Options(seconds=-1.0), r'Got --seconds=-1; 0 or more is allowed'),
    (lambda: Options(seconds=4.0), r'--seconds=4 and --min_frames=80 .* have at most 64 frames'),
    (lambda: Options(cut_threshold=0.0), r'Got --cut_threshold=0; more than 0 is allowed'),
    (lambda: filters.Limits(max_black=2.0), r'Got --max_black=2; allowed is 0 to 1'),
    (lambda: filters.Limits(max_distance=64), r'Got --max_distance=64; allowed is -1 to 63'),
  ],
)
def test_options_out_of_range_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_file_that_cannot_be_decoded_is_its_reason(tmp_path):
  (tmp_path / 'text.mp4').write_text('this is no video')
  reason = sources.process(tmp_path / 'text.mp4', OPTIONS)
  assert reason == 'cannot be opened: Invalid data found when processing input'


def test_a_damaged_file_is_cut_up_to_the_damage(tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), np.uint8)
  video.write(tmp_path / 'whole.gif', noise)
  path = tmp_path / 'cut.gif'
  path.write_bytes((tmp_path / 'whole.gif').read_bytes()[:-12_000])
  source = sources.process(path, OPTIONS)
  facts = decode.probe(path)
  assert f'{path}: {source.damage}' == facts.fault
  assert 2 < source.segments[-1].end == facts.seconds < 3
  usable = [part for part in source.segments if not part.fault]
  assert len(usable) == 2
  for part in usable:
    assert len(decode.decode(part.encoded, fps=10.0)) == part.frames


def test_an_encoder_of_frames_writes_what_the_writer_of_videos_does(tmp_path):
  pictures = panning(0, 8)
  video.write(tmp_path / 'a.mp4', pictures, fps=10.0)
  video.encode_mp4(tmp_path / 'b.mp4', iter(pictures), fps=10.0)
  assert (tmp_path / 'a.mp4').read_bytes() == (tmp_path / 'b.mp4').read_bytes()
