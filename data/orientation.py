"""The rotation and mirroring that a file asks for when a frame is shown."""

import av
import numpy as np
from av.sidedata.sidedata import Type

KINDS = 64  # FFmpeg has at most this many kinds of side data; PyAV names only some


def of_frame(image: av.VideoFrame) -> tuple[bool, bool, bool]:
  """Whether to transpose a frame, then whether to flip it horizontally, and vertically."""
  try:
    data = image.side_data
    matrix = data.get(Type.DISPLAYMATRIX) if len(data) else None  # `get` is slow if it has none
  except ValueError:  # PyAV has no name for some kinds, such as EXIF
    matrix = _without_nameless(image).side_data.get(Type.DISPLAYMATRIX)
  if matrix is None:
    return False, False, False
  # The matrix maps x' = a x + c y and y' = b x + d y, where y points down; numbers are fixed-point.
  a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32, count=5).tolist()
  return (True, c < 0, b < 0) if abs(b) > abs(a) else (False, a < 0, d < 0)


def _without_nameless(image: av.VideoFrame) -> av.VideoFrame:
  """The frame with only the side data that PyAV can list."""
  graph, named = av.filter.Graph(), {kind.value for kind in Type}
  graph.threads = 1
  source = graph.add_buffer(
    width=image.width,
    height=image.height,
    format=image.format.name,
    time_base=image.time_base,
  )
  nameless = [n for n in range(KINDS) if n not in named]
  removed = [graph.add('sidedata', f'mode=delete:type={n}') for n in nameless]
  graph.link_nodes(source, *removed, graph.add('buffersink')).configure()
  graph.vpush(image)
  return graph.vpull()
