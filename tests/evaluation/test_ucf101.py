import collections
import os
import pathlib

import pytest

from evaluation import ucf101

LISTS = pathlib.Path(os.environ.get('LUMIERE_DATA', 'none'), 'prompts')
needs_data = pytest.mark.skipif(not LISTS.is_dir(), reason='LUMIERE_DATA is not set')


def test_the_dataset_has_its_published_size():
  assert (len(ucf101.CLIPS), sum(ucf101.CLIPS.values())) == (101, 13_320)
  assert min(ucf101.CLIPS.values()) == 100


@needs_data
def test_classes_are_those_of_the_dataset_in_its_order():
  lines = (LISTS / 'ucf101_classInd.txt').read_text().split('\n')
  assert list(ucf101.CLIPS) == [line.split()[1] for line in lines if line.strip()]


@needs_data
def test_no_class_has_fewer_clips_than_its_test_split_and_25_groups_allow():
  files = (LISTS / 'ucf101_testlist01.txt').read_text().split()
  of_test = collections.Counter(file.split('/')[0] for file in files)
  for name, clips in ucf101.CLIPS.items():
    # The split has 7 of 25 groups, and a group 1 to 7 clips, mostly 4 or more.
    assert of_test[name] + 18 <= clips <= of_test[name] + 18 * 7, name


@pytest.mark.parametrize('count', [1, 20, 101, 2048, 10_235, 13_320])
def test_counts_are_proportional(count):
  counts = ucf101.proportional(count)
  assert sum(counts.values()) == count
  for name, clips in ucf101.CLIPS.items():
    assert abs(counts[name] - count * clips / 13_320) < 1, name


def test_the_whole_dataset_is_itself():
  assert ucf101.proportional(13_320) == ucf101.CLIPS


def test_remainders_are_settled_by_size_then_order():
  assert ucf101.proportional(3, {'a': 1, 'b': 1, 'c': 1, 'd': 1}) == {
    'a': 1,
    'b': 1,
    'c': 1,
    'd': 0,
  }
  assert ucf101.proportional(10, {'a': 6, 'b': 6, 'c': 2}) == {'a': 4, 'b': 4, 'c': 2}


@needs_data
def test_published_prompts_are_read():
  prompts = ucf101.class_prompts(LISTS / 'ucf101_prompts.tsv')
  assert list(prompts) == list(ucf101.CLIPS)
  assert prompts['Archery'] == 'a person shooting with a bow'
  assert ucf101.video_prompts(13_320, prompts).count(prompts['Archery']) == 145


def test_a_class_says_itself_in_words():
  prompts = ucf101.class_prompts(None)
  assert prompts['PlayingGuitar'] == 'playing guitar'
  assert prompts['TaiChi'] == 'tai chi'


def test_a_list_of_other_classes_is_refused(tmp_path):
  path = tmp_path / 'classes.tsv'
  lines = [f'{name}\tx' for name in ucf101.CLIPS if name != 'YoYo']
  path.write_text('\n'.join([*lines, 'Chess\tplaying chess']))
  with pytest.raises(ValueError, match=r'has not the 101 classes of UCF101.*: Chess, YoYo differ'):
    ucf101.class_prompts(path)
  with pytest.raises(ValueError, match='Cannot read the prompts of'):
    ucf101.class_prompts(tmp_path / 'none.tsv')


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('Archery\t', 'has no prompt of Archery; each class needs one'),
    ('Archery\tshooting\t ', 'has no prompt of Archery; each class needs one'),
    ('Archery', 'has no prompt of Archery; each class needs one'),
    ('YoYo\tx\nArchery\tx', 'has more than one line of YoYo; allowed is one for each class'),
    ('Chess', 'has not the 101 classes of UCF101.*: Archery, Chess differ'),
  ],
)
def test_each_class_has_one_prompt(tmp_path, line, message):
  path = tmp_path / 'classes.tsv'
  path.write_text('\n'.join([*(f'{name}\tx' for name in ucf101.CLIPS if name != 'Archery'), line]))
  with pytest.raises(ValueError, match=message):
    ucf101.class_prompts(path)


def test_the_mark_before_utf_8_is_no_part_of_a_class(tmp_path):
  path = tmp_path / 'classes.tsv'
  path.write_text('\n'.join(f'{name}\tx' for name in ucf101.CLIPS), 'utf-8-sig')
  assert ucf101.class_prompts(path) == dict.fromkeys(ucf101.CLIPS, 'x')


@pytest.mark.parametrize('separator', ['\u2028', '\x85', '\x0b'])
def test_only_a_line_feed_ends_a_class(tmp_path, separator):
  path = tmp_path / 'classes.tsv'
  path.write_bytes('\r\n'.join(f'{name}\ta{separator}b' for name in ucf101.CLIPS).encode())
  assert ucf101.class_prompts(path) == dict.fromkeys(ucf101.CLIPS, f'a{separator}b')


@pytest.mark.parametrize(
  ('encoding', 'reason'), [('cp1252', 'line 2: byte 0xe9'), ('utf-16', 'it is')]
)
def test_another_encoding_is_refused(tmp_path, encoding, reason):
  path = tmp_path / 'classes.tsv'
  path.write_bytes('Archery\tx\nYoYo\tcaf\xe9\n'.encode(encoding))
  with pytest.raises(
    ValueError, match=rf'^Cannot read the prompts of .*tsv: {reason}[^\n]*UTF-8\.$'
  ):
    ucf101.class_prompts(path)


def test_the_plan_is_shown_whole():
  lines = ucf101.describe(ucf101.COUNT, ucf101.class_prompts(None)).splitlines()
  assert len(lines) == 103
  assert lines[-1].split() == ['all', '10,235', '13,320']
  assert sum(int(line.split()[1]) for line in lines[1:-1]) == 10_235


def test_ours_stands_marked_beside_what_was_published():
  table = ucf101.comparison_table('demo', 1234.5, None)
  assert '| Lumiere (Google) | 332.49 | 37.54 |' in table
  assert '| demo † | 1234.50 | - |' in table
  assert table.splitlines()[-1].startswith('†')
