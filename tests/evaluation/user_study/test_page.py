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
from evaluation.folder import open_folder
from evaluation.user_study import matching
from evaluation.user_study.page import _item, beside, write_study
from tests.evaluation.user_study.studies import (
  FEW,
  NAMES,
  RED,
  clip,
  embedded_videos,
  folder_of,
  page_data,
)


@pytest.fixture(scope='module')
def study(two, tmp_path_factory):
  return write_study(*two, tmp_path_factory.mktemp('study') / 'out', **FEW)


def test_the_key_tells_whose_is_what_and_the_page_does_not(two, study):
  key, page = json.loads((study.parent.parent / 'key.json').read_text()), study.read_text()
  pairs = {id: item for id, item in key['items'].items() if item['kind'] == 'pair'}
  assert sorted(item['name'] for item in pairs.values()) == NAMES
  films, items = embedded_videos(study), {item['id']: item for item in page_data(study)['items']}
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
  films = embedded_videos(study)
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
  (result,) = matching.read_clips([tmp_path / 'wide.png'], size=16, fps=8.0)
  assert result.shape == (1, 16, 16, 3)
  assert (result == pixels[:1, :, 16:32]).all()


def test_what_a_killed_run_left_is_removed(two, tmp_path):
  (tmp_path / 'out.incomplete' / 'page' / 'videos').mkdir(parents=True)
  (tmp_path / 'out.incomplete' / 'page' / 'videos' / 'a.mp4').touch()
  page = write_study(*two, tmp_path / 'out', **FEW)
  assert list(tmp_path.iterdir()) == [tmp_path / 'out']
  assert sorted(page.parent.iterdir()) == [page]


def test_sides_are_drawn_evenly():
  rng = random.Random(0)
  items = [_item(rng, ['x', 'y'], 'pair', '', ['quality']) for _ in range(2000)]
  assert all((item.a if item.known == 'a' else item.b) == 'x' for item in items)
  assert stats.binomtest(sum(item.known == 'a' for item in items), 2000).pvalue > 1e-3


def test_equal_studies_are_equal_and_others_are_not(two, study, tmp_path):
  again = write_study(*two, tmp_path / 'again', **FEW)
  assert again.read_bytes() == study.read_bytes()
  other = page_data(write_study(*two, tmp_path / 'other', **FEW, seed=1, questions=['quality']))
  assert other['study'] != page_data(study)['study']
  ids = [{item['id'] for item in one['items']} for one in (other, page_data(study))]
  assert not ids[0] & ids[1]
  assert list(other['questions']) == ['quality']


def test_videos_beside_the_page_and_given_images(two, tmp_path):
  images = tmp_path / 'images'
  images.mkdir()
  for name in NAMES:
    Image.new('RGB', (40, 20), (10, 200, 10)).save(images / f'{name}.png')
  page = write_study(*two, tmp_path / 'out', **FEW, place=beside, images=images)
  files = {file.stem for file in (page.parent / 'videos').iterdir()}
  items = page_data(page)['items']
  assert files == {item[side] for item in items for side in 'ab'}
  assert not embedded_videos(page)
  for item in items:
    if item['image']:
      data = base64.b64decode(item['image'].removeprefix('data:image/jpeg;base64,'))
      with Image.open(io.BytesIO(data)) as image:
        assert image.size == (16, 16)
        assert np.abs(np.asarray(image).mean((0, 1)) - (10, 200, 10)).max() < 5
  assert sum(bool(item['image']) for item in items) == len(NAMES)


def test_images_are_in_folders_as_their_videos_are(tmp_path):
  (tmp_path / 'walk').mkdir()
  for file, colour in (('01.png', RED), ('walk/01.png', (10, 200, 10))):
    Image.new('RGB', (16, 16), colour).save(tmp_path / file)
  data = matching.input_images(tmp_path, ['walk/01'], size=16)['walk/01'].removeprefix(
    'data:image/jpeg;base64,'
  )
  with Image.open(io.BytesIO(base64.b64decode(data))) as image:
    assert np.abs(np.asarray(image).mean((0, 1)) - (10, 200, 10)).max() < 5
  with pytest.raises(ValueError, match=r'There are 0 images run/01 in '):
    matching.input_images(tmp_path, ['run/01'], size=16)


