"""How a command of this project starts, and how it ends when its user made a mistake."""

import contextlib
import io
import math
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from absl import app, flags, logging

from core import config_keys, interrupt, mistakes, unicode, usage, writable
from core.errors import UserError

ROOT = mistakes.ROOT


def run(main: Callable[[], None], help_text: Callable[[], str] | None = None) -> None:
  """Parses the flags and calls `main()`; with --help, prints the help and exits with status 0.

  help_text: returns the help; by default it is the docstring of the command and its flags.

  A mistake in the flags, and what `mistakes.message` says is the user's, end in one line on stderr
  and exit status 2.  Ctrl-C ends in one line and 130, and a second one at once.  Anything else is a
  defect and keeps its traceback.
  """

  def without_arguments(arguments):
    _require_none(arguments)
    main()

  _run(without_arguments, help_text or (lambda: _described(main)))


def run_verb(verbs: Mapping[str, usage.Verb], doc: str) -> None:
  """The same for a command whose first argument is the name of what it does: by default, the first
  verb.  A flag that the verb does not take is a mistake.

  doc: what the command does.
  """

  def main(arguments):
    name, *rest = arguments or [next(iter(verbs))]
    if name not in verbs:
      fail(f'Unknown verb: {name!r}.  Allowed: {", ".join(sorted(verbs))}.')
    _require_none(rest)
    if message := usage.unused(name, verbs):
      fail(message)
    verbs[name].call()

  def help_text():
    name = next((argument for argument in sys.argv[1:] if argument in verbs), None)
    return usage.of_verb(name, verbs[name]) if name else usage.of_verbs(doc, verbs)

  _run(main, help_text)


def _described(main: Callable[[], None]) -> str:
  """The docstring of the file that has `main`, and the flags that the command defines."""
  names = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])]
  doc = (sys.modules[main.__module__].__doc__ or '').strip()
  return f'{doc}\n\nflags:\n{usage.of_flags(sorted(names))}'


def fail(message: object) -> NoReturn:
  """Prints one line and exits with status 2."""
  print(_line(message), file=sys.stderr)
  sys.exit(2)


def _line(message: object) -> str:
  return 'error: ' + ' '.join(str(message).split())


def report(error: BaseException) -> int:
  """Prints what ended a command, and returns the exit status that says so.

  That is one line and 2 for a mistake of the user, or 130 for Ctrl-C, and the traceback and 1 for a
  defect.
  """
  if interrupt.is_behind(error):
    print(_line('interrupted.'), file=sys.stderr, flush=True)
    return interrupt.STATUS
  if isinstance(error, SystemExit):  # which was reported by whoever raised it
    return error.code if isinstance(error.code, int) else int(error.code is not None)
  if isinstance(error, Exception) and (message := mistakes.message(error, _named())):
    print(_line(message), file=sys.stderr, flush=True)
    return 2
  traceback.print_exception(error)
  return 1


def json_file(name: str | None) -> pathlib.Path | None:
  """The file that --output names, if it does; ValueError where it can't be one of JSON, OSError
  where it can't be written."""
  if name is None:
    return None
  path = pathlib.Path(name)
  if path.suffix != '.json':
    raise UserError(f'--output={path} is not allowed: it is a .json file.')
  if not path.parent.is_dir():
    raise UserError(f'--output={path}: there is no folder {path.parent}.')
  writable.require_file(path)
  return path


def _run(main: Callable[[list[str]], None], help_text: Callable[[], str]) -> None:
  # Names of files may have bytes that are not UTF-8: printed as escapes, they end nothing.
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors='backslashreplace')
  if usage.is_asked(sys.argv[1:]):
    print(help_text())
    sys.exit(0)
  try:
    with interrupt.second_ends():
      app.run(_reporting(main), flags_parser=_parse)
  except KeyboardInterrupt as error:
    with contextlib.suppress(OSError):  # nobody reads it any more
      sys.stdout.flush()
    # What XLA still computes crashes an interpreter that ends in the ordinary way.
    interrupt.end_process(report(error))


def _parse(argv: list[str]) -> list[str]:
  flags.FLAGS.set_gnu_getopt()  # flags may follow a verb
  try:
    if message := config_keys.missing_file(argv):
      fail(message)
    arguments = flags.FLAGS(argv)
    for name in flags.FLAGS:
      # A config whose file is not there says so with an OSError, but only when it is touched.
      if hasattr(value := flags.FLAGS[name].value, 'keys'):
        _require_unicode(f'--{name}', value)
      elif isinstance(value, float) and not math.isfinite(value):  # which is within any bounds
        raise UserError(f'flag --{name}={value}: allowed is a finite number.')
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.ERROR)  # Orbax tells of every file it touches
    return arguments
  except (AttributeError, KeyError):  # ml_collections raises either for an unknown key
    if message := config_keys.unknown_key(argv):
      fail(message)
    raise
  except flags.UnrecognizedFlagError as error:
    fail(config_keys.unknown_flag(error.flagname, argv) or error)
  except (flags.Error, TypeError, ValueError, OSError) as error:
    # ml_collections writes the traceback of a config's own error into the message.
    what, _, trace = str(error).partition('Traceback (most recent call last):')
    if not trace:
      fail(what)
    *_, last = trace.strip().splitlines()
    if not last.startswith('ValueError: '):
      raise
    fail(last.removeprefix('ValueError: '))


def _require_unicode(name: str, config: object) -> None:
  """Raises ValueError for a text of a config that UTF-8 can't write."""
  for key, text in _texts(config, name):
    try:
      unicode.require(text)
    except ValueError as error:
      raise UserError(f'{key}: {error}; allowed is Unicode text.') from error


def _reporting(main):
  def reporting(argv):
    try:
      main(argv[1:])
    except Exception as error:
      if interrupt.is_behind(error):
        raise KeyboardInterrupt from error
      if not (message := mistakes.message(error, _named())):
        raise
      fail(message)

  return reporting


def _named() -> Iterator[pathlib.Path]:
  """All that the flags and the configs say that can be a path, also by default."""
  for name in flags.FLAGS:
    yield from (pathlib.Path(text) for _, text in _texts(flags.FLAGS[name].value, name) if text)


def _texts(value: object, name: str) -> Iterator[tuple[str, str]]:
  """Each text of a flag or a config with its name, at any depth."""
  if isinstance(value, str):
    yield name, value
  elif hasattr(value, 'items'):
    for key, inner in value.items():
      yield from _texts(inner, f'{name}.{key}')
  elif isinstance(value, list | tuple):
    for inner in value:
      yield from _texts(inner, name)


def _require_none(arguments: list[str]) -> None:
  if arguments:
    fail(f'Unknown arguments: {", ".join(map(repr, arguments))}.  Allowed are flags: see --help.')
