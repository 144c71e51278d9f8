import json
import os
import pathlib

import pytest

from data import prompts

LISTS = pathlib.Path(os.environ.get('LUMIERE_DATA', 'none'), 'prompts')


@pytest.mark.skipif(not LISTS.is_dir(), reason='LUMIERE_DATA is not set')
@pytest.mark.parametrize(
  ('file', 'count'),
  [
    ('align_your_latents_site_prompts.txt', 19),
    ('imagen_video_site_prompts.txt', 16),
    ('lumiere_site_prompts.json', 148),
    ('make_a_video_site_prompts.txt', 30),
    ('ucf101_prompts.tsv', 101),
    ('vbench_all_dimension.txt', 946),
  ],
)
def test_published_lists_are_read_whole(file, count):
  assert len(prompts.read(LISTS / file)) == count


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('a.txt', 'one\n\n two \n#3\none\n'),
    ('a.tsv', '# a comment\nx\tone\nx\ttwo\ny\tz\t#3\nw\tone'),
    ('a.json', json.dumps(['one', {'prompt': 'two'}, {'caption': '#3', 'file': 'f'}, 'one'])),
    ('a.jsonl', '"one"\n{"prompt": "two"}\n\n{"caption": "#3"}\n"one"'),
  ],
)
def test_every_format_says_the_same(tmp_path, name, text):
  (tmp_path / name).write_text(text)
  assert prompts.read(tmp_path / name) == ['one', 'two', '#3', 'one']


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('a.txt', 'one\n'),
    ('a.tsv', '# a comment\nx\tone'),
    ('a.json', '["one"]'),
    ('a.jsonl', '{"prompt": "one"}'),
  ],
)
def test_the_mark_before_utf_8_is_no_part_of_a_prompt(tmp_path, name, text):
  (tmp_path / name).write_text(text, 'utf-8-sig')
  assert prompts.read(tmp_path / name) == ['one']


def test_a_blank_prompt_is_none(tmp_path):
  items = [{'prompt': ''}, {'prompt': ' ', 'caption': 'no'}, {'prompt': '', 'caption': 'one'}, '']
  (tmp_path / 'a.json').write_text(json.dumps(items))
  assert prompts.read(tmp_path / 'a.json') == ['one']


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('a.csv', 'one', r'a\.csv: it is \.csv; allowed are \.txt with a prompt a line'),
    ('a.txt', ' \n', r'a\.txt has no prompt; allowed are'),
    ('a.json', '[{"prompt": ""}]', r'a\.json has no prompt; allowed are'),
    ('a.json', '{"a": 1}', r'Cannot read the prompts of .*a\.json'),
    ('a.json', '[{"text": "x"}]', 'has neither "prompt" nor "caption"'),
    ('a.jsonl', 'one', r'Cannot read the prompts of .*a\.jsonl'),
    ('a.json', '[3]', r'Cannot read the prompts of .*a\.json'),
    ('a.json', '[{"prompt": 3}]', r'Cannot read the prompts of .*a\.json'),
  ],
)
def test_what_is_no_list_of_prompts(tmp_path, name, text, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=message):
    prompts.read(tmp_path / name)


def test_no_file(tmp_path):
  with pytest.raises(ValueError, match=r'Cannot read the prompts of .*none\.txt'):
    prompts.read(tmp_path / 'none.txt')
