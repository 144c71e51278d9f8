import json
import pathlib
import types

import numpy as np
import pytest
from ml_collections import ConfigDict

from evaluation import samples
from evaluation.folder import open_folder
from pipelines import checkpoints
from pipelines.checkpoints import Checkpoint
from training import checkpoint

PROMPTS = ['a cat', 'A dog!', 'a cat', 'two birds', 'rain']


class Killed(Exception):
  pass


def base(name='model', steps=4):
  """A checkpoint of which nothing but its metadata is used here."""
  config = ConfigDict({'data': {'fps': 16.0}, 'sampling': {'steps': steps}})
  return Checkpoint(pathlib.Path(name), config, 1)


def drawn(job, batch, seed, place, size):
  """Pixels that depend on all that real ones might: the rounding of a batch too."""
  numbers = [len(job.prompt), job.number, batch, seed, place, size]
  return np.random.default_rng(numbers).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)


@pytest.fixture
def made(monkeypatch):
  """Batches as they are made; what is `left` in it is how many videos are made before a kill."""
  state = types.SimpleNamespace(batches=[], left=99)

  class Drawn:
    """Stands for a pipeline, of which only the batch counts."""

    def open(base, ssr, *, batch, progress):
      return types.SimpleNamespace(load_params=lambda base, ssr: batch)

  def generate(jobs, batch, *, seed):
    for start in range(0, len(jobs), batch):
      batch_jobs = jobs[start : start + batch]
      state.batches.append([job.number for job in batch_jobs])
      for place, job in enumerate(batch_jobs):
        if state.left == 0:
          raise Killed
        state.left -= 1
        yield job, drawn(job, batch, seed, place, len(batch_jobs))

  monkeypatch.setattr(samples, 'Pipeline', Drawn)
  monkeypatch.setattr(samples, 'generate', generate)
  monkeypatch.setattr(Checkpoint, 'load', lambda self: {})
  return state


def jobs_in(folder, **options):
  return samples.plan(PROMPTS, folder, '.npy', **options)


def sample(jobs, **options):
  return samples.sample(jobs, base(), **{'batch': 2, 'seed': 0} | options)


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_names_say_number_and_prompt(tmp_path):
  jobs = jobs_in(tmp_path / 'out', per_prompt=2)
  assert [job.number for job in jobs] == list(range(10))
  assert [job.path.name for job in jobs[2:5]] == [
    '00002_a_dog.npy', '00003_a_dog.npy', '00004_a_cat.npy',
  ]  # fmt: skip
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('left', range(5))
def test_killed_anywhere_and_gone_on_with_is_the_same(tmp_path, made, left):
  assert sample(jobs_in(tmp_path / 'whole')) == []
  made.left = left
  with pytest.raises(Killed):
    sample(jobs_in(tmp_path / 'killed'))
  (tmp_path / 'killed' / f'.{jobs_in(tmp_path)[left].path.name}.123.part').write_bytes(b'half')
  made.left, made.batches = 99, []
  assert sample(jobs_in(tmp_path / 'killed')) == []
  assert contents(tmp_path / 'killed') == contents(tmp_path / 'whole')
  assert len(made.batches) == 3 - left // 2


def test_nothing_is_made_twice(tmp_path, made):
  sample(jobs_in(tmp_path))
  made.batches.clear()
  assert sample(jobs_in(tmp_path)) == []
  assert made.batches == []


def test_hosts_share_the_batches_and_find_the_others_missing(tmp_path, made):
  sample(jobs_in(tmp_path / 'whole'))
  made.batches.clear()
  jobs = jobs_in(tmp_path / 'shared')
  missing = sample(jobs, host=1, hosts=2)
  assert [job.number for job in missing] == [0, 1, 4]
  assert made.batches == [[2, 3]]
  assert sample(jobs, host=0, hosts=2) == []
  assert contents(tmp_path / 'shared') == contents(tmp_path / 'whole')


