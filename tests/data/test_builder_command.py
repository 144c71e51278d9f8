"""What the command of the builder checks before it builds."""

import types

import pytest

from data import builder


@pytest.mark.parametrize('name', ['videos', 'out'])
def test_an_empty_path_is_not_the_current_folder(monkeypatch, name):
  values = {'videos': 'clips', 'out': 'dataset', name: ''}
  parsed = types.SimpleNamespace(flag_values_dict=lambda: values)
  monkeypatch.setattr(builder.flags, 'FLAGS', parsed)
  with pytest.raises(ValueError, match=f'^--{name} is empty; allowed is the path of a folder'):
    builder.main()
