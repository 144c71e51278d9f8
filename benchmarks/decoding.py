r"""Decodes every file of a folder of probed videos, and compares the frames with FFmpeg's own.

  python -m benchmarks.decoding --videos=DIR --output=decoding.json

DIR has a file PROBE.json: a list of objects, each with the `file`, what to `expect` of it
('decodes', or how it fails), and `frames_rgb24`, which maps indices of decoded frames to the `md5`
of their RGB values as PyAV converts them.  Each file is decoded in a process of its own, once.

For each file that decodes, the result has

  equal, shown: of how many of these frames the stored pixels have the expected MD5 sum, and those
    that `decode` returns, which are upright, with square pixels, and on black;
  offset: at 16 frames a second, the largest distance of a time from the middle of the time for
    which the frame is shown that was chosen for it, in lengths of that frame, and without the
    millisecond to which containers round times;
  colour, small: the largest difference of mean red, green and blue from those that FFmpeg's filters
    give, at the stored size and at a shorter side of 128 pixels;
  MiB, seconds: the largest memory of the process, and its time.

Files that do not decode are printed with the reason.
"""

import hashlib
import json
import multiprocessing
import pathlib
import resource
import time
from collections.abc import Iterator, Mapping, Sequence

import av
import numpy as np
from absl import flags
from tqdm import tqdm

from core import command
from core.errors import UserError
from core.folder import new_file
from data import decode
from data.timing import SLACK, Frame

FPS = 16.0
SIDE = 128  # pixels of the shorter side at which colours are compared too
ACCURATE = 'area+accurate_rnd+full_chroma_int'  # options of FFmpeg's filter


def measured(path: pathlib.Path, known: Mapping) -> dict:
  """What becomes of a file, in numbers: see above."""
  begun, times, images = time.process_time(), [], {}
  sums = {int(i): frame['md5'] for i, frame in known.get('frames_rgb24', {}).items()}

  def see(frame: Frame) -> None:
    if len(times) in sums:
      images[len(times)] = frame
    times.append((frame.time, frame.end))

  try:
    facts = decode.probe(path, see)
    result = {'frames': facts.frames, 'fault': facts.fault}
  except ValueError as error:
    result = {'fault': str(error)}
  result['seconds'] = time.process_time() - begun
  result['MiB'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
  if images:
    result |= {'of': len(sums), 'offset': max(_offsets(times))} | _compared(images, sums)
  return {'file': path.name, 'expect': known.get('expect')} | result


def _compared(images: Mapping[int, Frame], sums: Mapping[int, str]) -> dict:
  """How many frames are equal, and by how much colours differ at most."""
  stored, shown, colour, small = {}, {}, [], []
  for i, frame in images.items():
    stored[i] = frame.image.to_ndarray(format='rgb24', threads=1)
    shown[i] = decode.picture(frame.image, decode.stored_shape(frame, None))
    native = decode.picture(frame.image, (frame.image.height, frame.image.width))
    colour.append(np.abs(native.mean((0, 1)) - _by_filters(frame.image, '')).max())
    height, width = decode.stored_shape(frame, SIDE)
    reduced = decode.picture(frame.image, (height, width)).mean((0, 1))
    scaled = _by_filters(frame.image, f'{width}:{height}:flags={ACCURATE}')
    small.append(np.abs(reduced - scaled).max())
  return {
    'equal': sum(_md5(stored[i]) == sums[i] for i in images),
    'shown': sum(_md5(shown[i]) == sums[i] for i in images),
    'colour': float(max(colour)),
    'small': float(max(small)),
  }


def _md5(pixels: np.ndarray) -> str:
  return hashlib.md5(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _by_filters(image: av.VideoFrame, options: str) -> np.ndarray:
  """Mean red, green and blue by FFmpeg's filter `scale`; alpha is put on black, unscaled."""
  alpha = any(component.is_alpha for component in image.format.components)
  pixels, options = ('rgba', '') if alpha else ('rgb24', options)
  graph = av.filter.Graph()
  graph.threads = 1
  source = graph.add_buffer(
    width=image.width, height=image.height, format=image.format.name, time_base='1/1000'
  )
  filters = graph.add('scale', options), graph.add('format', pixels), graph.add('buffersink')
  graph.link_nodes(source, *filters).configure()
  graph.vpush(image)
  values = graph.vpull().to_ndarray(format=pixels, threads=1)
  return (values[..., :3] * (values[..., 3:] / 255 if alpha else 1)).mean((0, 1))


def _offsets(times: Sequence[tuple[float, float]]) -> Iterator[float]:
  """For each time `k / FPS`, its distance from the middle of the frame that `decode` chooses."""
  frames = [Frame(begin, end, None, 1.0) for begin, end in times]
  ends = [*(frame.time for frame in frames[1:]), frames[-1].end]
  middles = {f.time: ((f.time + end) / 2, end - f.time) for f, end in zip(frames, ends)}
  for k, frame in enumerate(decode.sampled(iter(frames), FPS, 0.0)):
    middle, length = middles[frame.time]
    yield max(abs(k / FPS - middle) - SLACK, 0) / length


def summary(files: Sequence[Mapping]) -> dict:
  """The numbers of files and frames, and the largest of each measure with its file."""
  decoded = [file for file in files if 'of' in file]
  result = {'files': len(files), 'decoded': len(decoded)}
  result |= {key: sum(file[key] for file in decoded) for key in ('of', 'equal', 'shown')}
  for key in ('offset', 'colour', 'small'):
    worst = max(decoded, key=lambda file: file[key])
    result[key] = [worst[key], worst['file']]
  for key in ('MiB', 'seconds'):
    worst = max(files, key=lambda file: file[key])
    result[key] = [worst[key], worst['file']]
  return result


def main() -> None:
  folder, output = pathlib.Path(flags.FLAGS.videos), command.json_file(flags.FLAGS.output)
  if not (folder / 'PROBE.json').is_file():
    raise UserError(f'--videos={folder}: there is no PROBE.json in it.')
  known = json.loads((folder / 'PROBE.json').read_text('utf-8'))
  # Each file has a process of its own, so that its memory and a crash are its own.
  with multiprocessing.get_context('fork').Pool(1, maxtasksperchild=1) as pool:
    files = [pool.apply(measured, (folder / one['file'], one)) for one in tqdm(known, unit='file')]
  for file in files:
    if file['fault']:
      print(f'{file["fault"].removeprefix(f"{folder}/")}  (expected: {file["expect"]})')
  print(json.dumps(summary(files)))
  if output:
    with new_file(output) as file:
      file.write_text(json.dumps(summary(files) | {'each': files}, indent=2) + '\n', 'utf-8')


if __name__ == '__main__':
  flags.DEFINE_string('videos', None, 'Folder of probed videos.', required=True)
  flags.DEFINE_string('output', None, 'JSON file to write the result to.')
  command.run(main)
