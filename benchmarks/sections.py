"""Markdown pages with sections that are each written by one command."""

import pathlib
import re
import subprocess

from core import command
from core.errors import UserError
from core.folder import new_file
from core.writable import require_file


def require(page: pathlib.Path) -> None:
  """Raises ValueError where the name is none of a page, OSError where it can't be written."""
  if page.suffix != '.md' or not page.parent.is_dir():
    raise UserError(f'Got --output={page}; allowed is a name that ends in .md, in a folder.')
  require_file(page)


def commit() -> str:
  """The commit of the code."""
  line = ['git', 'rev-parse', '--short', 'HEAD']
  return subprocess.run(line, cwd=command.ROOT, capture_output=True, text=True).stdout.strip()


def replace(page: pathlib.Path, title: str, body: str) -> None:
  """Writes a section of the page: in place of the one of this title, or as the last.  All others
  stay as they are."""
  old = page.read_text('utf-8') if page.exists() else '# Reliability\n'
  section = f'## {title}\n\n{body.strip()}\n'
  pattern = re.compile(rf'^## {re.escape(title)}\n.*?(?=^## |\Z)', re.MULTILINE | re.DOTALL)
  if pattern.search(old):
    new = pattern.sub(lambda _: section + '\n', old)
  else:
    new = f'{old.rstrip()}\n\n{section}'
  with new_file(page) as file:
    file.write_text(new.rstrip() + '\n', 'utf-8')
