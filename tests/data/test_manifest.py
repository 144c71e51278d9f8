"""Every form of a manifest has the same lines, and each wrong entry is reported with its place."""

import json
import sys

import pyarrow
import pytest
from pyarrow import parquet

from data import builder, captions, manifest, sources
from data.captions import Line
from data.manifest import Manifest


def read(tmp_path, *lines):
  path = tmp_path / 'captions.jsonl'
  path.write_bytes(b'\n'.join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines))
  return manifest.read(path)


def test_a_caption_comes_first_and_the_words_of_a_label_stand_in_for_it(tmp_path):
  listed = read(
    tmp_path,
    {'file': 'a.mp4', 'caption': 'a dog', 'label': 'Dog'},
    {'file': 'b/b.avi', 'caption': None, 'label': 'UCF101:ApplyEyeMakeup', 'split': 'test'},
    b'',
    {'file': 'c.gif', 'label': 'shake_hands', 'source': 'ignored'},
    {'file': 'd.gif', 'caption': ' ', 'label': None, 'source_video': 'a film', 'split': None},
  )
  assert listed.lines == {
    'a.mp4': Line('a dog', None),
    'b/b.avi': Line('apply eye makeup', 'test'),
    'c.gif': Line('shake hands', None),
    'd.gif': Line(None, None, 'a film'),
  }
  assert listed.faults == []
  assert [line.where for line in listed.lines.values()] == ['line 1', 'line 2', 'line 4', 'line 5']


GOOD = {'file': 'a.mp4', 'caption': 'a dog'}


@pytest.mark.parametrize(
  ('line', 'kind', 'reason'),
  [
    (b'{"file": "b.mp4"', 'broken line', 'no JSON'),
    (b'[' * 100_000, 'broken line', 'no JSON'),
    (
      {'file': 'b.mp4', 'caption': 'a \ud83d dog'},
      'broken line',
      r'"a \ud83d dog" has \ud83d, which is not a char',
    ),
    ({'file': 'b.mp4', 'label': 'a\udce9'}, 'broken line', r'"a\xe9" has \xe9, which is not a'),
    ({'file': 'b.mp4', 'caption': 'a\0b'}, 'broken line', "'a\\x00b' has NUL, which is not al"),
    (b'{"file": "b.mp4", "file": "c.mp4"}', 'broken line', 'got the key "file" twice'),
    (b'[1, 2]', 'broken line', 'got [1, 2]'),
    ({'caption': 'a dog'}, 'broken line', 'no "file"'),
    ({'file': None, 'caption': 'a dog'}, 'broken line', 'got "file": null'),
    ({'file': 'b.mp4', 'caption': 3}, 'broken line', 'got "caption": 3'),
    ({'file': 'b.mp4', 'caption': 'a', 'split': 3}, 'broken line', 'got "split": 3'),
    ({'file': 'b.mp4', 'caption': 'a', 'split': 'all'}, 'broken line', "got the split 'all'"),
    ({'file': 'b.mp4', 'source_video': 7}, 'broken line', 'got "source_video": 7'),
    ({'file': 'b.mp4', 'split': '../x'}, 'broken line', "got the split '../x'; allowed are 1"),
    ({'file': 'b.mp4', 'split': 'a' * 65}, 'broken line', "got the split 'aaa"),
    (
      {'file': '../b.mp4', 'caption': 'a dog'},
      'broken line',
      "got the file '../b.mp4'; allowed is",
    ),
    (
      {'file': '/b.mp4', 'caption': 'a dog'},
      'broken line',
      "got the file '/b.mp4'; allowed is a p",
    ),
    ({'file': 'a.mp4', 'caption': 'a cat'}, 'duplicate', "another line for 'a.mp4', which line 1"),
    (
      b'{"file": "b.mp4", "caption": "a caf\xe9"}',
      'bad encoding',
      'byte 0xe9 is not UTF-8, but perhaps Windows-1252',
    ),
  ],
)
def test_a_mistake_is_reported_with_its_line_and_the_others_are_read(tmp_path, line, kind, reason):
  listed = read(tmp_path, GOOD, line, {'file': 'z.mp4', 'caption': 'a cat'})
  assert listed.lines == {'a.mp4': Line('a dog', None), 'z.mp4': Line('a cat', None)}
  [fault] = listed.faults
  assert (fault.where, fault.kind, fault.reason[: len(reason)]) == ('line 2', kind, reason)
  with pytest.raises(ValueError, match=r'^captions\.jsonl, line 2: .*; allowed is one entry for'):
    manifest.require_none(listed.faults, listed.name)


@pytest.mark.parametrize('separator', ['\u2028', '\u2029', '\x85'])
def test_only_a_line_feed_ends_a_line(tmp_path, separator):
  path = tmp_path / 'captions.jsonl'
  caption = f'a dog{separator}and a cat'
  lines = [{'file': 'a.mp4', 'caption': caption}, {'file': 'b.mp4', 'caption': 'b'}]
  text = '\r\n'.join(json.dumps(line, ensure_ascii=False) for line in lines)
  path.write_bytes(b'\xef\xbb\xbf' + text.encode())
  result = manifest.read(path).lines
  assert result == {'a.mp4': Line(caption, None), 'b.mp4': Line('b', None)}


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-be'])
def test_another_encoding_of_the_file_is_reported(tmp_path, encoding):
  path = tmp_path / 'captions.jsonl'
  path.write_bytes('{"file": "a.mp4", "caption": "a"}\n'.encode(encoding))
  with pytest.raises(ValueError, match=r'^captions\.jsonl, it is UTF-16, or not text; allowed is'):
    manifest.read(path)


