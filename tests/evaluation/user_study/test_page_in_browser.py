"""The page of a user study in Chromium, as raters see it."""

import json
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from evaluation.user_study.judgements import analyse
from tests.raters import answer, answer_all, asked, by_keys, key_of, needs_chromium, opened, saved

pytestmark = needs_chromium
PHONE = {'viewport': {'width': 390, 'height': 844}, 'has_touch': True, 'is_mobile': True}


def test_a_session_by_keys_alone(tab, study, tmp_path):
  assert tab.get_by_role('heading').inner_text() == 'Compare videos'
  tab.keyboard.press('Tab')
  tab.keyboard.press('Enter')
  steps = answer_all(tab, study, by_keys(tab))
  assert tab.locator('#count').inner_text() == '5 of 5'
  # A pair and both checks, of which the still is not asked whether it matches its text.
  assert Counter(step['question'] for step in steps) == {'quality': 3, 'text': 2}
  assert [step['at'] for step in steps] == list(range(5))
  with tab.expect_download() as download:
    tab.keyboard.press('Enter')  # the button to save has the focus
  download.value.save_as(tmp_path / 'a.json')
  assert 'saved as a file' in tab.locator('#outcome').inner_text()
  result = analyse([tmp_path / 'a.json'], key_of(study))
  assert result.raters == 1
  assert [(question.ours, question.n) for question in result.questions.values()] == [(1, 1), (1, 1)]
  answers = json.loads((tmp_path / 'a.json').read_text())['answers']
  assert [(a['pair'], a['question'], a['left']) for a in answers] == [
    (step['id'], step['question'], step['left']) for step in steps
  ]
  assert all(100 < a['ms'] < 60000 for a in answers)


def test_a_session_by_pointer_alone(tab, study, tmp_path):
  tab.get_by_role('button', name='Start').click()
  name = {'left': 'Video 1', 'right': 'Video 2'}
  answer_all(tab, study, lambda side: tab.get_by_role('button', name=name[side]).click())
  result = analyse([saved(tab, tmp_path)], key_of(study))
  assert result.questions['text'].ours == 1
  # Saved again, it is the same; the next rater starts anew, and is another one.
  first = json.loads(saved(tab, tmp_path).read_text())
  tab.get_by_role('button', name='Another person starts here').click()
  assert tab.locator('#count').inner_text() == '0 of 5'
  assert tab.evaluate('state.rater') != first['rater']


def test_an_answer_waits_until_both_were_seen(tab, study):
  tab.evaluate('HTMLMediaElement.prototype.play = async function() {}')
  tab.get_by_role('button', name='Start').click()
  for press in ('1', 'ArrowLeft', '2', 'ArrowRight'):
    tab.keyboard.press(press)
  tab.locator('#left').click(force=True)
  assert tab.locator('#left').get_attribute('aria-disabled') == 'true'
  videos = tab.locator('#pair video')
  videos.nth(0).dispatch_event('ended')
  tab.keyboard.press('1')
  assert tab.evaluate('state.answers.length') == 0
  videos.nth(1).dispatch_event('ended')
  tab.keyboard.press('Control+1')  # the browser's own
  assert tab.evaluate('state.answers.length') == 0
  tab.keyboard.press('1')
  assert tab.evaluate('state.answers.length') == 1


def test_both_videos_loop_together(tab, study):
  tab.evaluate("""() => {
    const play = HTMLMediaElement.prototype.play, starts = new Map();
    window.looped = new Promise((resolve) => {
      HTMLMediaElement.prototype.play = function() {
        starts.set(this, [...(starts.get(this) || []), performance.now()]);
        const all = [...starts.values()];
        if (all.length === 2 && all.every((times) => times.length === 4)) resolve(all);
        return play.call(this);
      };
    });
  }""")
  tab.get_by_role('button', name='Start').click()
  first, second = tab.evaluate('looped')
  assert np.abs(np.subtract(first, second)).max() < 20  # ms
  assert min(np.diff(first)) >= 240  # of 250, which the videos are long
  assert all(tab.evaluate("[...document.querySelectorAll('#pair video')].map((v) => v.muted)"))


@pytest.mark.parametrize('press', ['a click', 'a key'])
def test_replay_plays_while_its_press_still_allows_it(tab, study, press):
  tab.get_by_role('button', name='Start').click()
  asked(tab)
  calls = tab.evaluate(
    """(press) => {
    let calls = 0;
    HTMLMediaElement.prototype.play = async () => { calls++; };
    ready = () => new Promise(() => {});  // as where nothing loads before it plays
    if (press === 'a click') $('replay').click();
    else document.dispatchEvent(new KeyboardEvent('keydown', {key: ' '}));
    return calls;
  }""",
    press,
  )
  assert calls == 2


