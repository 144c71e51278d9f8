import json

import numpy as np
import pytest

from core import video
from data.decode import decode
from evaluation.motion import motion, trace
from evaluation.user_study.checks import STILL, Moving, first_suitable
from evaluation.user_study.page import write_study
from tests.evaluation.user_study.studies import (
  BLUE,
  FEW,
  NAMES,
  RED,
  clip,
  embedded_videos,
  folder_of,
  page_data,
)


def test_checks_are_a_still_and_noise(two, tmp_path):
  study = write_study(*two, tmp_path / 'out', **FEW)
  key, films = json.loads((study.parent.parent / 'key.json').read_text()), embedded_videos(study)
  items = {item['id']: item for item in page_data(study)['items']}
  checks = {item['kind']: id for id, item in key['items'].items() if item['kind'] != 'pair'}
  assert checks.keys() == {'still', 'noise'}
  assert {id for id, item in items.items() if item['always']} == set(checks.values())
  for kind, id in checks.items():
    right = key['items'][id]['known']
    sides = {side: decode(films[items[id][side]], fps=8.0).astype(float) for side in 'ab'}
    good, bad = sides.pop(right), *sides.values()
    assert motion(trace(good.astype(np.uint8))) > STILL
    if kind == 'still':
      assert np.abs(np.diff(bad, axis=0)).max() < 8
      assert np.abs(bad[0] - good[0]).mean() < 8
    else:  # of blocks of 8 pixels: as many grays as there are, and no frame like the last
      assert bad.std() > 50
      assert np.abs(np.diff(bad, axis=0)).mean() > 40
  assert [items[checks[kind]]['questions'] for kind in ('still', 'noise')] == [
    ['quality'],
    ['quality', 'text'],
  ]


def test_real_videos_are_checks_where_there_are_some(two, tmp_path):
  green = folder_of(tmp_path, 'real', (40, 200, 40), prompts=False, names=['x', 'y', 'z'])
  page = write_study(*two, tmp_path / 'out', **FEW, questions=['quality'], real=green)
  key = json.loads((tmp_path / 'out' / 'key.json').read_text())['items']
  films = embedded_videos(page)
  for item in page_data(page)['items']:
    if item['always']:
      mean = decode(films[item[key[item['id']]['known']]]).mean((0, 1, 2))
      assert mean.argmax() == 1
  with pytest.raises(
    ValueError, match=r'x has no prompt in index\.jsonl; a check of the text needs'
  ):
    write_study(*two, tmp_path / 'other', **FEW, questions=['text'], real=green)


def checks_of(page):
  """What is wrong in each check, and the name of its video."""
  items = json.loads((page.parents[1] / 'key.json').read_text())['items'].values()
  return sorted((item['kind'], item['name']) for item in items if item['kind'] != 'pair')


def test_prompts_are_those_of_their_own_folders(two, tmp_path):
  """Names of real videos are others', even where they are the same."""
  real = folder_of(tmp_path, 'real', (40, 200, 40), names=NAMES[:2])
  lines = [json.dumps({'file': f'{one}.mp4', 'prompt': 'a real one'}) for one in NAMES[:2]]
  (real / 'index.jsonl').write_text('\n'.join(lines))
  page = write_study(*two, tmp_path / 'out', **FEW, real=real)
  key = json.loads((tmp_path / 'out' / 'key.json').read_text())['items']
  for item in page_data(page)['items']:
    entry = key[item['id']]
    if entry['kind'] != 'still':  # whose prompt is not shown
      assert item['prompt'] == ('a real one' if item['always'] else f'of {entry["name"][:3]}')
  with pytest.raises(ValueError, match=f'No prompt in index.jsonl for {NAMES[0]}, '):
    write_study(two[1], two[1], tmp_path / 'other', **FEW, real=real)


def test_real_videos_that_stand_still_are_no_stills(two, tmp_path):
  real = folder_of(tmp_path, 'real', (40, 200, 40), prompts=False, names=['w', 'x'])
  for name in 'abc':
    video.write(real / f'{name}.mp4', clip(BLUE, frames=1).repeat(6, 0), fps=8.0)
  page = write_study(*two, tmp_path / 'out', **FEW | {'pairs': 6, 'vigilance': 4}, real=real)
  assert checks_of(page) == [('noise', 'a'), ('noise', 'b'), ('still', 'w'), ('still', 'x')]
  assert len(embedded_videos(page)) == 2 * (len(NAMES) + 4)  # and none which is in no pair
  (real / 'x.mp4').unlink()
  page = write_study(*two, tmp_path / 'again', **FEW | {'pairs': 6, 'vigilance': 4}, real=real)
  assert checks_of(page) == [('noise', 'a'), ('noise', 'b'), ('still', 'w'), ('still', 'w')]


def test_real_videos_are_decoded_until_there_are_enough(two, tmp_path):
  real = folder_of(tmp_path, 'real', (40, 200, 40), prompts=False, names=['a', 'b'])
  (real / 'c.mp4').write_bytes(b'nothing')
  page = write_study(*two, tmp_path / 'out', **FEW, real=real)
  assert {name for _, name in checks_of(page)} == {'a', 'b'}


def test_without_real_videos_checks_neither_flicker_nor_stand_still(tmp_path):
  both = [folder_of(tmp_path, name, RED) for name in ('ours', 'theirs')]
  flicker = np.zeros((6, 16, 16, 3), np.uint8)
  flicker[::2] = 255
  for folder in both:
    video.write(folder / f'{NAMES[0]}.mp4', flicker, fps=8.0)
    video.write(folder / f'{NAMES[3]}.mp4', flicker[:1].repeat(6, 0), fps=8.0)
  page = write_study(*both, tmp_path / 'out', **FEW)
  assert {name for _, name in checks_of(page)} <= {NAMES[1], NAMES[2]}


def test_no_checks_need_no_videos():
  moving = iter([Moving(9.0, 'id', 'name')])
  assert first_suitable(moving, []) == []
  assert len(list(moving)) == 1
