import base64
import io
import json
import random
import re

import av
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from core import video
from data.decode import decode
from evaluation import matched, user_study
from evaluation.motion import motion, trace
from evaluation.user_study import beside, write_study

NAMES = [f'{i:03}_a_secret_name' for i in range(4)]
FEW = {'pairs': 4, 'vigilance': 2, 'size': 16, 'fps': 8.0}
RED, BLUE = (200, 40, 40), (40, 40, 200)


def clip(colour, height=16, width=24, frames=6):
  """A field of a colour over which a white bar moves."""
  out = np.full((frames, height, width, 3), colour, np.uint8)
  for t in range(frames):
    out[t, (3 * t) % height] = 255
  return out


def folder_of(root, name, colour, *, prompts=True, fps=8.0, names=NAMES, **shape):
  folder = root / name
  folder.mkdir()
  for one in names:
    video.write(folder / f'{one}.mp4', clip(colour, **shape), fps=fps)
  if prompts:
    lines = [json.dumps({'file': f'{one}.mp4', 'prompt': f'of {one[:3]}'}) for one in names]
    (folder / 'index.jsonl').write_text('\n'.join(lines))
  return folder


@pytest.fixture(scope='module')
def two(tmp_path_factory):
  root = tmp_path_factory.mktemp('two')
  theirs = folder_of(root, 'theirs', BLUE, prompts=False, fps=16.0, height=32, width=20, frames=9)
  return folder_of(root, 'ours', RED), theirs


@pytest.fixture(scope='module')
def study(two, tmp_path_factory):
  return write_study(*two, tmp_path_factory.mktemp('study') / 'out', **FEW)


def told(page):
  text = re.search(r'id="study">(.*?)</script>', page.read_text(), re.DOTALL).group(1)
  return json.loads(text)


def shown(page):
  """The files that the page holds, by their names."""
  found = re.findall(r'id="v(\w+)">([^<]+)<', page.read_text())
  return {id: base64.b64decode(data) for id, data in found}


def test_the_key_tells_whose_is_what_and_the_page_does_not(two, study):
  key, page = json.loads((study.parent.parent / 'key.json').read_text()), study.read_text()
  pairs = {id: item for id, item in key['items'].items() if item['kind'] == 'pair'}
  assert sorted(item['name'] for item in pairs.values()) == NAMES
  films, items = shown(study), {item['id']: item for item in told(study)['items']}
  for id, item in pairs.items():
    means = {side: decode(films[items[id][side]]).mean((0, 1, 2)) for side in 'ab'}
    assert {side for side, mean in means.items() if mean[0] > mean[2]} == {item['known']}
    assert items[id]['prompt'] == f'of {item["name"][:3]}'
  for word in ('secret', 'ours', 'theirs', 'known', *map(str, two)):
    assert word not in page.split('<script>')[0]  # what follows is the same in every study
  assert set(items) == set(key['items'])
  assert all(
    re.fullmatch('[0-9a-f]{12}', item[name]) for item in items.values() for name in ('id', 'a', 'b')
  )
  shapes = {tuple(item) for item in items.values()}
  assert len(shapes) == 1  # of keys, so that a check looks as a pair does


def test_all_videos_are_of_one_format(study):
  films = shown(study)
  assert len(films) == 2 * len(NAMES) + FEW['vigilance']
  formats = set()
  for data in films.values():
    with av.open(io.BytesIO(data)) as container:
      stream = container.streams.video[0]
      facts = stream.codec_context.name, stream.pix_fmt, stream.height, stream.width
      formats.add((*facts, stream.average_rate, stream.frames, str(container.metadata)))
  ((codec, pixels, height, width, fps, frames, _),) = formats
  # Theirs have 9 frames at 16 a second, which is less than our 6 at 8.
  assert (codec, pixels, height, width, fps, frames) == ('h264', 'yuv420p', 16, 16, 8, 5)


def test_what_is_shown_is_the_middle(tmp_path):
  pixels = np.zeros((2, 16, 48, 3), np.uint8)
  pixels[:, :, :16, 0] = pixels[:, :, 16:32, 1] = pixels[:, :, 32:, 2] = 255
  video.write(tmp_path / 'wide.png', pixels)
  (found,) = matched.clips([tmp_path / 'wide.png'], size=16, fps=8.0)
  assert found.shape == (1, 16, 16, 3)
  assert (found == pixels[:1, :, 16:32]).all()


def test_checks_are_a_still_and_noise(study):
  key, films = json.loads((study.parent.parent / 'key.json').read_text()), shown(study)
  items = {item['id']: item for item in told(study)['items']}
  checks = {item['kind']: id for id, item in key['items'].items() if item['kind'] != 'pair'}
  assert checks.keys() == {'still', 'noise'}
  assert {id for id, item in items.items() if item['always']} == set(checks.values())
  for kind, id in checks.items():
    right = key['items'][id]['known']
    sides = {side: decode(films[items[id][side]], fps=8.0).astype(float) for side in 'ab'}
    good, bad = sides.pop(right), *sides.values()
    assert motion(trace(good.astype(np.uint8))) > user_study.STILL
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
  films = shown(page)
  for item in told(page)['items']:
    if item['always']:
      mean = decode(films[item[key[item['id']]['known']]]).mean((0, 1, 2))
      assert mean.argmax() == 1
  with pytest.raises(
    ValueError, match=r'x has no prompt in index\.jsonl; a check of the text needs'
  ):
    write_study(*two, tmp_path / 'other', **FEW, questions=['text'], real=green)


