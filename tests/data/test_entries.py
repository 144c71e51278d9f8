"""What a file of captions must be, so that its entries can be read."""

import pytest

from data import entries


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