def test_a_name_that_is_not_utf_8_may_have_a_line(tmp_path):
  line = {'file': 'caf\udce9.mp4', 'caption': 'a dog'}  # as Python lists the byte 0xe9
  assert read(tmp_path, line).lines == {'caf\udce9.mp4': Line('a dog', None)}


def test_a_missing_file_is_reported(tmp_path):
  with pytest.raises(ValueError, match=r'There is no file .*none\.jsonl'):
    manifest.read(tmp_path / 'none.jsonl')


ROWS = [
  {'file': 'a.mp4', 'caption': 'a "dog",\nand\ta cat', 'label': None, 'split': 'train'},
  {'file': 'b/b.avi', 'caption': None, 'label': 'ApplyEyeMakeup', 'split': None},
  {'file': 'c.mp4', 'caption': 'a caf\xe9', 'label': None, 'split': None},
]
EXPECTED = {
  'a.mp4': Line('a "dog",\nand\ta cat', 'train'),
  'b/b.avi': Line('apply eye makeup', None),
  'c.mp4': Line('a caf\xe9', None),
}


def table(delimiter, rows, quote='"'):
  """The rows as a table in which every cell is quoted, with quotes doubled."""
  cells = [[*rows[0]], *([value or '' for value in row.values()] for row in rows)]
  quoted = ([quote + cell.replace(quote, quote * 2) + quote for cell in row] for row in cells)
  return ''.join(delimiter.join(row) + '\r\n' for row in quoted)


@pytest.mark.parametrize(('name', 'delimiter'), [('list.csv', ','), ('list.TSV', '\t')])
def test_tables_with_quoted_newlines_are_read(tmp_path, name, delimiter):
  (tmp_path / name).write_bytes(b'\xef\xbb\xbf' + table(delimiter, ROWS).encode())
  listed = manifest.read(tmp_path / name)
  assert (listed.lines, listed.faults) == (EXPECTED, [])
  # The lines of the file: the cell of the first row goes over two.
  assert [line.where for line in listed.lines.values()] == ['line 2', 'line 4', 'line 5']


def test_wrong_rows_of_a_table_are_reported_by_line(tmp_path):
  text = (
    b'file,caption\n'
    b'a.mp4,"two\nlines"\n'
    b'b.mp4\n'
    b'\n'
    b'c.mp4,a caf\xe9\n'
    b'd.mp4,"closed" and more\n'
    b'a.mp4,again\n'
    b'e.mp4,\n'
    b'f.mp4,"never closed\n'
    b'g.mp4,a cat\n'
  )
  (tmp_path / 'list.csv').write_bytes(text)
  listed = manifest.read(tmp_path / 'list.csv')
  assert listed.lines == {
    'a.mp4': Line('two\nlines', None),
    'e.mp4': Line(None, None),
    'g.mp4': Line('a cat', None),
  }
  assert [(fault.where, fault.kind) for fault in listed.faults] == [
    ('line 4', 'broken line'),
    ('line 6', 'bad encoding'),
    ('line 7', 'broken line'),
    ('line 8', 'duplicate'),
    ('line 10', 'broken line'),
  ]
  assert listed.faults[0].reason == 'got 1 cells; the first line has 2'


@pytest.mark.parametrize('text', ['', 'a.mp4,a dog\n', 'file,caption,caption\n', '"file\n'])
def test_a_table_must_name_its_columns(tmp_path, text):
  (tmp_path / 'list.csv').write_text(text)
  with pytest.raises(ValueError, match=r'list\.csv, line 1: got .*; allowed are names of columns'):
    manifest.read(tmp_path / 'list.csv')


def test_parquet_is_read_and_its_wrong_rows_reported(tmp_path):
  path = tmp_path / 'list.parquet'
  columns = {key: [row[key] for row in ROWS] for key in ROWS[0]}
  parquet.write_table(pyarrow.table(columns | {'score': [1.0, 2.0, 3.0]}), path)
  listed = manifest.read(path)
  assert (listed.lines, listed.faults) == (EXPECTED, [])

  names = pyarrow.array([b'a.mp4', b'caf\xe9.mp4', None, b'b.mp4', b'a.mp4'], pyarrow.binary())
  bad = pyarrow.StringArray.from_buffers(5, *names.buffers()[1:], names.buffers()[0])
  captions = pyarrow.array(['a dog'] * 5, pyarrow.large_string())
  parquet.write_table(pyarrow.table({'file': bad, 'caption': captions}), path, row_group_size=2)
  listed = manifest.read(path)
  assert listed.lines.keys() == {'a.mp4', 'b.mp4'}
  assert [(fault.where, fault.kind) for fault in listed.faults] == [
    ('row 2', 'bad encoding'),
    ('row 3', 'broken line'),
    ('row 5', 'duplicate'),
  ]
  parquet.write_table(pyarrow.table({'file': ['a.mp4'], 'caption': [3]}), path)
  assert manifest.read(path).faults[0].reason == 'got "caption": 3'


