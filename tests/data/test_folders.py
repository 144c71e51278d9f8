"""The layouts of ImageFolder and VideoFolder are read as their documentation says."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from data import captions, entries, folders, manifest
from data.captions import Line


def made(folder, *files):
  for file in files:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(b'')
  return folder


def write(path, rows):
  columns = list(rows[0])
  path.parent.mkdir(parents=True, exist_ok=True)
  if path.suffix == '.jsonl':
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows), 'utf-8')
  elif path.suffix == '.csv':
    table = [columns, *([str(row[name]) for name in columns] for row in rows)]
    path.write_text(''.join(','.join(f'"{cell}"' for cell in row) + '\n' for row in table), 'utf-8')
  else:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize('suffix', ['.csv', '.jsonl', '.parquet'])
@pytest.mark.parametrize('column', ['text', 'caption'])
def test_metadata_beside_the_files_name_them_and_their_captions(tmp_path, suffix, column):
  rows = [
    {'file_name': '1.png', column: 'a dog'},
    {'file_name': 'x/2.mp4', column: 'a cat, asleep'},
  ]
  for split in ('train', 'val'):
    write(tmp_path / split / f'metadata{suffix}', rows)
    made(tmp_path, f'{split}/1.png', f'{split}/x/2.mp4')
  made(tmp_path, 'README.md', 'train/1.txt', 'train/unlisted/3.png')
  listed = folders.read(tmp_path)
  assert listed.lines == {
    'train/1.png': Line('a dog', 'train'),
    'train/x/2.mp4': Line('a cat, asleep', 'train'),
    'val/1.png': Line('a dog', 'validation'),
    'val/x/2.mp4': Line('a cat, asleep', 'validation'),
  }
  assert listed.sidecars == {f'{split}/metadata{suffix}' for split in ('train', 'val')}
  lines, reasons = captions.match(tmp_path, listed.lines, listed.sidecars)
  assert list(lines) == sorted(listed.lines)
  assert sorted(reasons) == ['README.md', 'train/1.txt', 'train/unlisted/3.png']


def test_one_file_of_metadata_for_all_splits(tmp_path):
  rows = [
    {'file_name': 'test/1.png', 'text': 'a dog'},
    {'file_name': 'train/1.png', 'text': 'a cat', 'split': 'extra'},
    {'file_name': '1.png', 'label': 'SeaLion', 'source_video': 'a film'},
  ]
  write(tmp_path / 'metadata.jsonl', rows)
  listed = folders.read(tmp_path)
  assert listed.lines == {
    'test/1.png': Line('a dog', 'test'),
    'train/1.png': Line('a cat', 'extra'),
    '1.png': Line('sea lion', None, 'a film'),
  }


def test_faults_of_metadata_have_their_place(tmp_path):
  write(tmp_path / 'b' / 'metadata.csv', [{'file_name': '1.png', 'text': 'a cat'}])
  (tmp_path / 'metadata.jsonl').write_text(
    '{"file_name": "b/1.png", "text": "a dog"}\n{"text": "a dog"}\n{"file_name": "../c.png"}\n'
  )
  listed = folders.read(tmp_path)
  assert listed.lines == {'b/1.png': Line('a cat', None)}
  assert [(fault.where, fault.kind) for fault in listed.faults] == [
    ('metadata.jsonl, line 2', entries.BROKEN),
    ('metadata.jsonl, line 3', entries.BROKEN),
    ('metadata.jsonl, line 1', manifest.DUPLICATE),
  ]
  assert listed.faults[2].reason == ("another line for 'b/1.png', which b/metadata.csv, line 2 has")
  (tmp_path / 'metadata.csv').write_text('name,text\n1.png,a dog\n')
  with pytest.raises(ValueError, match=r"metadata\.csv, line 1: got \['name', 'text'\]; allowed"):
    folders.read(tmp_path)
  with pytest.raises(ValueError, match='There is no folder none'):
    folders.read(tmp_path.relative_to(tmp_path) / 'none')


@pytest.mark.parametrize('top', ['', 'data/'])
def test_the_folders_of_classes_are_labels(tmp_path, top):
  names = ('train/SeaLion/1.png', 'train/Wolf/a/b.mp4', 'Test/sea_lion/2.png', 'train/3.png')
  made(tmp_path, *(top + name for name in names), 'LICENSE.txt', '.cache/x/y.lock', 'read.me')
  listed = folders.read(tmp_path)
  assert listed.lines == {
    f'{top}train/SeaLion/1.png': Line('sea lion', 'train'),
    f'{top}train/Wolf/a/b.mp4': Line('a', 'train'),
    f'{top}Test/sea_lion/2.png': Line('sea lion', 'test'),
  }
  assert (listed.name, listed.faults) == ('the names of folders', ())
  described = captions.described(listed.lines, 'a video of a {label}.')
  assert described[f'{top}train/SeaLion/1.png'] == Line('a video of a sea lion.', 'train')
  blank = folders.read(tmp_path, blank=True).lines
  assert blank[f'{top}train/3.png'] == Line(None, 'train')
  assert {file: blank[file] for file in listed.lines} == listed.lines


def test_a_folder_with_captions_beside_the_files_has_no_labels(tmp_path):
  made(tmp_path, 'cat/1.mp4', 'dog/1.mp4', 'dog/2.mp4')
  assert len(folders.read(tmp_path).lines) == 3
  (tmp_path / 'cat' / '1.txt').write_text('a cat')
  assert folders.read(tmp_path).lines == {'cat/1.mp4': Line('a cat', None)}
  (tmp_path / 'cat' / '1.txt').write_bytes(b'\xff')
  assert folders.read(tmp_path).lines == {}
  made(tmp_path / 'flat', '1.mp4', 'x/2.mp4', 'x/3.mp4')  # one folder is no classes
  message = (
    r'^There are no captions in .*flat; allowed are clip\.txt or clip\.json beside clip\.mp4, '
  )
  with pytest.raises(ValueError, match=message):
    folders.read(tmp_path / 'flat')
  made(tmp_path / 'flat', '1.mp4.txt')
  with pytest.raises(
    ValueError, match=r'flat; 1\.mp4\.txt: no video of the same name; allowed are'
  ):
    folders.read(tmp_path / 'flat')
  assert folders.read(tmp_path / 'flat', blank=True).lines['1.mp4'] == Line(None, None)


def test_files_that_share_a_caption_share_their_source(tmp_path):
  made(tmp_path, 'a/1.mp4', 'a/1.jpg', 'a/2.mp4')
  (tmp_path / 'a' / '1.txt').write_text('a dog')
  (tmp_path / 'a' / '2.txt').write_text('a cat')
  assert folders.read(tmp_path).lines == {
    'a/1.mp4': Line('a dog', None, 'a/1'),
    'a/1.jpg': Line('a dog', None, 'a/1'),
    'a/2.mp4': Line('a cat', None),
  }


def test_a_template_is_for_labels_alone(tmp_path):
  path = tmp_path / 'captions.jsonl'
  entries = [
    {'file': 'a.mp4', 'caption': 'a dog', 'label': 'Dog'},
    {'file': 'b.mp4', 'label': 'BigDog'},
    {'file': 'c.mp4', 'caption': ' ', 'label': 'dog'},
    {'file': 'd.mp4', 'caption': None},
  ]
  path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))
  lines = manifest.read(path).lines
  texts = lambda template: [line.caption for line in captions.described(lines, template).values()]
  assert texts('') == ['a dog', 'big dog', 'dog', None]
  assert texts('{label}: a {label}') == ['a dog', 'big dog: a big dog', 'dog: a dog', None]
  with pytest.raises(
    ValueError, match=r"Got --caption_template='a \{word\}'; allowed is a text wi"
  ):
    texts('a {word}')
