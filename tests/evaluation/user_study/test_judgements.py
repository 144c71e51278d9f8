import json
import random
import re
from collections import Counter

import pytest

from evaluation.user_study.answers import read_key
from evaluation.user_study.judgements import analyse, interval, print_report

KEY = {
  'version': 1,
  'study': 'abc',
  'ours': 'o',
  'theirs': 't',
  **{'pairs': 10, 'vigilance': 2, 'size': 16, 'fps': 8.0, 'seed': 0},
  'items': {
    f'p{i}': {
      'kind': 'pair',
      'name': f'n{i:02}',
      'known': 'ab'[i % 2],
      'questions': ['quality', 'text'],
    }
    for i in range(20)
  }
  | {
    'c0': {'kind': 'still', 'name': 'n00', 'known': 'a', 'questions': ['quality']},
    'c1': {'kind': 'noise', 'name': 'n01', 'known': 'b', 'questions': ['quality', 'text']},
  },
}
OTHER = {'a': 'b', 'b': 'a'}


def session(rater, picks, *, pairs=range(8), right=True, rng=None):
  """A rater's file, `picks(pair, question)` telling whether ours is chosen."""
  rng, answers = rng or random.Random(rater), []
  ids = [f'p{i}' for i in pairs] + ['c0', 'c1']
  rng.shuffle(ids)
  for id in ids:
    item, left = KEY['items'][id], rng.choice('ab')
    for question in item['questions']:
      good = picks(id, question) if item['kind'] == 'pair' else right
      choice = item['known'] if good else OTHER[item['known']]
      answers.append(
        {
          'pair': id,
          'question': question,
          'left': left,
          'choice': choice,
          'ms': rng.randrange(9999),
        }
      )
  facts = {'version': 1, 'study': 'abc', 'rater': rater, 'started': '', 'finished': '2026'}
  return facts | {'answers': answers}


@pytest.fixture
def write(tmp_path):
  (tmp_path / 'key.json').write_text(json.dumps(KEY))
  (tmp_path / 'answers').mkdir()

  def write(name, content):
    file = tmp_path / 'answers' / f'{name}.json'
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file

  return write


def analyse_folder(tmp_path, **options):
  return analyse(tmp_path / 'answers', tmp_path / 'key.json', **options)


def test_answers_are_counted_by_the_key(tmp_path, write):
  # Of 4 raters of 8 pairs: ours for quality always, for text in the pairs 0 to 5.
  for i in range(4):
    write(i, session(f'r{i}', lambda id, question: question == 'quality' or int(id[1:]) < 6))
  result = analyse_folder(tmp_path)
  quality, text = result.questions['quality'], result.questions['text']
  assert (quality.n, quality.ours, quality.alpha) == (32, 1, None)
  assert quality.p == pytest.approx(2 * 0.5**32)
  assert (text.n, text.ours, text.alpha) == (32, 0.75, 1)
  assert (text.low, text.high) == interval(24, 32)
  assert result.pairs[8:10] + result.pairs[-2:] == [
    {'pair': 'n00', 'question': 'text', 'n': 4, 'ours': 4},
    {'pair': 'n01', 'question': 'text', 'n': 4, 'ours': 4},
    {'pair': 'n06', 'question': 'text', 'n': 4, 'ours': 0},
    {'pair': 'n07', 'question': 'text', 'n': 4, 'ours': 0},
  ]
  assert (result.raters, result.failed, result.dropped) == (4, {}, {})


def test_a_known_preference_is_found_in_400_judgements(tmp_path, write):
  """50 raters of 8 pairs prefer ours with 0.65 and 0.5; 20 more fail checks and choose theirs."""
  rng, taste = random.Random(3), {'quality': 0.65, 'text': 0.5}
  for i in range(50):
    picks = lambda id, question: rng.random() < taste[question]
    write(i, session(f'r{i}', picks, pairs=rng.sample(range(20), 8), rng=rng))
  for i in range(20):
    write(f'x{i}', session(f'x{i}', lambda id, question: False, right=False, rng=rng))
  result = analyse_folder(tmp_path)
  assert result.raters == 50
  assert result.failed == {f'x{i}': 3 for i in range(20)}
  for question, share in taste.items():
    preference = result.questions[question]
    assert preference.n == 400
    assert preference.low < share < preference.high
    assert abs(preference.left - 0.5) < 0.1
    assert abs(preference.alpha) < 0.1  # each draws alone
  assert result.questions['quality'].p < 1e-4
  assert result.questions['text'].p > 0.05
  everyone = analyse_folder(tmp_path, allowed=3)
  assert everyone.raters == 70
  assert everyone.questions['quality'].high < 0.65


