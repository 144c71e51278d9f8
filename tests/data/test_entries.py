"""What a file of captions must be, so that its entries can be read."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from data import captions, entries, manifest


@pytest.mark.parametrize(
  ('name', 'header', 'allowed'),
  [
    ('a.csv', 'file;caption', "with ',' between them, but the line has ';'"),
    ('a.tsv', 'file,caption', r"with '\\t' between them, but the line has ','"),
    ('a.csv', 'clip,caption', "with ',' between them"),
  ],
)
def test_a_header_with_another_delimiter_is_named(tmp_path, name, header, allowed):
  (tmp_path / name).write_text(f'{header}\n')
  columns = (
    'names of columns: file, caption or label, and perhaps split and source_video, each once'
  )
  with pytest.raises(ValueError, match=rf'; allowed are {columns} and {allowed}\.$'):
    next(entries.read(tmp_path / name))


@pytest.mark.parametrize('name', ['weird.xml', 'captions.json', 'captions'])
def test_a_file_of_another_form_is_refused_by_its_name(tmp_path, name):
  (tmp_path / name).write_text('{"file": "a.mp4", "caption": "a dog"}')
  message = rf'/{name}; allowed are files called \.jsonl, \.csv, \.tsv or \.parquet\.$'
  with pytest.raises(ValueError, match=message):
    entries.read(tmp_path / name)


@pytest.mark.parametrize('extra', [0, 1, 100_000])
def test_a_caption_has_the_same_limit_in_all_forms(tmp_path, extra):
  row = {'file': 'a.mp4', 'caption': 'x' * (captions.MAX_TEXT + extra)}
  (tmp_path / 'a.csv').write_text('\n'.join(map(','.join, (row.keys(), row.values()))))
  (tmp_path / 'a.jsonl').write_text(json.dumps(row))
  parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / 'a.parquet')
  read = [manifest.read(tmp_path / f'a.{name}') for name in ('csv', 'jsonl', 'parquet')]
  (folder := tmp_path / 'beside').mkdir()
  (folder / 'a.mp4').touch()
  (folder / 'a.txt').write_text(row['caption'])
  for listed in (*read, manifest.beside(folder)):
    assert len(listed.lines) == (not extra)
    assert [fault.kind for fault in listed.faults] == ['broken line'] * bool(extra)