def test_the_index_says_what_each_is_of(tmp_path, made):
  jobs = jobs_in(tmp_path)
  sample(jobs)
  lines = [json.loads(line) for line in (tmp_path / 'index.jsonl').read_text().splitlines()]
  assert [line['file'] for line in lines] == [job.path.name for job in jobs]
  assert lines[3] == {
    'file': '00003_two_birds.npy', 'prompt': 'two birds', 'number': '3', 'model': 'model step 1',
    'weights': checkpoint.fingerprint(pathlib.Path('model'), 1),
    'seed': '0', 'steps': '4', 'batch': '2', 'fps': '16.0',
  }  # fmt: skip
  assert list(open_folder(tmp_path).prompts().values()) == PROMPTS


def test_an_index_that_another_program_wrote_again_is_read(tmp_path, made):
  prompts = ['a red circle\u2028moving', 'a ring\x85on white', 'two\x0bbirds']
  jobs = samples.plan(prompts, tmp_path, '.npy')
  sample(jobs)
  index = tmp_path / 'index.jsonl'
  lines = map(json.loads, index.read_text().split('\n')[:-1])
  index.write_text('\n'.join(json.dumps(x, ensure_ascii=False) for x in lines), 'utf-8')
  assert sample(jobs) == []
  assert list(open_folder(tmp_path).prompts().values()) == prompts


def test_samples_made_otherwise_are_not_mixed_in(tmp_path, made):
  sample(jobs_in(tmp_path))
  before = contents(tmp_path)
  with pytest.raises(ValueError, match='made differently: model, steps differ'):
    samples.sample(jobs_in(tmp_path), base('another', 5), batch=2, seed=0)
  with pytest.raises(ValueError, match='made differently: batch, seed differ'):
    sample(jobs_in(tmp_path), batch=3, seed=1)
  with pytest.raises(ValueError, match='has samples of other prompts'):
    sample(samples.plan([*PROMPTS[:-1], 'snow'], tmp_path, '.npy'))
  with pytest.raises(ValueError, match='made differently: file, prompt differ'):
    sample(samples.plan(['snow'], tmp_path, '.npy'))
  assert contents(tmp_path) == before


def test_other_weights_of_the_same_name_are_another_model(tmp_path, made, monkeypatch):
  drawn = iter('ab')
  monkeypatch.setattr(checkpoints.checkpoint, 'fingerprint', lambda workdir, step: next(drawn))
  sample(jobs_in(tmp_path))
  with pytest.raises(ValueError, match='made differently: weights differ'):
    sample(jobs_in(tmp_path))


def test_a_run_that_came_to_nothing_binds_nobody(tmp_path, made):
  made.left = 0
  with pytest.raises(Killed):
    sample(jobs_in(tmp_path))
  made.left = 99
  assert sample(jobs_in(tmp_path), batch=3) == []
  assert open_folder(tmp_path).made_by()['batch'] == '3'


def test_of_hosts_that_begin_otherwise_at_once_one_is_refused(tmp_path, made, monkeypatch):
  generate = samples.generate

  def after_another(*argv, **options):
    """Another host begins while this one compiles."""
    samples.write_index(jobs_in(tmp_path), {'seed': 1})
    return generate(*argv, **options)

  monkeypatch.setattr(samples, 'generate', after_another)
  with pytest.raises(ValueError, match=r'made differently: .*, seed'):
    sample(jobs_in(tmp_path))
  assert [path.name for path in tmp_path.iterdir()] == ['index.jsonl']


@pytest.mark.parametrize('text', ['none', '[]', '{"prompt": "x"}'])
def test_a_folder_of_something_else_is_refused(tmp_path, made, text):
  (tmp_path / 'index.jsonl').write_text(text)
  with pytest.raises(ValueError, match='is no index of samples'):
    sample(jobs_in(tmp_path))
  with pytest.raises(ValueError, match='is a file; allowed is a folder of samples'):
    sample(jobs_in(tmp_path / 'index.jsonl'))


def test_a_host_is_one_of_the_hosts(tmp_path, made):
  with pytest.raises(ValueError, match='Got host 2 of 2; allowed are 0 to 1'):
    sample(jobs_in(tmp_path / 'out'), host=2, hosts=2)
  assert not (tmp_path / 'out').exists()
