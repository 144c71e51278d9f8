"""Markdown pages, in which one section is replaced at a time."""

import pytest

from benchmarks import sections

PAGE = '# Page\n\nIt begins.\n\n## First\n\n1\n\n### Of the first\n\n1.1\n\n## Second\n\n2\n'


def test_a_section_is_replaced_and_the_others_stay(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text(PAGE)
  sections.replace(page, 'First', r'new \1')
  assert page.read_text() == '# Page\n\nIt begins.\n\n## First\n\nnew \\1\n\n## Second\n\n2\n'
  sections.replace(page, 'Second', '22\n\n')
  assert page.read_text() == '# Page\n\nIt begins.\n\n## First\n\nnew \\1\n\n## Second\n\n22\n'
  sections.replace(page, 'Third', '3')
  assert page.read_text().endswith('## Second\n\n22\n\n## Third\n\n3\n')
  assert list(tmp_path.iterdir()) == [page]


def test_a_page_that_is_none_is_refused(tmp_path):
  for name in ('page.txt', 'none/page.md'):
    with pytest.raises(ValueError, match=r'allowed is a name that ends in \.md, in a folder'):
      sections.require(tmp_path / name)
