"""How a command of this project ends when its user made a mistake: one line, and exit status 2."""

import pathlib
import sys
import traceback
from collections.abc import Callable

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(main: Callable[[], None]) -> None:
  """Parses the flags and calls `main()`.

  A mistake in the flags, and a `ValueError` or `OSError` which this project's own code raised, end
  in a line on stderr and exit status 2.  Anything else is a defect and keeps its traceback.
  """
  app.run(_reporting(main), flags_parser=_parse)


def fail(message: object) -> None:
  """Prints one line and exits with status 2."""
  print('error: ' + ' '.join(str(message).split()), file=sys.stderr)
  sys.exit(2)


def _parse(argv: list[str]) -> list[str]:
  try:
    rest = flags.FLAGS(argv)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
    # ml_collections reports an unknown key of a config as an AttributeError or a KeyError.
    fail(error.args[0] if error.args else error)
  return rest


def _reporting(main):
  def reporting(argv):
    if argv[1:]:
      fail(f'Unknown arguments: {argv[1:]}.')
    try:
      main()
    except (ValueError, OSError) as error:
      raised_in = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
      if not raised_in.is_relative_to(ROOT) or '.venv' in raised_in.parts:
        raise
      fail(error)

  return reporting
