"""Raters of a user study: presses in Chromium on its page."""

import contextlib
import json
import pathlib
import shutil

import numpy as np
import pytest

from core import video

CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
needs_chromium = pytest.mark.skipif(
  not CHROMIUM, reason='there is no Chromium: apt-get install chromium'
)
LAUNCH = {'executable_path': CHROMIUM, 'args': ['--no-sandbox']}
FEW = {'pairs': 3, 'vigilance': 2, 'size': 32}  # 5 questions
OPEN = '#left[aria-disabled=false]'
QUIET = {'file', 'blob', 'data'}  # what a page loads without a network


def two_systems(root: pathlib.Path):
  """Two folders of two videos of a quarter of a second."""
  for name, colour in (('ours', (200, 40, 40)), ('theirs', (40, 40, 200))):
    (root / name).mkdir()
    lines = []
    for i in range(2):
      clip = np.full((4, 32, 32, 3), colour, np.uint8)
      for t in range(4):
        clip[t, 6 * t : 6 * t + 6] = 255
      video.write(root / name / f'{i}.mp4', clip)
      prompt = f'number {i}, which has many words, ' + 'and more of them ' * 6
      lines.append(json.dumps({'file': f'{i}.mp4', 'prompt': prompt}))
    (root / name / 'index.jsonl').write_text('\n'.join(lines))
  return root / 'ours', root / 'theirs'


@contextlib.contextmanager
def opened(context, page, allowed=()):
  """The page; what it fetches and what goes wrong is none but what is allowed."""
  tab, wrong = context.new_page(), []
  tab.on('console', lambda message: wrong.append(message.text))
  tab.on('pageerror', lambda error: wrong.append(str(error)))
  tab.on('request', lambda one: one.url.split(':')[0] in QUIET or wrong.append(one.url))
  tab.goto(page if isinstance(page, str) else page.as_uri())
  yield tab
  assert not [what for what in wrong if not any(word in what for word in allowed)]


def key_of(page):
  return page.parent.parent / 'key.json'


def asked(tab):
  """Waits until the question may be answered, and returns it."""
  tab.wait_for_selector(OPEN)
  question = '({id: plan[at].item.id, question: plan[at].question, left: plan[at].left, at: at})'
  return tab.evaluate(question)


def answer(tab, page, press):
  """Chooses ours, or what is right, by a press of 'left' or 'right'."""
  step = asked(tab)
  item = json.loads(key_of(page).read_text())['items'][step['id']]
  assert step['question'] in item['questions']
  press('left' if item['known'] == step['left'] else 'right')
  return step


def by_keys(tab):
  return lambda side: tab.keyboard.press({'left': '1', 'right': 'ArrowRight'}[side])


def answer_all(tab, page, press):
  steps = []
  while tab.locator('#end').is_hidden():
    steps.append(answer(tab, page, press))
  return steps


def stored(tab):
  """What the browser keeps of the rater who is next on a page."""
  return tab.evaluate('JSON.parse(localStorage.getItem(place))')


def saved(tab, folder):
  """Presses save; the file that comes."""
  with tab.expect_download() as download:
    tab.get_by_role('button', name='Save answers').click()
  file = folder / download.value.suggested_filename
  download.value.save_as(file)
  return file
