"""Interlaced frames, which hold two moments in alternate lines, as progressive ones."""

import collections
import itertools
from collections.abc import Iterator

import av


def progressive(images: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
  """The frames with their times, those that are flagged as interlaced without their second field.

  FFmpeg's filter `bwdif` interpolates the lines of the second field from the first one and from the
  frames beside it.  From the first interlaced frame on, frames come one later, and what `images`
  raises is raised after the last frame.
  """
  for image in images:
    if image.interlaced_frame:
      yield from _filtered(itertools.chain([image], images))
      return
    yield image


def _filtered(images: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
  graph, shape, waiting, error = None, None, collections.deque(), None
  try:
    for image in images:
      if shape != (shape := (image.width, image.height, image.format.name)):
        yield from _pulled(graph, waiting, flush=True)
        graph = _graph(image)
      waiting.append((image.pts, image.duration, image.time_base))
      image.pts = None  # times may be missing or out of order; the filter needs none
      graph.vpush(image)
      yield from _pulled(graph, waiting, flush=False)
  except ValueError as raised:
    error = raised
  yield from _pulled(graph, waiting, flush=True)
  if error:
    raise error


def _graph(image: av.VideoFrame) -> av.filter.Graph:
  graph = av.filter.Graph()
  graph.threads = 1
  source = graph.add_buffer(
    width=image.width, height=image.height, format=image.format.name, time_base=image.time_base
  )
  deinterlace = graph.add('bwdif', 'mode=send_frame:deint=interlaced')
  graph.link_nodes(source, deinterlace, graph.add('buffersink')).configure()
  return graph


def _pulled(graph, waiting: collections.deque, flush: bool) -> Iterator[av.VideoFrame]:
  """The frames that the graph has ready, with their own times."""
  if graph and flush:
    graph.vpush(None)
  while graph and waiting:
    try:
      image = graph.vpull()
    except (av.BlockingIOError, av.EOFError):
      return
    image.pts, image.duration, image.time_base = waiting.popleft()
    yield image
