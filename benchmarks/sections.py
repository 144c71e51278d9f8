"""Markdown pages in which each command writes its own section."""

import pathlib
import re
import subprocess

from core import command
from core.errors import UserError
from core.folder import new_file
from core.writable import require_file


def require(page: pathlib.Path) -> None:
  """Raises ValueError unless the path is a .md file in a folder, OSError if it can't be written."""
  if page.suffix != '.md' or not page.parent.is_dir():
    raise UserError(f'Got --output={page}; allowed is a name that ends in .md, in a folder.')
  require_file(page)


def commit() -> str:
  """The short hash of the current commit."""
  line = ['git', 'rev-parse', '--short', 'HEAD']
  return subprocess.run(line, cwd=command.ROOT, capture_output=True, text=True).stdout.strip()


def replace(page: pathlib.Path, title: str, body: str) -> None:
  """Replaces the section of this title, or appends it to the page if there is none."""
  old = page.read_text('utf-8') if page.exists() else '# Reliability\n'
  section = f'## {title}\n\n{body.strip()}\n'
  pattern = re.compile(rf'^## {re.escape(title)}\n.*?(?=^## |\Z)', re.MULTILINE | re.DOTALL)
  if pattern.search(old):
    new = pattern.sub(lambda _: section + '\n', old)
  else:
    new = f'{old.rstrip()}\n\n{section}'
  with new_file(page) as file:
    file.write_text(new.rstrip() + '\n', 'utf-8')
