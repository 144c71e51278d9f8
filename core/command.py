"""Starts the commands of this project, and turns mistakes of their users into one line."""

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

# How absl and ml_collections begin their messages for a value of another type -> what is allowed.
_TYPES = {
  'invalid literal for int()': 'a whole number',
  'could not convert string to float': 'a number',
  "('Non-boolean argument": 'true or false',
  'Error while parsing string': 'a tuple, as (1,2)',
  'Failed to parse': 'a value for one key of the group, as --GROUP.KEY=VALUE',
}


def run(main: Callable[[], None], more_help: Callable[[], str] = str) -> None:
  """Parses the flags and calls `main()`; with --help, prints the help and exits with status 0.

  more_help: returns what --help prints between the docstring of the command and its flags.

  A mistake in the flags, and an error that `mistakes.message` calls a mistake of the user, end in
  one line on stderr and exit status 2.  Ctrl-C ends in one line and exit status 130, and a second
  Ctrl-C ends the process immediately.  Any other error is a defect, and its traceback is printed.
  """

  def without_arguments(arguments):
    _require_none(arguments)
    main()

  _run(without_arguments, lambda: _help(main, more_help()))


def run_verb(verbs: Mapping[str, usage.Verb], doc: str) -> None:
  """The same for a command whose first argument is the name of what it does: by default, the first
  verb.  A flag that the verb does not take is a mistake.

  doc: what the command does.
  """

  def main(arguments):
    name, *rest = arguments or [next(iter(verbs))]
    if name not in verbs:
      fail(f'Unknown verb: {name!r}.  Allowed: {", ".join(sorted(verbs))}.')
    if others := [argument for argument in rest if argument in verbs]:
      fail(f'Got several verbs: {", ".join([name, *others])}.  Allowed is one.')
    _require_none(rest)
    if message := usage.unused(name, verbs):
      fail(message)
    verbs[name].call()

  def help_text():
    name = next((argument for argument in sys.argv[1:] if argument in verbs), None)
    return usage.of_verb(name, verbs[name]) if name else usage.of_verbs(doc, verbs)

  _run(main, help_text)


def _help(main: Callable[[], None], more: str) -> str:
  """The docstring of the file that has `main`, more help, and the flags of the command."""
  names = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])]
  doc = (sys.modules[main.__module__].__doc__ or '').strip()
  return '\n\n'.join(filter(None, [doc, more, f'flags:\n{usage.of_flags(sorted(names))}']))


def fail(message: object) -> NoReturn:
  """Prints one line and exits with status 2."""
  print(_line(message), file=sys.stderr)
  sys.exit(2)


def _line(message: object) -> str:
  return 'error: ' + ' '.join(str(message).split())


def report(error: BaseException) -> int:
  """Prints the error that ended a command, and returns the exit status.

  That is one line and 2 for a mistake of the user, one line and 130 for Ctrl-C, both with its
  `Advice`, and the traceback and 1 for a defect.
  """
  if interrupt.is_behind(error):
    print(_line(f'interrupted.{mistakes.advice(error)}'), file=sys.stderr, flush=True)
    return interrupt.STATUS
  if isinstance(error, SystemExit):  # whoever raised it has printed the reason
    return error.code if isinstance(error.code, int) else int(error.code is not None)
  if isinstance(error, Exception) and (message := mistakes.message(error, _user_paths())):
    print(_line(f'{message}{mistakes.advice(error)}'), file=sys.stderr, flush=True)
    return 2
  traceback.print_exception(error)
  return 1


def json_file(name: str | None) -> pathlib.Path | None:
  """The path that --output names, if any; UserError unless it is a .json file, OSError if it cannot
  be written."""
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
  # Names of files may have bytes that are not UTF-8, and print() would raise an error for them.
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors='backslashreplace')
  if usage.is_asked(sys.argv[1:]):
    print(help_text())
    sys.exit(0)
  try:
    with interrupt.second_ends():
      app.run(_reporting(main), flags_parser=_parse)
  except KeyboardInterrupt as error:
    with contextlib.suppress(OSError):  # the reader of a pipe may be gone
      sys.stdout.flush()
    # If XLA is still computing, an ordinary exit of the interpreter crashes.
    interrupt.end_process(report(error))


def _parse(argv: list[str]) -> list[str]:
  flags.FLAGS.set_gnu_getopt()  # flags may follow a verb
  try:
    if message := config_keys.missing_file(argv):
      fail(message)
    arguments = flags.FLAGS(argv)
    for name in flags.FLAGS:
      if hasattr(value := flags.FLAGS[name].value, 'keys'):
        _require_unicode(f'--{name}', value)
      elif isinstance(value, float) and not math.isfinite(value):  # NaN passes any bounds
        raise UserError(f'flag --{name}={value}: allowed is a finite number.')
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.ERROR)  # Orbax logs every file that it touches
    return arguments
  except (AttributeError, IndexError, KeyError, TypeError) as error:  # for an unknown key
    if message := config_keys.no_stage(argv, error) or config_keys.unknown_key(argv):
      fail(message)
    if isinstance(error, TypeError):  # for a value of another type
      _fail_with_flags(error)
    raise
  except flags.UnrecognizedFlagError as error:
    fail(config_keys.unknown_flag(error.flagname, argv) or error)
  except (flags.Error, ValueError, OSError) as error:
    _fail_with_flags(error)


def _fail_with_flags(error: Exception) -> NoReturn:
  # ml_collections writes the traceback of a config's own error into the message.
  message, _, trace = str(error).partition('Traceback (most recent call last):')
  if not trace:
    fail(_with_allowed_type(message))
  *_, last = trace.strip().splitlines()
  if not last.startswith('ValueError: '):
    raise error
  fail(last.removeprefix('ValueError: '))


def _with_allowed_type(message: str) -> str:
  """The message, or for a value of another type what is allowed instead of Python's own text."""
  flag, _, reason = message.partition(': ')
  allowed = next((kind for start, kind in _TYPES.items() if reason.startswith(start)), '')
  return f'{flag}: allowed is {allowed}.' if allowed else message


def _require_unicode(name: str, config: object) -> None:
  """UserError for a text in a config that UTF-8 cannot encode."""
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
      if not (message := mistakes.message(error, _user_paths())):
        raise
      fail(f'{message}{mistakes.advice(error)}')

  return reporting


def _user_paths() -> Iterator[pathlib.Path]:
  """All values of flags and configs that can be paths, defaults included."""
  for name in flags.FLAGS:
    yield from (pathlib.Path(text) for _, text in _texts(flags.FLAGS[name].value, name) if text)


def _texts(value: object, name: str) -> Iterator[tuple[str, str]]:
  """Each text in a flag or a config, at any depth, with its name."""
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
