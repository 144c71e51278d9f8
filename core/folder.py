"""A folder that is whole or not there."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def new_folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder to write to, which gets its name when all went well, and else is gone.

  ValueError where there is something of that name already.
  """
  if out.exists():
    raise ValueError(f'{out} exists already; --out is a new folder.')
  incomplete = out.with_name(out.name + '.incomplete')
  shutil.rmtree(incomplete, ignore_errors=True)  # of one that was killed
  incomplete.mkdir(parents=True)
  try:
    yield incomplete
    incomplete.rename(out)
  finally:
    shutil.rmtree(incomplete, ignore_errors=True)
