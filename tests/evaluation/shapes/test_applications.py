import pathlib
import types

import numpy as np
import pytest
from PIL import Image

from configs import t2v
from data import synthetic
from evaluation.protocol import differences
from evaluation.shapes import applications, held_out
from evaluation.shapes.applications import (
  boxes,
  cinemagraph,
  distance,
  edit,
  image_to_video,
  inpainting,
)
from evaluation.shapes.judge import centres
from pipelines import style

FORMAT = dict(size=32, frames=80, fps=16)
CLIPS = [synthetic.clip(i, seed=2, **FORMAT) for i in range(30)]


def drawn(clip, **changes):
  """The clip with other facts."""
  facts = synthetic.Facts(**vars(clip['facts']) | changes)
  return synthetic.render(facts, np.arange(80) / 16, 32)[0]


def other(clip, kind):
  """Another colour or shape than the clip's, one that can be seen."""
  names = synthetic.COLOURS if kind == 'colour' else synthetic.SHAPES
  return next(n for n in names if n not in (getattr(clip['facts'], kind), 'white'))


def share(task_of, made_of, criterion):
  return np.mean([task_of(clip).score(made_of(clip))[criterion] for clip in CLIPS])


def edited(clip):
  return edit(clip, 0.5)


@pytest.mark.parametrize(
  ('task_of', 'criterion'),
  [
    (image_to_video, 'colour and shape'),
    (image_to_video, 'motion'),
    (inpainting, 'colour and place'),
    (edited, 'path'),
  ],
)
def test_the_truth_scores(task_of, criterion):
  assert share(task_of, lambda clip: clip['video'], criterion) >= 0.95


def test_a_jump_from_the_given_frame_is_a_large_first_step():
  def first_and_mean(made_of):
    scores = [image_to_video(clip).score(made_of(clip)) for clip in CLIPS]
    steps = [(s['first step'], s['mean step']) for s in scores if 'first step' in s]
    return np.mean(steps, 0)

  first, mean = first_and_mean(lambda clip: clip['video'])
  assert 0.9 * mean <= first <= 1.1 * mean
  jump = lambda clip: np.concatenate([clip['video'][:1], np.roll(clip['video'][1:], 5, axis=2)])
  first, mean = first_and_mean(jump)
  assert first > 2 * mean


def test_what_is_of_another_colour_or_shape_does_not_score():
  for kind in ('colour', 'shape'):
    made_of = lambda clip, kind=kind: drawn(clip, **{kind: other(clip, kind)})
    assert share(image_to_video, made_of, 'colour and shape') <= 0.05
  assert (
    share(inpainting, lambda clip: drawn(clip, colour=other(clip, 'colour')), 'colour and place')
    <= 0.05
  )


def test_a_colour_is_edited_where_it_is_the_one_asked_for():
  in_prompt = lambda clip: drawn(clip, colour=edited(clip).prompt.split()[1])
  assert share(edited, in_prompt, 'colour') >= 0.95
  assert share(edited, in_prompt, 'path') >= 0.95
  assert share(edited, lambda clip: clip['video'], 'colour') <= 0.05


def test_what_is_elsewhere_does_not_score():
  aside = lambda clip: np.roll(clip['video'], 5, axis=2)
  assert share(inpainting, aside, 'colour and place') <= 0.05
  assert share(edited, aside, 'path') <= 0.05
  assert (
    share(inpainting, lambda clip: np.roll(clip['video'], 2, axis=2), 'colour and place') >= 0.8
  )


def test_a_cinemagraph_moves_inside_alone():
  criterion = 'still outside, moves inside'
  for clip in CLIPS:
    task = cinemagraph(clip)
    image = np.repeat(clip['video'][:1], 80, 0)
    visible = np.asarray(task.condition.mask[0]) == 1
    moves = np.where(visible, image, np.arange(80)[:, None, None, None] * 3).astype(np.uint8)
    assert task.score(moves)[criterion]
    assert not task.score(image)[criterion]
    moves[40, 0, 0] ^= 128
    assert not task.score(moves)[criterion]
    assert 'standing still' not in task.prompt


def test_a_shape_that_is_covered_cannot_be_seen():
  for clip in CLIPS:
    visible = np.asarray(inpainting(clip).condition.mask[0, ..., 0]) == 1
    assert not (visible & clip['mask']).any()
    assert visible.mean() > 0.3


