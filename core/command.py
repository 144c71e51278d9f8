"""How a command of this project starts, and how it ends when its user made a mistake."""

import dis
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from absl import app, flags, logging

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(main: Callable[[], None]) -> None:
  """Parses the flags and calls `main()`.

  A mistake in the flags, and a `ValueError` or `OSError` of a `raise` in this project, end in one
  line on stderr and exit status 2.  Anything else is a defect and keeps its traceback.
  """

  def alone(arguments):
    _require_none(arguments)
    main()

  _run(alone)


def run_verb(verbs: Mapping[str, Callable[[], None]]) -> None:
  """The same for a command whose first argument names what is called: the first verb if none."""

  def main(arguments):
    verb, *rest = arguments or [next(iter(verbs))]
    if verb not in verbs:
      fail(f'Unknown verb: {verb!r}.  Allowed: {", ".join(sorted(verbs))}.')
    _require_none(rest)
    verbs[verb]()

  _run(main)


def fail(message: object) -> NoReturn:
  """Prints one line and exits with status 2."""
  print('error: ' + ' '.join(str(message).split()), file=sys.stderr)
  sys.exit(2)


def json_file(name: str | None) -> pathlib.Path | None:
  """The file that --output names, if it does; ValueError where it can't be one of JSON."""
  if name is None:
    return None
  path = pathlib.Path(name)
  if path.suffix != '.json':
    raise ValueError(f'--output={path} is not allowed: it is a .json file.')
  if not path.parent.is_dir():
    raise ValueError(f'--output={path}: there is no folder {path.parent}.')
  return path


def _run(main: Callable[[list[str]], None]) -> None:
  app.run(_reporting(main), flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
  flags.FLAGS.set_gnu_getopt()  # flags may follow a verb
  try:
    arguments = flags.FLAGS(argv)
    for name in flags.FLAGS:
      # A config whose file is not there says so with an OSError, but only when it is touched.
      hasattr(flags.FLAGS[name].value, 'keys')
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.ERROR)  # Orbax tells of every file it touches
    return arguments
  except (AttributeError, KeyError) as error:
    # ml_collections wraps the one in the other, and str(KeyError) would be in quotes.
    key = error.args[0]
    fail(f'Unknown key of the config: {key.args[0] if isinstance(key, KeyError) else key}')
  except (flags.Error, TypeError, ValueError, OSError) as error:
    # ml_collections writes the traceback of a config's own error into the message.
    what, _, trace = str(error).partition('Traceback (most recent call last):')
    if not trace:
      fail(what)
    *_, last = trace.strip().splitlines()
    if not last.startswith('ValueError: '):
      raise
    fail(last.removeprefix('ValueError: '))


def _reporting(main):
  def reporting(argv):
    try:
      main(argv[1:])
    except (ValueError, OSError) as error:
      if not _is_deliberate(error):
        raise
      fail(error)

  return reporting


def _is_deliberate(error: Exception) -> bool:
  """Whether a `raise` of this project raised it, rather than a library or a builtin it called."""
  last = error.__traceback__
  while last.tb_next is not None:
    last = last.tb_next
  code = last.tb_frame.f_code
  file = pathlib.Path(code.co_filename).resolve()
  ours = file.is_relative_to(ROOT) and '.venv' not in file.relative_to(ROOT).parts
  return ours and dis.opname[code.co_code[last.tb_lasti]] == 'RAISE_VARARGS'


def _require_none(arguments: list[str]) -> None:
  if arguments:
    fail(f'Unknown arguments: {", ".join(map(repr, arguments))}.  Allowed are flags: see --help.')
