"""Videos reach raters, and answers whoever asks, whatever happens in between."""

import functools
import http.server
import json
import threading

import pytest

from evaluation.judgements import analyse
from evaluation.user_study import beside, write_study
from tests.raters import (
  FEW,
  LAUNCH,
  answer,
  answer_all,
  by_keys,
  key_of,
  needs_chromium,
  opened,
  saved,
)

pytestmark = needs_chromium


def test_closing_the_browser_loses_nothing(playwright, study, tmp_path):
  rater, steps = None, []
  for count in (2, 3, 0):
    context = playwright.chromium.launch_persistent_context(tmp_path / 'profile', **LAUNCH)
    with opened(context, study) as tab:
      assert tab.evaluate('state.rater') == (rater or tab.evaluate('state.rater'))
      rater = tab.evaluate('state.rater')
      if count:
        tab.get_by_role('button', name='Go on' if steps else 'Start').click()
      steps += [answer(tab, study, by_keys(tab)) for _ in range(count)]
      if not count:  # nothing was saved yet, and nothing is lost
        file = saved(tab, tmp_path)
    context.close()
  assert [step['at'] for step in steps] == list(range(5))
  assert json.loads(file.read_text())['rater'] == rater
  assert analyse([file], key_of(study)).questions['quality'].ours == 1


class Server(http.server.SimpleHTTPRequestHandler):
  """Gives the files of a folder, and takes what is posted."""

  def do_POST(self):
    body = self.rfile.read(int(self.headers['Content-Length']))
    self.server.received.append((self.path, self.headers['Content-Type'], body))
    self.send_response(self.server.status)
    self.send_header('Access-Control-Allow-Origin', '*')
    self.end_headers()

  def log_message(self, *_):
    """Says nothing."""


@pytest.fixture
def server(tmp_path):
  handler = functools.partial(Server, directory=tmp_path)
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  server.received, server.status = [], 200
  threading.Thread(target=server.serve_forever, daemon=True).start()
  server.address = f'http://127.0.0.1:{server.server_port}'
  yield server
  server.shutdown()
  server.server_close()


def test_answers_are_posted_and_otherwise_saved(browser, folders, server, tmp_path):
  url = f'{server.address}/answers?from=here'
  page = write_study(*folders, tmp_path / 'out', **FEW, post_url=url)
  context = browser.new_context(accept_downloads=True)
  server.status = 503
  with opened(context, page, allowed=(url, '503')) as tab:
    tab.evaluate('RETRIES.fill(1)')
    tab.get_by_role('button', name='Start').click()
    answer_all(tab, page, by_keys(tab))
    tab.get_by_role('button', name='Send again').wait_for()
    assert 'could not be sent. Save them' in tab.locator('#outcome').inner_text()
    assert len(server.received) == 3  # once, and twice again
    file = saved(tab, tmp_path)
    server.status = 200
    tab.get_by_role('button', name='Send again').click()
    tab.get_by_text('Your answers have arrived.').wait_for()
  path, kind, body = server.received[-1]
  assert (path, kind) == ('/answers?from=here', 'text/plain')
  assert json.loads(body) == json.loads(file.read_text())
  (tmp_path / 'posted.json').write_bytes(body)
  found = analyse([file, tmp_path / 'posted.json'], key_of(page))
  assert (found.raters, len(found.dropped)) == (1, 1)
  # Opened again, it tells what was, and sends nothing.
  with opened(context, page) as tab:
    assert 'have arrived' in tab.locator('#outcome').inner_text()
  assert len(server.received) == 4
  context.close()


def test_videos_beside_the_page_from_disk_and_from_a_server(browser, folders, server, tmp_path):
  page = write_study(*folders, tmp_path / 'out', **FEW, place=beside)
  for where in (page.as_uri(), f'{server.address}/out/page/index.html'):
    context = browser.new_context()
    with opened(context, where, allowed=[server.address]) as tab:
      tab.get_by_role('button', name='Start').click()
      for _ in range(2):
        answer(tab, page, by_keys(tab))
      assert tab.evaluate('state.answers.length') == 2
    context.close()


def test_a_video_that_cannot_be_played_is_told(browser, folders, tmp_path):
  page = write_study(*folders, tmp_path / 'out', **FEW, place=beside)
  for file in (page.parent / 'videos').iterdir():
    file.write_bytes(b'nothing')
  context = browser.new_context()
  with opened(context, page) as tab:
    tab.get_by_role('button', name='Start').click()
    tab.get_by_text('A video cannot be played: press replay to try again').wait_for()
    tab.keyboard.press('1')
    assert tab.evaluate('state.answers.length') == 0
  context.close()
