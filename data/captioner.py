"""Captions from a user's program, which gets batches of clips as lines of JSON.

The program is started once.  For each line on its standard input

    {"clips": [{"path": "/a/0.mp4", "caption": "from the manifest, or null"}, ...]}

it writes one line to its standard output, with as many captions and its version.  Where a caption
is null, that of the manifest is kept.  The version must change when the captions would:

    {"version": "my-captioner 1.2", "captions": ["a dog runs", null]}

Its standard error is left alone.  When its input ends, it ends too, with status 0.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import tqdm

from core import interrupt, unicode
from core.errors import UserError
from data import captions, progress, selection
from data.on_disk import Table

Key = tuple[str, str, float]  # a file, the digest of its contents, and where the clip begins


@dataclasses.dataclass(frozen=True)
class Asked:
  """A clip to be captioned."""

  caption: str | None
  path: pathlib.Path  # of the source
  read: Callable[[], bytes] | None  # reads the clip, if it is not all of the source


@dataclasses.dataclass(frozen=True)
class Caption:
  """A caption and the version of the program that wrote it, '' if the manifest has it."""

  text: str | None
  version: str


@contextlib.contextmanager
def started(
  command: str, temporary: pathlib.Path | None = None
) -> Iterator[Callable[[Sequence[Asked]], list[Caption]]]:
  """A function from a batch of clips to their captions, by the program that `command` starts.

  temporary: a folder for the clips while it reads them; None is that of the system.

  The command is split like a shell does, but without a shell.  ValueError if it is no program, if
  it ends early or with another status than 0, or if it writes another line than it should.
  """
  words = _words(command)
  try:
    with interrupt.not_for_children():
      process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
  except OSError as error:  # as of a script without the line that names its interpreter
    raise UserError(f'--caption_command={command} cannot be started: {error.strerror}.') from error
  try:
    yield lambda clips: _captions(process, command, clips, temporary)
    process.stdin.close()
    if process.wait():
      raise UserError(f'--caption_command={command} ended with status {process.returncode}.')
  finally:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
      with contextlib.suppress(OSError):  # it has not read all
        pipe.close()


def captioned(
  videos: pathlib.Path,
  chosen: selection.Selection,
  lines: Mapping[str, captions.Line],
  command: str,
  batch: int,
  work: progress.Progress,
) -> tuple[Table[str, Caption], selection.Selection]:
  """The captions of clips by their names, and the selection without the clips that have none.

  They are those of the manifest if `command` is ''.
  """
  if not command:
    return Table(
      (clip.name, Caption(lines[clip.file].caption, '')) for clip in chosen.clips()
    ), chosen
  asked = (
    (_key(c), Asked(lines[c.file].caption, videos / c.file, _reader(c))) for c in chosen.clips()
  )
  _caption_all(asked, command, batch, work)
  texts = Table(
    (clip.name, Caption(*work.captions[progress.caption_key(command, _key(clip))]))
    for clip in chosen.clips()
  )
  return texts, selection.without_captions(chosen, texts)


def _caption_all(
  asked: Iterable[tuple[Key, Asked]], command: str, batch: int, work: progress.Progress
) -> None:
  """Adds the caption of each clip to `work`, by its key, from `batch` clips at a time.

  Captions that the same command has given before `work` was continued are not asked for again.
  """
  todo = (each for each in asked if progress.caption_key(command, each[0]) not in work.captions)
  part = list(itertools.islice(todo, batch))
  if not part:
    return
  with started(command, work.folder) as captions_of, tqdm.tqdm(desc='captions', unit='clip') as bar:
    while part:
      keys, clips = zip(*part)
      replies = [[c.text, c.version] for c in captions_of(clips)]
      work.add_batch({'command': command, 'clips': keys, 'captions': replies})
      bar.update(len(part))
      part = list(itertools.islice(todo, batch))


def _key(clip: selection.Clip) -> Key:
  return clip.file, clip.source.contents, clip.segment.start


def _reader(clip: selection.Clip) -> Callable[[], bytes] | None:
  return clip.segment.encoded.read if clip.segment.encoded else None


def require(command: str) -> None:
  """Raises ValueError if the command does not begin with the name of a program, or if that is
  Python or a shell and its script does not exist."""
  program, *arguments = _words(command)
  if not re.match(r'python|(ba|da|z)?sh$', pathlib.Path(program).name) or '-c' in arguments:
    return
  script = next((word for word in arguments if not word.startswith('-')), '')
  if script.endswith(('.py', '.sh')) and not pathlib.Path(script).is_file():
    raise UserError(f'Got --caption_command={command}, but there is no file {script}.')


def _words(command: str) -> list[str]:
  try:
    words = shlex.split(command)
  except ValueError as error:
    raise UserError(f'Got --caption_command={command}: {error}.') from error
  if not words or not shutil.which(words[0]):
    raise UserError(f'Got --caption_command={command}; allowed is a program and its arguments.')
  return words


def _captions(process, command: str, clips: Sequence[Asked], temporary) -> list[Caption]:
  with tempfile.TemporaryDirectory(dir=temporary) as folder:
    entries = []
    for i, clip in enumerate(clips):
      path = clip.path.absolute()
      if clip.read:
        path = pathlib.Path(folder, f'{i}.mp4').absolute()
        path.write_bytes(clip.read())
      entries.append({'path': str(path), 'caption': clip.caption})
    line = json.dumps({'clips': entries}).encode() + b'\n'
    try:
      process.stdin.write(line)
      process.stdin.flush()
    except BrokenPipeError:
      reply = b''
    else:
      reply = process.stdout.readline()
  try:
    return _parsed(reply, clips)
  except (ValueError, TypeError, KeyError) as error:
    got = repr(reply[:60].decode('utf-8', 'replace')) if reply else _end(process)
    raise UserError(
      f'--caption_command={command}: got {got} for {len(clips)} clips; allowed is one line such as '
      f'{{"version": "1.0", "captions": [...]}} with as many texts or nulls ({error}).'
    ) from error


def _end(process) -> str:
  """What there is in place of a reply, with the exit status if the program ends."""
  try:
    return f'the end of its output, and exit status {process.wait(timeout=1)},'
  except subprocess.TimeoutExpired:
    return 'the end of its output'


def _parsed(reply: bytes, clips: Sequence[Asked]) -> list[Caption]:
  value = json.loads(reply)
  version, texts = value['version'], value['captions']
  if not isinstance(version, str) or not isinstance(texts, list) or len(texts) != len(clips):
    raise ValueError('another form')
  result = []
  for clip, text in zip(clips, texts):
    if text is None:
      result.append(Caption(clip.caption, ''))
    elif isinstance(text, str):
      result.append(Caption(unicode.require(text).strip() or None, unicode.require(version)))
    else:
      raise ValueError(f'{text!r} is no text')
  return result
