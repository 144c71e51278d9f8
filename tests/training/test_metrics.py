"""The logger of a run: what is in its files, and what it does where they cannot be written."""

import json
import struct

import jax
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from core import video
from training.metrics import Metrics
from training.trackers import Tracker


def lines(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def summaries(workdir):
  """(step, value) of all events, read by the format of TFRecord files."""
  for path in sorted((workdir / 'tensorboard').iterdir()):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack('<Q', data[:8])
      event = event_pb2.Event.FromString(data[12 : 12 + length])  # between two checksums
      data = data[16 + length :]
      for value in event.summary.value:
        yield event.step, value


def test_metrics_are_in_both_files(tmp_path):
  with Metrics(tmp_path) as metrics:
    metrics.write(3, {'evaluation_loss': 0.25})
    metrics.write(4, {'loss': 0.5, 'grad_norm': 2})
  want = [{'step': 3, 'evaluation_loss': 0.25}, {'step': 4, 'loss': 0.5, 'grad_norm': 2.0}]
  assert lines(tmp_path) == want
  scalars = [(step, value.tag, value.simple_value) for step, value in summaries(tmp_path)]
  assert scalars == [(3, 'evaluation_loss', 0.25), (4, 'loss', 0.5), (4, 'grad_norm', 2.0)]


@pytest.mark.parametrize(('frames', 'side', 'shown'), [(4, 8, 8), (1, 8, 8), (2, 600, 200)])
def test_videos_are_animations_in_tensorboard(tmp_path, frames, side, shown):
  pixels = np.zeros((frames, side, side, 3), np.uint8)
  pixels[:, :, : side // 2] = np.arange(1, frames + 1)[:, None, None, None] * 50
  path = tmp_path / '0.png'
  video.write(path, pixels)
  with Metrics(tmp_path) as metrics:
    metrics.write_video(7, 'samples/0', path, pixels, fps=10.0, caption='a shape')
  ((step, value),) = summaries(tmp_path)
  assert (step, value.tag) == (7, 'samples/0')
  assert (value.image.height, value.image.width) == (shown, shown)
  (tmp_path / 'shown.gif').write_bytes(value.image.encoded_image_string)
  with Image.open(tmp_path / 'shown.gif') as image:
    assert (getattr(image, 'n_frames', 1), *image.size) == (frames, shown, shown)
    image.seek(frames - 1)
    left, right = (image.convert('RGB').getpixel((x, 0)) for x in (0, shown - 1))
  assert left == (50 * frames,) * 3
  assert right == (0, 0, 0)


def test_a_tracker_gets_numbers_and_videos_and_is_closed(tmp_path):
  got = []
  tracker = Tracker(
    lambda step, values: got.append((step, values)),
    lambda step, name, path, caption: got.append((step, name, path.name, caption)),
    lambda failed: got.append(('closed', failed)),
  )
  with Metrics(tmp_path, tracker) as metrics:
    metrics.write(1, {'loss': 2})
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    metrics.write_video(1, 'samples/0', tmp_path / '0.png', frames, fps=1.0, caption='a ring')
  assert got == [(1, {'loss': 2.0}), (1, 'samples/0', '0.png', 'a ring'), ('closed', False)]


def test_a_resumed_run_appends(tmp_path):
  for step in (1, 2):
    with Metrics(tmp_path) as metrics:
      metrics.write(step, {'x': float(step)})
      assert lines(tmp_path)[-1] == {'step': step, 'x': step}  # before the end, should it be killed
  assert [line['step'] for line in lines(tmp_path)] == [1, 2]


@pytest.mark.parametrize('torn', [b'{"step": 2, "lo', b'{"step": 2, "x": 2.0}', b'\xff\xfe'])
def test_a_line_that_was_cut_short_does_not_take_the_next_one_with_it(tmp_path, torn):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(b'{"step": 1}\n' + torn)
  with Metrics(tmp_path) as metrics:
    metrics.write(3, {'x': 3.0})
    metrics.write(4, {'x': 4.0})
  assert path.read_bytes().split(b'\n') == [
    b'{"step": 1}', torn, b'{"step": 3, "x": 3.0}', b'{"step": 4, "x": 4.0}', b''
  ]  # fmt: skip


def test_only_the_first_process_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  with Metrics(tmp_path) as metrics:
    metrics.write(1, {'loss': 1.0})
  assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_number_is_null(tmp_path):
  with Metrics(tmp_path) as metrics:
    metrics.write(1, {'loss': float('nan'), 'grad_norm': float('inf'), 'x': 1.0})
  assert lines(tmp_path) == [{'step': 1, 'loss': None, 'grad_norm': None, 'x': 1.0}]


def test_a_run_goes_on_where_nothing_can_be_written(tmp_path, capsys):
  (tmp_path / 'metrics.jsonl').mkdir()
  with Metrics(tmp_path) as metrics:
    metrics.write(1, {'x': 1.0})
    metrics.write(2, {'x': 1.0})
  assert capsys.readouterr().err.count('cannot be written: ') == 1


def test_a_tracker_that_fails_leaves_the_files_as_they_are(tmp_path, capsys):
  def refuse(*args):
    raise OSError('the server is away')

  closed = []
  with Metrics(tmp_path, Tracker(refuse, refuse, closed.append)) as metrics:
    for step in range(3):
      metrics.write(step, {'loss': 1.0})
  assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 3
  assert len(list((tmp_path / 'tensorboard').iterdir())) == 1
  assert capsys.readouterr().err.count('the tracker cannot be written: the server is away') == 1
  assert closed == [False]


def test_a_tracker_is_closed_as_failed_if_the_run_failed(tmp_path):
  closed = []
  with pytest.raises(RuntimeError), Metrics(tmp_path, Tracker(print, print, closed.append)):
    raise RuntimeError
  assert closed == [True]
