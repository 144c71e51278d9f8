import json
import os
import re
import unicodedata

import numpy as np
import pytest

from core import video
from pipelines import jobs

# Letters of one to four bytes, and one that is two in lower case.
LETTERS = ('a', '\xe9', '\u0915', '\u72d7', '\U0001d400', '\u0130')


@pytest.mark.parametrize('letter', LETTERS)
@pytest.mark.parametrize('count', [1, 59, 60, 61, 200, 5000])
def test_the_name_of_a_prompt_has_room_in_any_folder(tmp_path, letter, count):
  todo = jobs.of_list(['a dog', letter * count], 12, tmp_path)
  pixels = np.zeros((1, 16, 16, 3), np.uint8)
  todo[-1].write(pixels, fps=16.0, upscale=1, made_by={})
  name = todo[-1].path.name
  assert re.fullmatch(r'001_\w+_11\.mp4', name, re.DOTALL)
  assert len(os.fsencode(name)) <= 200  # of 255, with what is around it while it is written
  assert os.listdir(tmp_path) == [name]


def test_a_name_is_cut_between_characters():
  for letter in LETTERS:
    part = jobs.slug('x' + letter * 200)
    whole = unicodedata.normalize('NFC', 'x' + letter * 200).lower()
    assert part
    assert re.sub(r'\W+', '_', whole).startswith(part)
  assert jobs.slug('x' * 200) == 'x' * 60
  assert jobs.slug('\u72d7' * 200) == '\u72d7' * 60


def test_every_name_is_checked_before_the_first_video(tmp_path):
  (tmp_path / '001_two_1.mp4').mkdir()
  with pytest.raises(OSError, match=r'Cannot write .*001_two_1\.mp4: Is a directory'):
    jobs.require_folder(jobs.of_list(['one', 'two'], 2, tmp_path))
  jobs.require_folder(jobs.of_list(['one', 'two'], 2, tmp_path / 'new'))
  assert os.listdir(tmp_path) == ['001_two_1.mp4']
  (tmp_path / 'listed' / 'index.jsonl').mkdir(parents=True)
  with pytest.raises(OSError, match=r'Cannot write .*index\.jsonl: Is a directory'):
    jobs.require_folder(jobs.of_list(['one'], 1, tmp_path / 'listed'))


def test_prompts_of_one_beginning_have_names_of_their_own(tmp_path):
  same = '\U0001d400' * 70
  todo = jobs.of_list([same, same + ' b', same.lower()], 1, tmp_path)
  assert len({job.path for job in todo}) == 3


@pytest.mark.parametrize(
  ('prompt', 'message'),
  [
    (
      'a \ud83d ring',
      r'^The prompt "a \\ud83d ring" has \\ud83d, which is not a character; allowed is',
    ),
    (
      os.fsdecode(b'a \xff ring'),
      r'^The prompt "a \\xff ring" has \\xff, which is not a character',
    ),
    ('a\0', '^The prompt .* has NUL, which is not allowed in text; allowed is Unicode text.$'),
  ],
)
def test_a_prompt_that_is_no_text_is_refused(tmp_path, prompt, message):
  with pytest.raises(ValueError, match=message):
    jobs.of_prompt(prompt, 1, tmp_path / 'a.mp4', None)
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize('extension', sorted({*video.EXTENSIONS} - {'.npy'}))
def test_what_a_video_was_made_of_may_have_any_name(tmp_path, extension):
  job = jobs.Job('a dog', 0, tmp_path / f'caf\udce9{extension}')
  image = os.fsdecode(b'caf\xe9.png')
  job.write(np.zeros((2, 16, 16, 3), np.uint8), fps=16.0, upscale=1, made_by={'image': image})
  assert video.read_metadata(job.path)['image'] == r'caf\xe9.png'
  jobs.write_index([job], {'image': image})
  assert json.loads((tmp_path / 'index.jsonl').read_text())['image'] == r'caf\xe9.png'
