"""Where the metrics and videos of a run are written: `metrics.jsonl`, TensorBoard and a tracker."""

import json
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jaxtyping import UInt8
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import scalar

from core import video
from training.monitor import log
from training.trackers import Tracker

LARGEST_SIDE = 256  # pixels of a video in TensorBoard, which keeps videos as GIFs


class Metrics:
  """A logger that writes to several places; a context manager that closes them.

  Only the first process writes: in the others every method does nothing.  A place that cannot be
  written, as on a full disk, is reported once, and the run goes on.
  """

  def __init__(self, workdir: pathlib.Path, tracker: Tracker | None = None):
    self._workdir, self._tracker = workdir, tracker
    self._events = None
    self._failed = set()  # the places whose failure was reported

  def __enter__(self) -> 'Metrics':
    return self

  def __exit__(self, kind, *exception) -> None:
    self._close_events()
    if self._tracker:
      self._tracker.close(kind is not None)

  def write(self, step: int, values: Mapping[str, float | int]) -> None:
    """Adds numbers of a step.  In `metrics.jsonl` one that is not finite is null."""
    values = {name: float(value) for name, value in values.items()}

    def to_files():
      finite = {name: v if math.isfinite(v) else None for name, v in values.items()}
      _append(self._workdir / 'metrics.jsonl', json.dumps({'step': step, **finite}))
      self._add_events(step, [scalar(name, value) for name, value in values.items()])

    self._to_files(to_files)
    if self._tracker:
      self._attempt('the tracker', lambda: self._tracker.write(step, values))

  def write_video(
    self,
    step: int,
    name: str,
    path: pathlib.Path,
    frames: UInt8[np.ndarray, 't h w 3'],
    *,
    fps: float,
    caption: str,
  ) -> None:
    """Shows a video, or an image if it has one frame, in TensorBoard and in the tracker.

    path: the file, .mp4 or .png, that holds the frames already.
    """
    self._to_files(lambda: self._add_events(step, [_animation(name, frames, fps)]))
    if self._tracker:
      self._attempt('the tracker', lambda: self._tracker.write_video(step, name, path, caption))

  def _add_events(self, step: int, summaries: list[Summary]) -> None:
    """Writes events in the caller's thread.

    `SummaryWriter` has a thread that dies of a full disk, and then the run would wait for it.
    """
    folder = self._workdir / 'tensorboard'
    folder.mkdir(exist_ok=True)
    self._events = self._events or EventsWriter(str(folder / 'events'))
    for summary in summaries:
      self._events.write_event(event_pb2.Event(step=step, wall_time=time.time(), summary=summary))
    self._events.flush()

  def _close_events(self) -> None:
    events, self._events = self._events, None
    if events:
      events.close()

  def _to_files(self, write: Callable[[], None]) -> None:
    if not self._attempt(str(self._workdir), write):
      self._events = None  # its file may be cut short: another one is begun

  def _attempt(self, place: str, write: Callable[[], None]) -> bool:
    """Whether the metrics were written to the place."""
    if jax.process_index() > 0:
      return True
    try:
      write()
    except OSError as error:
      if place not in self._failed:
        log(f'Metrics of {place} cannot be written: {error}.  The run goes on.')
      self._failed.add(place)
      return False
    return True


def _append(path: pathlib.Path, line: str) -> None:
  """Adds a line, which begins a new one also where a kill or a full disk cut the last one short."""
  with path.open('ab+') as file:
    if file.seek(0, os.SEEK_END):
      file.seek(-1, os.SEEK_END)
      line = line if file.read(1) == b'\n' else f'\n{line}'
    file.write(f'{line}\n'.encode())


def _animation(name: str, frames, fps: float) -> Summary:
  """A summary that TensorBoard plays: an image that is an animated GIF."""
  stride = math.ceil(max(frames.shape[1:3]) / LARGEST_SIDE)
  frames = frames[:, ::stride, ::stride]
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'video.gif'
    video.write(path, frames, fps=fps)
    encoded = path.read_bytes()
  _, height, width, channels = frames.shape
  image = Summary.Image(
    height=height, width=width, colorspace=channels, encoded_image_string=encoded
  )
  return Summary(value=[Summary.Value(tag=name, image=image)])