def test_a_check_without_an_answer_is_failed(tmp_path, write):
  lacking = session('r', lambda *_: True)
  lacking['answers'] = [a for a in lacking['answers'] if a['pair'] != 'c0']
  write('r', lacking)
  assert analyse_folder(tmp_path, allowed=1).raters == 1
  with pytest.raises(
    ValueError, match='No judgement is left: 1 of 1 raters fail more than 0 of th'
  ):
    analyse_folder(tmp_path)


def test_of_files_of_one_rater_one_counts(tmp_path, write):
  write('a', session('r', lambda *_: True))
  part = session('r', lambda *_: False)
  part['answers'] = part['answers'][:5]
  write('b', part | {'finished': '2025'})
  write('c', session('r', lambda *_: False) | {'finished': '2027'})
  result = analyse_folder(tmp_path)
  assert result.raters == 1
  assert result.questions['quality'].ours == 1
  answers = tmp_path / 'answers'
  assert result.dropped == {
    str(answers / f'{name}.json'): f'rater r is in {answers / "a.json"} too' for name in 'bc'
  }


def without(name):
  return lambda s: {k: v for k, v in s.items() if k != name}


def changed(**facts):
  return lambda s: s | {'answers': [*s['answers'][:-1], s['answers'][-1] | facts]}


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda s: '{"version": 1', 'cannot be read as JSON'),
    (lambda s: [s], 'is not of this version of a study; allowed is version 1'),
    (lambda s: s | {'version': 2}, 'is not of this version of a study; allowed is version 1'),
    (lambda s: s | {'study': 'abd'}, "is of study 'abd'; allowed is 'abc'"),
    (without('study'), "is of study None; allowed is 'abc'"),
    (without('rater'), 'has no rater or no answers'),
    (lambda s: s | {'answers': []}, 'has no rater or no answers'),
    (lambda s: s | {'answers': [3]}, 'answer 1: allowed is an object with pair, question, left, '),
    (lambda s: s | {'answers': s['answers'] * 2}, 'more than once; allowed is once'),
    (changed(pair='zz'), "answer 19: pair 'zz' is not asked"),
    (changed(pair=['p0']), 'is not asked'),
    (changed(pair='c0', question='text'), "pair 'c0' is not asked 'text' here"),
    (changed(choice='left'), "got 'left' of '[ab]' first; allowed: a, b"),
    (changed(left=None), 'got .* of None first; allowed: a, b'),
    (changed(ms=-1), 'got -1 ms; allowed are whole numbers from 0 on'),
    (changed(ms='fast'), "got 'fast' ms"),
  ],
)
def test_what_the_page_would_not_write_is_an_error_that_names_the_file(
  tmp_path, write, damage, message
):
  write('good', session('r0', lambda *_: True))
  file = write('spoilt', damage(session('r1', lambda *_: True)))
  with pytest.raises(ValueError, match=message) as error:
    analyse_folder(tmp_path)
  assert str(error.value).startswith(str(file))


def test_no_answers_no_key_and_numbers_beyond_are_errors(tmp_path, write):
  with pytest.raises(ValueError, match=r'answers has no answers; allowed is a folder of \.json'):
    analyse_folder(tmp_path)
  file = write('r', session('r', lambda *_: True))
  with pytest.raises(ValueError, match=r'r\.json is no key; allowed is key\.json of a study'):
    read_key(file)
  item = KEY['items']['p0']
  damaged_keys = [{k: v for k, v in KEY.items() if k != name} for name in KEY if name != 'version']
  damaged_keys += [
    KEY | {'items': {'p0': {k: item[k] for k in item if k != name}}} for name in item
  ]
  for known in damaged_keys:
    with pytest.raises(ValueError, match=r'key\.json is no key; .* which has fps, items, ours, '):
      read_key(write('key', known))
  for options in ({'allowed': -1}, {'confidence': 1.0}):
    with pytest.raises(ValueError, match='allowed are 0 or more, and numbers between 0 and 1'):
      analyse_folder(tmp_path, **options)


def test_the_report_says_who_is_counted(tmp_path, write, capsys):
  files = [write(i, session(f'r{i}', lambda *_: True)) for i in range(2)]
  files += [write('w', session('w', lambda *_: True, right=False))]
  files += [write('z', session('r0', lambda *_: True))]
  result = json.loads(json.dumps(print_report(files, tmp_path / 'key.json')))
  assert result['score']['quality']['ours'] == 1
  assert result['protocol']['failed'] == {'w': 3}
  assert result['protocol']['study'] == 'abc'
  assert Counter(row['question'] for row in result['pairs']) == {'quality': 8, 'text': 8}
  text = capsys.readouterr().out
  assert 'z.json: dropped, rater r0 is in' in text
  assert 'w: excluded, failed 3 of the vigilance checks' in text
  assert re.search(r'quality +100.0% +16 +79.4% to 100.0% +3.1e-05 +-', text)
