"""Videos reach raters, and answers whoever asks, whatever happens in between."""

import functools
import http.server
import json
import threading

import pytest

from evaluation.user_study.answers import read_key, read_sessions
from evaluation.user_study.judgements import analyse
from evaluation.user_study.page import beside, write_study
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
  stored,
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
  result = analyse([file, tmp_path / 'posted.json'], key_of(page))
  assert (result.raters, len(result.dropped)) == (1, 1)
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


def spoil(page, one=None):
  """Spoils all videos of a page, or those of one item; without real ones, checks are of pairs."""
  items = json.loads(page.read_text().split('id="study">')[1].split('</script>')[0])['items']
  for item in items:
    for side in 'ab':
      if one is None or item['id'] == one['id']:
        (page.parent / 'videos' / f'{item[side]}.mp4').write_bytes(b'nothing')


def test_a_video_that_cannot_be_played_is_reported(browser, folders, tmp_path):
  page = write_study(*folders, tmp_path / 'out', **FEW, place=beside)
  spoil(page)
  context = browser.new_context()
  with opened(context, page) as tab:
    tab.get_by_role('button', name='Start').click()
    tab.get_by_text('A video cannot be played: press replay to try again').wait_for()
    tab.keyboard.press('1')
    assert tab.evaluate('state.answers.length') == 0
    assert tab.get_by_role('button', name='Stop').is_hidden()  # with nothing to keep
    for _ in range(FEW['pairs']):
      tab.get_by_role('button', name='Skip these videos').click()
    assert 'No video can be played here.' in tab.locator('#outcome').inner_text()
    assert tab.get_by_role('button', name='Save answers').is_hidden()
  context.close()


def test_a_pair_that_cannot_be_played_is_skipped(browser, folders, tmp_path):
  page = write_study(*folders, tmp_path / 'out', **FEW, place=beside, real=folders[0])
  context = browser.new_context()
  with opened(context, page) as tab:
    first = tab.evaluate('plan[0].item')
    spoil(page, first)
    tab.get_by_role('button', name='Start').click()
    tab.get_by_role('button', name='Skip these videos').click()
    steps = answer_all(tab, page, by_keys(tab))
    assert len(steps) == 5 - len(first['questions'])
    assert f'You answered {len(steps)} of 5 questions.' in tab.locator('#outcome').inner_text()
  context.close()


def test_a_pair_that_could_not_be_loaded_is_tried_again(browser, folders, server, tmp_path):
  page = write_study(*folders, tmp_path / 'out', **FEW, place=beside)
  videos, away = page.parent / 'videos', tmp_path / 'away'
  videos.rename(away)
  context = browser.new_context()
  where = f'{server.address}/out/page/index.html'
  with opened(context, where, allowed=[server.address, '404']) as tab:
    tab.get_by_role('button', name='Start').click()
    skip = tab.get_by_role('button', name='Skip these videos')
    skip.wait_for()
    away.rename(videos)
    tab.get_by_role('button', name='Replay').click()
    skip.wait_for(state='hidden')
    assert answer(tab, page, by_keys(tab))['at'] == 0
  context.close()


@pytest.mark.parametrize('post', [False, True])
def test_what_was_answered_before_a_failure_is_kept(browser, folders, server, tmp_path, post):
  url = f'{server.address}/answers' if post else None
  options = FEW | {'place': beside, 'post_url': url, 'real': folders[0]}
  page = write_study(*folders, tmp_path / 'out', **options)
  context = browser.new_context(accept_downloads=True)
  with opened(context, page, allowed=[server.address]) as tab:
    last = tab.evaluate('plan[plan.length - 1].item')
    asked_of_last = len(last['questions'])
    spoil(page, last)
    tab.get_by_role('button', name='Start').click()
    for _ in range(5 - asked_of_last):
      answer(tab, page, by_keys(tab))
    tab.get_by_role('button', name='Stop, and keep my answers').click()
    if post:
      tab.get_by_text('Your answers have arrived.').wait_for()
      ((_, _, body),) = server.received
      (tmp_path / 'a.json').write_bytes(body)
      file = tmp_path / 'a.json'
    else:
      assert f'You answered {5 - asked_of_last} of 5' in tab.locator('#outcome').inner_text()
      file = saved(tab, tmp_path)
    known = read_key(key_of(page))
    ((session,), _) = read_sessions([file], known)
    assert len(session.answers) == 5 - asked_of_last
    assert tab.locator('#count').inner_text() == f'{5 - asked_of_last} of 5'
    tab.get_by_role('button', name='Back to the questions').click()
    tab.get_by_role('button', name='Skip these videos').click()
    assert tab.locator('#end').is_visible()
  context.close()


def test_two_tabs_lose_no_answer(browser, study):
  context = browser.new_context(bypass_csp=True)  # to wait for what is stored
  with opened(context, study) as a, opened(context, study) as b:
    for tab in (a, b):
      tab.get_by_role('button', name='Start').click()
    for _ in range(2):
      answer(a, study, by_keys(a))
    answer_all(b, study, by_keys(b))
    answer(a, study, by_keys(a))
    # Tabs do not see each other's writes at once: what `a` overwrote comes back from `b`.
    a.wait_for_function(
      'JSON.parse(localStorage.getItem(place)).answers.filter(Boolean).length === 5'
    )
    kept = stored(a)
    assert kept['finished']
    # The last choice of a question counts, whoever made it.
    assert kept['answers'][:3] == a.evaluate('state.answers.slice(0, 3)')
    assert a.locator('#end').is_visible()
  context.close()


def test_what_another_tab_overwrites_comes_back(browser, study):
  """Tabs do not see each other's writes at once."""
  context = browser.new_context(bypass_csp=True)  # to wait for what is stored
  with opened(context, study) as a, opened(context, study) as b:
    a.get_by_role('button', name='Start').click()
    answer(a, study, by_keys(a))
    b.evaluate('localStorage.setItem(place, JSON.stringify({...state, answers: []}))')
    a.wait_for_function('JSON.parse(localStorage.getItem(place)).answers.length === 1')
    b.wait_for_function('state.answers.length === 1')
    assert b.locator('#count').inner_text() == '1 of 5'
  context.close()


def test_a_tab_of_the_person_before_does_no_harm(browser, study, tmp_path):
  context = browser.new_context(accept_downloads=True)
  with opened(context, study) as a, opened(context, study) as b:
    first = a.evaluate('state.rater')
    for tab in (a, b):
      tab.get_by_role('button', name='Start').click()
    answer_all(a, study, by_keys(a))
    saved(a, tmp_path)
    a.get_by_role('button', name='Another person starts here').click()
    a.get_by_role('button', name='Start').click()
    answer(a, study, by_keys(a))
    second = a.evaluate('state.rater')
    answer(b, study, by_keys(b))
    assert (stored(b)['rater'], len(stored(b)['answers'])) == (second, 1)
    assert b.evaluate('state.rater') == first
    assert len(json.loads(saved(b, tmp_path).read_text())['answers']) == 5
    b.get_by_role('button', name='Another person starts here').click()
    assert b.evaluate('[state.rater, state.answers.length]') == [second, 1]
  context.close()
