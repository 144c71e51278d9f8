"""The second judge of moving shapes says what clips show, and 'none' of distorted ones."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import ndimage

from benchmarks import second_judge
from benchmarks.second_judge import judge, parse, report
from core.errors import UserError
from data import synthetic

SEED = 123
FRAMES = 40
TIMES = np.arange(FRAMES) * synthetic.DURATION / FRAMES


def facts_of(motion: str, index: int = 0) -> synthetic.Facts:
  """The facts of one of the clips that show this motion."""
  drawn = (synthetic.facts(i, SEED) for i in itertools.count())
  return next(itertools.islice((one for one in drawn if one.motion == motion), index, None))


def draw(facts, times=TIMES, **changes):
  return synthetic.render(dataclasses.replace(facts, **changes), times, 32)[0]


def scene(facts, **changes):
  """The words of the facts, with changes."""
  names = {word: getattr(facts, word) for word in second_judge.WORDS}
  return synthetic.Scene(**names | changes)


def shaken(facts, pixels, seed=0):
  """The clip with the shape of each frame shifted by normal noise, of so many pixels RMS."""
  shifts = np.random.default_rng(seed).normal(size=(FRAMES, 2)) * pixels / 32 / np.sqrt(2)
  move = lambda place, shift: tuple(np.add(place, shift))
  frames = [
    draw(facts, TIMES[i : i + 1], start=move(facts.start, shift), end=move(facts.end, shift))
    for i, shift in enumerate(shifts)
  ]
  return np.concatenate(frames)


@pytest.mark.parametrize('frames', [20, 80])
def test_rendered_clips_show_their_captions(frames):
  clips = [
    synthetic.clip(i, size=32, frames=frames, fps=frames / 5, seed=SEED)
    for i in range(240 // frames + 3)
  ]
  assert [judge(one['video']).caption for one in clips] == [one['caption'] for one in clips]


def test_blur_and_noise_change_nothing():
  rng = np.random.default_rng(0)
  for i, motion in enumerate(synthetic.MOTIONS):
    facts = facts_of(motion, i % 3)
    video = ndimage.gaussian_filter(draw(facts).astype(float), (0, 0.7, 0.7, 0))
    video = np.clip(video + rng.normal(0, 4, video.shape), 0, 255).round().astype(np.uint8)
    assert judge(video).caption == facts.caption


@pytest.mark.parametrize('motion', synthetic.MOTIONS)
def test_a_shape_that_jitters_has_no_motion(motion):
  facts = facts_of(motion)
  assert judge(shaken(facts, 0.6)).caption == facts.caption
  assert judge(shaken(facts, 1.5)) == scene(facts, motion='none')


@pytest.mark.parametrize('motion', synthetic.MOTIONS)
def test_shuffled_frames_have_no_motion_unless_it_stands_still(motion):
  facts = facts_of(motion, 1)
  video = draw(facts)[np.random.default_rng(0).permutation(FRAMES)]
  shown = motion if motion == 'standing still' else 'none'
  assert judge(video) == scene(facts, motion=shown)


@pytest.mark.parametrize('shape', synthetic.SHAPES)
def test_a_shape_that_becomes_another_is_none(shape):
  facts = dataclasses.replace(facts_of('moving up'), shape=shape)
  for other in set(synthetic.SHAPES) - {shape}:
    later = np.arange(FRAMES)[:, None, None, None] >= FRAMES // 2
    video = np.where(later, draw(facts, shape=other), draw(facts))
    assert judge(video) == scene(facts, shape='none', motion='none')


def test_an_outline_that_changes_has_no_motion():
  facts = facts_of('standing still')
  for change, motion in ((0.04, 'standing still'), (0.12, 'none')):
    radii = facts.radii[0] * (1 + change * np.sin(np.arange(FRAMES)))
    frames = [draw(facts, TIMES[:1], radii=(radius, radius)) for radius in radii]
    assert judge(np.concatenate(frames)) == scene(facts, motion=motion)


def test_a_shape_that_fades_splits_or_vanishes_has_no_motion():
  facts = facts_of('moving right')
  video = draw(facts).astype(np.float32)
  back = np.float32(synthetic.BACKGROUNDS[facts.background])
  fade = np.linspace(1, 0.3, FRAMES)[:, None, None, None]
  faded = back + (video - back) * fade
  split, vanished = video.copy(), video.copy()
  vanished[20] = back
  for i in range(20, FRAMES):
    shown = np.abs(video[i] - back).sum(-1) > 0
    middle = int(np.nonzero(shown)[1].mean())
    split[i, :, middle - 2 : middle + 2] = back
  for distorted in (faded, split, vanished):
    assert judge(distorted.astype(np.uint8)).motion == 'none'


def test_colours_that_change_or_fit_no_word_are_none():
  facts = facts_of('standing still')
  later = np.arange(FRAMES)[:, None, None, None] >= FRAMES // 2
  colour, back = 'red', 'black'
  video = draw(facts, colour=colour, background=back)
  assert judge(np.where(later, draw(facts, colour='blue', background=back), video)).colour == 'none'
  grey = judge(np.where(later, draw(facts, colour=colour, background='gray'), video))
  assert (grey.colour, grey.background) == ('red', 'none')
  assert judge(np.zeros_like(video)) == synthetic.Scene('none', 'none', 'none', 'black')


def test_the_report_has_the_shares_and_the_failures():
  facts = [facts_of('moving left'), facts_of('spinning')]
  wrong = scene(facts[1], motion='growing')
  text = report([draw(one) for one in facts], [scene(facts[0]), wrong])
  assert text.splitlines() == [
    'colour      100.0%',
    'shape       100.0%',
    'motion       50.0%',
    'background  100.0%',
    'all four     50.0%',
    f'1: {wrong.caption}; shows {facts[1].caption}',
  ]


def test_a_caption_is_parsed_or_refused():
  assert all(parse(one.caption) == one for one in synthetic.SCENES[::50])
  with pytest.raises(UserError, match='is no caption of moving shapes'):
    parse('a red circle moving sideways on a black background')