def test_boxes_hold_what_is_true():
  mask = np.zeros((3, 16, 16), bool)
  mask[0, 5, 7] = mask[0, 6, 9] = mask[2, 0, 15] = True
  beyond = round(applications.MARGIN * 16)
  assert beyond == 1
  want = np.zeros_like(mask)
  want[0, 4:8, 6:11] = want[2, 0:2, 14:16] = True
  np.testing.assert_array_equal(boxes(mask), want)


def test_centres_are_where_shapes_are():
  still = dict(motion='standing still', start=(0.3, 0.6), end=(0.3, 0.6), turns=0.0, leap=0.0)
  path = centres(drawn(CLIPS[0], **still, radii=(0.2, 0.2), shape='circle'))
  np.testing.assert_allclose(path, [[0.3, 0.6]] * 80, atol=0.01)
  assert np.isinf(distance(path, centres(np.zeros((80, 32, 32, 3), np.uint8))))


@pytest.fixture
def scored(monkeypatch, tmp_path):
  """Scores models that make black videos; `folder` has two styles, which change nothing."""
  for name in ('ink', 'neon'):
    style.save(tmp_path / f'{name}.npz', style.Style(f'in {name}', {}, {}))
    Image.new('P', (7, 8)).save(tmp_path / f'{name}.png')
  steps = {'videos': 3, 'masked': 5}
  config = t2v.get_config('tiny')
  config.data.update(size=32, frames=8)
  generated = []

  def generate(prompts, **inputs):
    generated.extend(prompts)
    return [np.zeros((8, 32, 32, 3), np.uint8) for _ in prompts]

  base = types.SimpleNamespace(config=config)
  pipeline = types.SimpleNamespace(base=base, generate=generate)
  pipeline.with_params = lambda params: pipeline

  def opened(workdir, sampling):
    if workdir.name == 'nowhere':
      raise ValueError(f'{workdir} is not a workdir.')
    return pipeline, {}, steps[workdir.name]

  def score(workdir='videos', strength=0.6):
    models = pathlib.Path(workdir), pathlib.Path('masked')
    return held_out.applications(*models, tmp_path, clips=1, strength=strength, sampling={})

  monkeypatch.setattr(held_out, '_open_model', opened)
  score.folder, score.steps, score.generated = tmp_path, steps, generated
  return score


def test_the_protocol_is_of_all_but_the_models(scored):
  first = scored()
  assert first['of'] == 'videos step 3, masked step 5'
  scored.steps['videos'] = 4
  later = scored()
  assert later['of'] == 'videos step 4, masked step 5'
  assert differences([first['protocol'], later['protocol']]) == {}
  assert all(entry['seed'] == 0 for entry in first['protocol'].values())
  other = scored(strength=0.5)
  assert differences([first['protocol'], other['protocol']]) == {'edit.strength': [0.6, 0.5]}


def test_the_protocol_tells_styles_from_others_of_their_names(scored):
  first = scored()
  assert first['protocol']['style neon']['alpha'] == 1
  style.save(scored.folder / 'neon.npz', style.Style('in other neon', {}, {}))
  other = scored()
  assert differences([first['protocol'], other['protocol']]).keys() == {'style neon.style'}
  # A look is the nearest of all pictures.
  Image.new('P', (7, 8), 1).save(scored.folder / 'ink.png')
  again = differences([other['protocol'], scored()['protocol']])
  assert again.keys() == {'style ink.looks.ink', 'style neon.looks.ink'}


def test_nothing_is_made_of_what_is_not_whole(scored):
  with pytest.raises(ValueError, match='nowhere is not a workdir'):
    scored('nowhere')
  style.save(scored.folder / 'other.npz', style.Style('in other', {'conv/kernel': 1}, {}))
  with pytest.raises(ValueError, match=r'There is no file .*other\.png'):
    scored()
  Image.new('P', (7, 8)).save(scored.folder / 'other.png')
  with pytest.raises(ValueError, match='The style began from another image model'):
    scored()
  (scored.folder / 'other.npz').write_bytes(b'none')
  with pytest.raises(ValueError, match=r'other\.npz is not a style'):
    scored()
  (scored.folder / 'other.npz').unlink()
  (scored.folder / 'neon.png').write_bytes(b'')
  with pytest.raises(ValueError, match=r'neon\.png is not an image that Pillow can read'):
    scored()
  assert not scored.generated