def test_going_back_and_replaying(tab, study):
  tab.get_by_role('button', name='Start').click()
  asked(tab)
  assert tab.get_by_role('button', name='Back').is_disabled()
  tab.keyboard.press('1')
  asked(tab)
  tab.keyboard.press('2')
  asked(tab)
  for press in ('Backspace', 'u'):
    tab.keyboard.press(press)
  assert asked(tab)['at'] == 0
  pressed = [tab.locator(f'#{side}').get_attribute('aria-pressed') for side in ('left', 'right')]
  assert pressed == ['true', 'false']
  first = tab.evaluate('state.answers[0].choice')
  tab.keyboard.press('2')
  assert asked(tab)['at'] == 2  # the second answer stands
  assert tab.evaluate('state.answers[0].choice') == {'a': 'b', 'b': 'a'}[first]
  # Space begins again; on a button which has the focus, it presses that.
  tab.evaluate('films.get(plan[at].item.id).a.currentTime = .1')
  tab.keyboard.press('Space')
  assert tab.evaluate('state.answers.length') == 2
  asked(tab)
  tab.locator('#left').focus()
  tab.keyboard.press('Space')
  assert tab.evaluate('state.answers.length') == 3


def test_the_focus_is_seen(tab, study):
  tab.keyboard.press('Tab')
  outline = 'getComputedStyle(document.activeElement).outlineStyle + document.activeElement.id'
  assert tab.evaluate(outline) == 'solidbegin'
  tab.keyboard.press('Enter')
  asked(tab)
  for id in ('left', 'right', 'replay'):
    tab.keyboard.press('Tab')
    assert tab.evaluate(outline) == f'solid{id}'
  assert tab.get_by_role('group').get_attribute('aria-labelledby') == 'question'
  assert tab.get_by_role('progressbar', name='Answered').count() == 1
  assert tab.get_by_role('status').inner_text() == 'Choose a video'


def test_a_phone_shows_all_of_it(browser, study, tmp_path):
  context = browser.new_context(**PHONE, accept_downloads=True)
  with opened(context, study) as tab:
    tab.get_by_role('button', name='Start').tap()
    while tab.locator('#end').is_hidden():
      answer(tab, study, lambda side: tab.locator(f'#{side}').tap())
      for size in ({'width': 320, 'height': 568}, {'width': 844, 'height': 390}, PHONE['viewport']):
        tab.set_viewport_size(size)
        assert tab.evaluate('document.documentElement.scrollWidth') <= size['width']
        boxes = [box for one in tab.get_by_role('button').all() if (box := one.bounding_box())]
        assert all(0 <= box['x'] <= size['width'] - box['width'] for box in boxes)
        # Upright, both videos are seen at once, under a prompt of many words.
        bottom = max(box['y'] + box['height'] for box in boxes)
        assert size['height'] < 844 or bottom <= 844
        assert all(min(box['width'], box['height']) >= 44 for box in boxes)  # a fingertip
    assert analyse([saved(tab, tmp_path)], key_of(study)).raters == 1
  context.close()


def test_orders_and_sides_are_drawn_evenly_and_for_each_rater(tab, study):
  items = [{'id': f'p{i}', 'always': i < 2, 'questions': ['quality', 'text']} for i in range(12)]
  data = {'study': 's', 'drawn': 6, 'items': items}
  draws = """data => JSON.stringify([...Array(2000)].map((_, i) => steps(data, `rater ${i}`)
    .map((step) => [step.item.id, step.question, step.left])))"""
  text = tab.evaluate(draws, data)
  assert tab.evaluate(draws, data) == text
  drawn = json.loads(text)
  orders = [[id for id, question, _ in one if question == 'text'] for one in drawn]
  assert {len(set(order)) for order in orders} == {8}
  # Both questions of a pair follow each other, and show it on the same sides.
  for one in drawn:
    assert [(id, left) for id, _, left in one[::2]] == [(id, left) for id, _, left in one[1::2]]
  lefts = Counter((id, left) for one in drawn for id, question, left in one if question == 'text')
  for i in range(12):
    a, b = lefts[f'p{i}', 'a'], lefts[f'p{i}', 'b']
    assert stats.binomtest(a, a + b).pvalue > 1e-4
    assert a + b == 2000 if i < 2 else stats.binomtest(a + b, 2000, 6 / 10).pvalue > 1e-4
    places = Counter(order.index(f'p{i}') for order in orders if f'p{i}' in order)
    assert stats.chisquare([places[k] for k in range(8)]).pvalue > 1e-4
