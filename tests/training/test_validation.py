"""What models are evaluated on: held-out clips where there are any, the same in every run."""

import numpy as np
import pytest
from PIL import Image

from configs import style, t2i, t2v_masked
from data import dataset, decode
from pipelines.stages import open_stage
from tests.data.videos import encoded, numbered
from training import validation
from training.validation import open_validation

COUNTS = {'train': 7, 'validation': 5}


@pytest.fixture(scope='module')
def directories(tmp_path_factory):
  """Datasets of clips whose captions tell their split and number: of both splits, and of one."""
  videos, out = tmp_path_factory.mktemp('videos'), tmp_path_factory.mktemp('out')
  contents = encoded(numbered(8), np.arange(8) * 100)
  (videos / 'a.mkv').write_bytes(contents)
  clips = [
    dataset.Clip('a.mkv', f'{split} {i}', split, decode.probe(contents))
    for split, count in COUNTS.items()
    for i in range(count)
  ]
  dataset.write(videos, clips, out / 'both', shards=None)
  dataset.write(videos, [c for c in clips if c.split == 'train'], out / 'one', shards=None)
  return {name: str(out / name) for name in ('both', 'one')}


def encode(captions):
  text = np.zeros((len(captions), 1, 20), np.float32)
  for row, caption in zip(text, captions):
    row[0, : len(caption[:20])] = [ord(c) for c in caption[:20]]
  return text, np.ones(text.shape[:2], bool)


def captions(batches):
  rows = np.concatenate([batch['text'] for batch in batches])[:, 0].astype(int)
  return [''.join(chr(c) for c in row if c) for row in rows]


def config(source='synthetic', stage=t2i, **changes):
  c = stage.get_config('tiny')
  c.update_from_flattened_dict({'data.source': source, 'data.size': 8, 'data.fps': 10.0} | changes)
  return c


def opened(config):
  stage = open_stage(config)
  return open_validation(config, stage, stage.data.open('train'))


def fixed_batches(config, *inputs):
  return validation.fixed_batches(opened(config).examples, encode, open_stage(config), *inputs)


def test_clips_of_the_validation_split_are_evaluated_where_there_is_one(directories):
  three = config(directories['both'], evaluate_clips=3)
  result = opened(three)
  assert result.metric == 'evaluation_loss'
  assert result.description == f'3 clips of the split validation of {directories["both"]}'
  assert captions(fixed_batches(three, 3)) == [f'validation {i}' for i in (0, 1, 3)]
  assert len(opened(config(directories['both'])).examples) == COUNTS['validation']


def test_where_there_is_none_the_metric_says_so(directories):
  result = opened(config(directories['one']))
  assert result.metric == 'evaluation_loss_on_training_data'
  assert result.description == (
    f'7 clips of {directories["one"]} that are trained on: it has no split validation'
  )


def test_moving_shapes_are_evaluated_on_others_than_are_trained_on():
  result = opened(config(evaluate_batch=4))
  assert result.metric == 'evaluation_loss'
  assert len(result.examples) == 4
  trained = open_stage(config()).data.open('train')
  for i in range(4):
    number = i * len(trained) // 4
    assert (result.examples[i]['video'] != trained[number]['video']).any()


def test_a_style_is_evaluated_on_its_picture_and_says_so(tmp_path):
  path = tmp_path / 'style.png'
  Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)).save(path)
  of_style = config(stage=style, evaluate_batch=4, **{'style.image': str(path)})
  result = opened(of_style)
  assert result.metric == 'evaluation_loss_on_training_data'
  assert result.description == f'4 clips of {path} that are trained on: it has no split validation'
  (batch,) = fixed_batches(of_style, 4)
  assert batch['video'].shape == (4, 1, 8, 8, 3)


def test_at_least_64_real_clips_are_evaluated_by_default():
  assert config().evaluate_clips >= 64


def test_the_set_is_the_same_for_all_seeds_and_masks_are_fixed_too(directories):
  for stage in (t2i, t2v_masked):
    batches = []
    for seed in (0, 1):
      seeded = config(directories['both'], stage, seed=seed, **{'data.frames': 4})
      batches.append(fixed_batches(seeded, 2))
    assert len(batches[0]) == 3
    for first, second in zip(*batches, strict=True):
      assert ('mask' in first) == (stage is t2v_masked)
      for key in first:
        np.testing.assert_array_equal(first[key], second[key])


@pytest.mark.parametrize('batch', [2, 4, 8])
def test_batches_have_every_example_once_before_any_is_there_again(directories, batch):
  result = captions(fixed_batches(config(directories['both']), batch))
  want = [f'validation {i}' for i in range(5)]
  assert result[:5] == want
  assert result == (want * 8)[: len(result)]
  assert len(result) == -(-5 // batch) * batch


def test_processes_bring_rows_of_the_same_batches(directories):
  both = config(directories['both'])
  whole = fixed_batches(both, 4)
  for rows in ([0, 2], [3, 1, 1]):
    for batch, part in zip(whole, fixed_batches(both, 4, rows), strict=True):
      for key in batch:
        np.testing.assert_array_equal(batch[key][rows], part[key])