def test_names_of_another_form_match(tmp_path):
  forms = {'a': 'caf\xe9 1', 'b': 'cafe\u0301 1', 'in': 'cafe\u0301 1'}
  for folder, name in forms.items():
    (tmp_path / folder).mkdir()
    if folder != 'in':
      np.save(tmp_path / folder / 'x.npy', clip(RED))
      (tmp_path / folder / 'x.npy').rename(tmp_path / folder / f'{name}.mp4')
      line = {'file': f'{forms["a"]}.mp4', 'caption': 'a\u2028dog'}
      (tmp_path / folder / 'captions.jsonl').write_text(
        json.dumps(line, ensure_ascii=False), 'utf-8'
      )
  Image.new('RGB', (16, 16), RED).save(tmp_path / 'in' / f'{forms["in"]}.png')
  folders = [open_folder(tmp_path / folder) for folder in ('a', 'b')]
  (name,) = result = matching.match(*folders)
  assert result[name] == (
    tmp_path / 'a' / f'{forms["a"]}.mp4',
    tmp_path / 'b' / f'{forms["b"]}.mp4',
  )
  assert matching.prompts(folders) == {name: 'a\u2028dog'}
  assert matching.input_images(tmp_path / 'in', [name], size=16)[name].startswith('data:image/jpeg')


def test_a_prompt_may_be_anything(two, tmp_path):
  folder = folder_of(tmp_path, 'ours', RED)
  nasty = '</script><script>alert("{videos}")</script> “é” {study}'
  lines = [json.dumps({'file': f'{name}.mp4', 'prompt': nasty}) for name in NAMES]
  (folder / 'index.jsonl').write_text('\n'.join(lines))
  page = write_study(folder, two[1], tmp_path / 'out', **FEW)
  assert {item['prompt'] for item in page_data(page)['items']} == {nasty}
  assert page.read_text().count('<script') == study_scripts(page)


def study_scripts(page):
  """The study, the code, and a script for each video."""
  return 2 + len(embedded_videos(page))


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
    (
      lambda a, b: np.save(a / 'x.npy', clip(RED)),
      {},
      r'ours/x\.npy has no frame rate, as all \.npy; allowed: \.3g2, .*\.mp4',
    ),
    (None, {'pairs': 7}, 'Got 7 pairs a rater with 2 checks among them, and 4 pairs of videos; al'),
    (None, {'vigilance': 4}, 'allowed are checks from 0 on, and 1 to 4 pairs that are none'),
    (None, {'questions': ['taste']}, r"Got the questions \['taste'\]; allowed are some of \['qual"),
    (None, {'size': 8}, 'Got videos of 8 pixels; allowed are 16 or more'),
    (None, {'post_url': 'ftp://x'}, "Cannot post to 'ftp://x'; allowed are addresses of http:// "),
    (None, {'post_url': 'http://[x'}, r"Cannot post to 'http://\[x'; allowed are addresses of htt"),
    (None, {'post_url': 'http://x:y'}, "Cannot post to 'http://x:y'; allowed are addresses of h"),
    (None, {'post_url': 'http://:80'}, "Cannot post to 'http://:80'; allowed are addresses of h"),
    (lambda a, b: (a.parent / 'out').mkdir(), {}, 'out is there, perhaps with the key to answers'),
    (lambda a, b: (a.parent / 'im').mkdir(), {'images': 'im'}, f'There are 0 images {NAMES[0]} in'),
  ],
)
def test_mistakes_are_reported_before_anything_is_written(tmp_path, change, options, words):
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
  monkeypatch.setattr('evaluation.user_study.page.MAX_EMBEDDED', 0)
  with pytest.raises(ValueError, match=r'MiB; in one page at most 0 are allowed: place them besid'):
    write_study(*two, tmp_path / 'out', **FEW)
  still = tmp_path / 'still'
  still.mkdir()
  for name in NAMES:
    video.write(still / f'{name}.mp4', clip(RED, frames=1))
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(ValueError, match=r'No video changes by more than 1.0 of 255 .* real videos'):
    write_study(still, still, tmp_path / 'out', **FEW, questions=['quality'])
  assert sorted(tmp_path.rglob('*')) == before