def test_what_is_no_parquet_and_a_missing_package_are_one_line(tmp_path, monkeypatch):
  path = tmp_path / 'list.parquet'
  path.write_bytes(b'PAR1' + bytes(100))
  with pytest.raises(ValueError, match=r'list\.parquet cannot be read as Parquet: [^\n]*$'):
    manifest.read(path)
  parquet.write_table(pyarrow.table({'name': ['a.mp4']}), path)
  with pytest.raises(ValueError, match=r"list\.parquet has the columns \['name'\]; allowed: file"):
    manifest.read(path)
  monkeypatch.setitem(sys.modules, 'pyarrow', None)
  message = r'^To read .*list\.parquet a package is needed: pip install -r requirements-data\.txt$'
  with pytest.raises(ValueError, match=message):
    manifest.read(path)


def test_captions_are_read_from_files_beside_the_videos(tmp_path):
  (tmp_path / 'a').mkdir()
  contents = {
    'a/clip.mp4': b'', 'a/clip.txt': b'\xef\xbb\xbfa dog\n',
    'b.webm': b'', 'b.mp4': b'', 'b.json': b'{"label": "ApplyEyeMakeup", "split": "test"}',
    'c.mp4': b'', 'c.json': b'{"caption": "first"}', 'c.txt': b'second',
    'd.mp4': b'', 'd.txt': b'a caf\xe9',
    'e.mp4': b'', 'e.json': b'{"caption": ',
    'f.mp4': b'', 'f.txt': b' \n',
    'g.mp4': b'', 'h.txt': b'alone',
  }  # fmt: skip
  for name, content in contents.items():
    (tmp_path / name).write_bytes(content)
  listed = manifest.beside(tmp_path)
  assert listed.lines == {
    'a/clip.mp4': Line('a dog', None),
    'b.mp4': Line('apply eye makeup', 'test', 'b'),
    'b.webm': Line('apply eye makeup', 'test', 'b'),
    'c.mp4': Line('first', None),
    'f.mp4': Line(None, None),
  }
  assert [(fault.where, fault.kind) for fault in listed.faults] == [
    ('c.txt', 'duplicate'),
    ('d.txt', 'bad encoding'),
    ('e.json', 'broken line'),
    ('h.txt', 'missing file'),
  ]
  _, reasons = captions.match(tmp_path, listed.lines, listed.sidecars, unlisted=listed.unlisted)
  unsaid = dict.fromkeys(('d.mp4', 'e.mp4', 'g.mp4'), captions.ALONE)
  assert reasons == unsaid | {'f.mp4': 'neither caption nor label'}
  [blank] = manifest.unusable(listed.lines, reasons)
  assert (blank.where, blank.kind) == ('f.txt', 'no caption')


def test_a_strict_build_ends_at_the_first_fault_and_another_reports_it(tmp_path):
  (folder := tmp_path / 'videos').mkdir()
  lines = {'none.mp4': Line('a dog', None, where='line 7')}
  listed = Manifest(lines, [manifest.Fault('line 3', 'broken line', 'no JSON')], name='list.csv')
  message = r'^list\.csv, line 3: no JSON; allowed is .* \(1 more lines are wrong\)\.$'
  with pytest.raises(ValueError, match=message):
    builder.build(folder, listed, tmp_path / 'out', sources.Options(), strict=True)
  faults = [*listed.faults, *manifest.unusable(lines, captions.match(folder, lines)[1])]
  assert faults[1] == manifest.Fault('line 7', 'missing file', 'none.mp4: no such file')


def test_where_all_lines_are_wrong_the_first_are_shown(tmp_path):
  (tmp_path / 'a.mp4').touch()
  lines = [{'file': str(tmp_path / 'a.mp4'), 'caption': 'a dog'}] * 4
  listed = read(tmp_path, *lines)
  reason = r"got the file '/.*'; allowed is a path relative to the folder of videos, without \.\."
  message = rf'4 entries of captions\.jsonl cannot be used: line 1: {reason}; line 2: .*; \.\.\.\.$'
  with pytest.raises(ValueError, match=message):
    builder.build(tmp_path, listed, tmp_path.with_name('out'), sources.Options())


def test_the_file_of_captions_may_be_in_the_folder_of_videos(tmp_path):
  (tmp_path / 'lists').mkdir()
  path, text = tmp_path / 'lists' / 'all.jsonl', json.dumps(GOOD)
  path.write_text(text)
  (tmp_path / 'a.mp4').touch()
  listed = manifest.read(path, tmp_path)
  assert listed.sidecars == {'lists/all.jsonl'}
  assert captions.match(tmp_path, listed.lines, listed.sidecars)[1] == {}
  assert manifest.read(path, tmp_path / 'lists' / 'none').sidecars == ()