def test_sides_are_drawn_evenly():
  rng = random.Random(0)
  items = [user_study._item(rng, ['x', 'y'], 'pair', '', ['quality']) for _ in range(2000)]
  assert all((item.a if item.known == 'a' else item.b) == 'x' for item in items)
  assert stats.binomtest(sum(item.known == 'a' for item in items), 2000).pvalue > 1e-3


def test_equal_studies_are_equal_and_others_are_not(two, study, tmp_path):
  again = write_study(*two, tmp_path / 'again', **FEW)
  assert again.read_bytes() == study.read_bytes()
  other = told(write_study(*two, tmp_path / 'other', **FEW, seed=1, questions=['quality']))
  assert other['study'] != told(study)['study']
  ids = [{item['id'] for item in one['items']} for one in (other, told(study))]
  assert not ids[0] & ids[1]
  assert list(other['questions']) == ['quality']


def test_videos_beside_the_page_and_given_images(two, tmp_path):
  images = tmp_path / 'images'
  images.mkdir()
  for name in NAMES:
    Image.new('RGB', (40, 20), (10, 200, 10)).save(images / f'{name}.png')
  page = write_study(*two, tmp_path / 'out', **FEW, place=beside, images=images)
  files = {file.stem for file in (page.parent / 'videos').iterdir()}
  items = told(page)['items']
  assert files == {item[side] for item in items for side in 'ab'}
  assert not shown(page)
  for item in items:
    if item['image']:
      data = base64.b64decode(item['image'].removeprefix('data:image/jpeg;base64,'))
      with Image.open(io.BytesIO(data)) as image:
        assert image.size == (16, 16)
        assert np.abs(np.asarray(image).mean((0, 1)) - (10, 200, 10)).max() < 5
  assert sum(bool(item['image']) for item in items) == len(NAMES)


def test_a_prompt_may_be_anything(two, tmp_path):
  folder = folder_of(tmp_path, 'ours', RED)
  nasty = '</script><script>alert("{videos}")</script> “é” {study}'
  lines = [json.dumps({'file': f'{name}.mp4', 'prompt': nasty}) for name in NAMES]
  (folder / 'index.jsonl').write_text('\n'.join(lines))
  page = write_study(folder, two[1], tmp_path / 'out', **FEW)
  assert {item['prompt'] for item in told(page)['items']} == {nasty}
  assert page.read_text().count('<script') == study_scripts(page)


def study_scripts(page):
  """The study, the code, and a script for each video."""
  return 2 + len(shown(page))


@pytest.mark.parametrize(
  ('change', 'options', 'words'),
  [
    (lambda a, b: (b / f'{NAMES[1]}.mp4').unlink(), {}, rf'folder; {NAMES[1]}.mp4 only in .*ours'),
    (lambda a, b: (a / f'{NAMES[2]}.mp4').unlink(), {}, rf'{NAMES[2]}.mp4 only in .*theirs'),
    (
      lambda a, b: [(f / 'index.jsonl').unlink() for f in (a, b)],
      {},
      f'No prompt in index.jsonl for {NAMES[0]}, ',
    ),
    (lambda a, b: (a / 'index.jsonl').write_text('{}'), {}, 'index.jsonl, line 1: allowed is a JS'),
    (
      lambda a, b: (b / 'index.jsonl').write_text(
        json.dumps({'file': f'{NAMES[0]}.mp4', 'prompt': 'other'})
      ),
      {},
      "has the prompt 'other', elsewhere 'of 000'",
    ),
    (lambda a, b: (a / f'{NAMES[0]}.gif').touch(), {}, 'allowed is one video of a name'),
    (None, {'pairs': 7}, 'Got 7 pairs a rater with 2 checks among them, and 4 pairs of videos; al'),
    (None, {'vigilance': 4}, 'allowed are checks from 0 on, and 1 to 4 pairs that are none'),
    (None, {'questions': ['taste']}, r"Got the questions \['taste'\]; allowed are some of \['qual"),
    (None, {'size': 8}, 'Got videos of 8 pixels; allowed are 16 or more'),
    (None, {'post_url': 'ftp://x'}, "Cannot post to 'ftp://x'; allowed are addresses of http:// "),
    (lambda a, b: (a.parent / 'out').mkdir(), {}, 'out is there, perhaps with the key to answers'),
    (lambda a, b: (a.parent / 'im').mkdir(), {'images': 'im'}, f'There are 0 images {NAMES[0]} in'),
  ],
)
def test_mistakes_are_told_before_anything_is_written(tmp_path, change, options, words):
  ours, theirs = (folder_of(tmp_path, n, RED, frames=2) for n in ('ours', 'theirs'))
  if change:
    change(ours, theirs)
  if 'images' in options:
    options = {'images': tmp_path / 'im'}
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(ValueError, match=words):
    write_study(ours, theirs, tmp_path / 'out', **FEW | options)
  assert sorted(tmp_path.rglob('*')) == before


def test_what_is_too_large_or_still_leaves_nothing(two, tmp_path, monkeypatch):
  monkeypatch.setattr(user_study, 'MAX_EMBEDDED', 0)
  with pytest.raises(ValueError, match=r'MiB; in one page at most 0 are allowed: place them besid'):
    write_study(*two, tmp_path / 'out', **FEW)
  still = tmp_path / 'still'
  still.mkdir()
  for name in NAMES:
    video.write(still / f'{name}.mp4', clip(RED, frames=1))
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(ValueError, match=r'changes by 0.0 of 255 levels a frame, .* real videos'):
    write_study(still, still, tmp_path / 'out', **FEW, questions=['quality'])
  assert sorted(tmp_path.rglob('*')) == before
