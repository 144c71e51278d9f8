import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest

from text.hashed import encoder

TEXTS = ['a red circle', 'a red circle moving left on a navy background']


def test_the_mask_is_where_a_word_is_and_the_rest_is_zero():
  text, mask = encoder(tokens=6, width=8)([*TEXTS, ''])
  assert text.shape == (3, 6, 8)
  assert mask.sum(1).tolist() == [3, 6, 0]  # the second is cut off
  assert not text[~mask].any()
  np.testing.assert_array_equal(text[0, :3], text[1, :3])


def test_case_and_punctuation_do_not_count():
  text, _ = encoder(tokens=4, width=8)(['A red, circle!', 'a  red circle'])
  np.testing.assert_array_equal(text[0], text[1])


@pytest.mark.parametrize('word', ['caf\xe9', '\xfcber', '\uac00\ub098', 'vi\u1ec7t'])
def test_the_form_of_accents_does_not_count(word):
  texts = [f'a {unicodedata.normalize(form, word)} dog' for form in ('NFC', 'NFD')]
  assert texts[0] != texts[1]
  text, mask = encoder(tokens=6, width=8)(texts)
  np.testing.assert_array_equal(text[0], text[1])
  assert mask.sum(1).tolist() == [3, 3]


def test_an_embedding_is_the_word_plus_its_place():
  text, _ = encoder(tokens=2, width=16)(['red blue', 'blue red', 'red red'])
  place = text[2, 1] - text[2, 0]
  np.testing.assert_allclose(text[1, 1] - text[0, 0], place, atol=1e-6)
  np.testing.assert_allclose(text[0, 1] - text[1, 0], place, atol=1e-6)
  assert np.abs(place).max() > 0.1


def test_words_have_unit_variance_and_nearly_orthogonal_vectors():
  width = 4096
  text, _ = encoder(tokens=1, width=width)(['red', 'green', 'blue'])
  words = text[:, 0] - np.repeat([0.0, 1.0], width // 2)  # at place 0 all sines are 0, cosines 1
  np.testing.assert_allclose(words @ words.T / width, np.eye(3), atol=0.06)  # 4 sigma


def test_another_process_gives_the_same_bits():
  code = 'import sys; from text.hashed import encoder; '
  code += f'sys.stdout.buffer.write(encoder(10, 7)({TEXTS})[0].tobytes())'
  env = dict(os.environ, PYTHONHASHSEED='7')
  out = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, check=True)
  assert out.stdout == encoder(10, 7)(TEXTS)[0].tobytes()


def test_a_table_without_places_is_refused():
  with pytest.raises(ValueError, match=r'Got tokens=0 and width=4; both must be at least 1\.'):
    encoder(0, 4)
