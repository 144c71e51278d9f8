import html.parser
import pathlib
import re
import shlex

import pytest

import gallery
from data import decode
from evaluation.shapes.judge import judge

SAMPLE = pathlib.Path(gallery.__file__).with_name('sample.py').read_text('utf-8')
FOLDER = pathlib.Path('a folder')


class Files(html.parser.HTMLParser):
  """The files that a page shows, and its commands."""

  def __init__(self, page):
    super().__init__()
    self.shown, self.commands, self._in = [], [], ''
    self.feed(page)

  def handle_starttag(self, tag, attributes):
    self._in = tag
    self.shown += [value for name, value in attributes if name == 'src']

  def handle_data(self, data):
    if self._in == 'pre' and data.strip():
      self.commands.append(shlex.split(data))


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
  folder = tmp_path_factory.mktemp('gallery')
  return folder, gallery.drawn(folder)


def test_every_application_is_on_the_page(drawn):
  verbs = [row.verb for row in drawn[1].values()]
  assert set(verbs) == set(re.findall(r'^    _verb\((\w+),', SAMPLE, re.MULTILINE))
  assert verbs.count('stylize') == len(list((gallery.DEMO / 'styles').glob('*.npz'))) >= 2


def test_a_row_has_its_inputs_and_what_is_made_of_them(drawn):
  folder, rows = drawn
  page = Files(gallery.page(FOLDER, rows))
  made = [file for out in rows for file in (f'{out}.mp4', f'{out}_xt.png')]
  assert set(page.shown) == {
    *made,
    *(file for row in rows.values() for file in row.inputs.values()),
  }
  assert all((folder / file).is_file() for file in {*page.shown} - {*made})
  for command, (out, row) in zip(page.commands, rows.items(), strict=True):
    assert command == ['python', *row.argv(FOLDER, out)]


def test_flags_of_the_commands_are_those_of_sampling(drawn):
  known = set(re.findall(r"DEFINE_\w+\(\s*'(\w+)'", SAMPLE))
  for row in drawn[1].values():
    flags = {word[2:].split('=')[0] for word in row.argv(FOLDER, '0') if word.startswith('--')}
    assert flags <= known


def test_the_clip_is_what_its_caption_says(drawn):
  folder, _ = drawn
  clip = decode.decode(folder / 'clip.mp4', fps=gallery.FPS)
  seen = judge(clip)
  assert (seen.colour, seen.shape, seen.motion) == ('yellow', 'square', 'moving right')
