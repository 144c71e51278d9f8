import numpy as np
import pytest

from data import synthetic
from evaluation.shapes.judge import NONE, judge

FORMAT = dict(size=32, frames=80, fps=16)
FIELDS = ('colour', 'shape', 'motion', 'background')


def degraded(video, rng):
  """Blurred by 3x3 pixels, paler by 15%, with Gaussian noise of 10 levels."""
  _, h, w, _ = video.shape
  padded = np.pad(video.astype(np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)), mode='edge')
  blurred = sum(padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)) / 9
  pale = 127.5 + 0.85 * (blurred - 127.5)
  return np.clip(np.round(pale + rng.normal(0, 10, video.shape)), 0, 255).astype(np.uint8)


def accuracy(drawn):
  """The part of (video, facts) pairs judged rightly, by field."""
  right = []
  for video, facts in drawn:
    verdict = judge(video)
    right.append([getattr(verdict, f) == getattr(facts, f) for f in FIELDS])
  return dict(zip(FIELDS, np.mean(right, 0)))


def scene(motion, colour='red', background='black', shape='square'):
  """A clip of the scene asked for, in one of its drawn geometries."""
  facts = next(f for f in map(synthetic.facts, range(10_000)) if f.motion == motion)
  names = dict(colour=colour, background=background, shape=shape)
  facts = synthetic.Facts(**vars(facts) | names)
  return synthetic.render(facts, np.arange(80) / 16, 32)[0]


def test_drawn_clips_are_judged_rightly():
  clips = (synthetic.clip(i, **FORMAT) for i in range(300))
  score = accuracy((c['video'], c['facts']) for c in clips)
  assert min(score.values()) >= 0.99, score


def test_degraded_clips_are_judged_rightly():
  rng = np.random.default_rng(0)
  clips = (synthetic.clip(i, **FORMAT) for i in range(300, 600))
  score = accuracy((degraded(c['video'], rng), c['facts']) for c in clips)
  assert min(score.values()) >= 0.97, score


def test_larger_slower_and_wider_clips_are_judged_rightly():
  for size, frames, fps in ((64, 80, 16), (32, 16, 3.2), ((24, 48), 40, 8), ((48, 24), 40, 8)):
    clips = (synthetic.clip(i, size=size, frames=frames, fps=fps) for i in range(30))
    score = accuracy((c['video'], c['facts']) for c in clips)
    assert min(score.values()) >= 0.96, score  # one of thirty


@pytest.mark.parametrize(
  ('motion', 'backwards', 'turned'),
  [
    ('moving left', 'moving right', 'moving up'),
    ('moving right', 'moving left', 'moving down'),
    ('moving up', 'moving down', 'moving left'),
    ('moving down', 'moving up', 'moving right'),
    ('growing', 'shrinking', 'growing'),
    ('shrinking', 'growing', 'shrinking'),
    ('spinning', 'spinning', 'spinning'),
    ('bouncing', 'bouncing', NONE),
    ('standing still', 'standing still', 'standing still'),
  ],
)
def test_motion_follows_the_order_of_frames_and_the_axes(motion, backwards, turned):
  video = scene(motion)
  assert judge(video).motion == motion
  assert judge(video[::-1]).motion == backwards
  assert judge(video.transpose(0, 2, 1, 3)).motion == turned


@pytest.mark.parametrize('motion', ['moving left', 'growing', 'spinning', 'bouncing'])
def test_what_does_not_move_as_named_is_not_called_so(motion):
  video = scene(motion)
  assert judge(video[np.random.default_rng(0).permutation(80)]).motion == NONE
  assert judge(np.repeat(video[:1], 80, 0)).motion == 'standing still'
  assert judge(video[:1]).motion == NONE


@pytest.mark.parametrize(
  ('colour', 'rolled'),
  [
    *(('red', 'green'), ('green', 'blue'), ('blue', 'red')),
    *(('yellow', 'cyan'), ('cyan', 'magenta'), ('magenta', 'yellow'), ('white', 'white')),
  ],
)
def test_colour_follows_the_channels(colour, rolled):
  video = scene('moving up', colour)
  assert judge(video).colour == colour
  assert judge(np.roll(video, 1, axis=-1)).colour == rolled


def test_a_shape_which_turns_about_its_own_centre_spins(monkeypatch):
  monkeypatch.setattr(synthetic, 'ARM', 0.0)
  for shape in ('square', 'triangle', 'cross'):
    assert judge(scene('spinning', shape=shape)).motion == 'spinning'
  for shape in ('circle', 'ring'):
    assert judge(scene('spinning', shape=shape)).motion == 'standing still'


def test_nothing_is_seen_where_nothing_is():
  gray = np.full((80, 32, 32, 3), 128, np.uint8)
  noise = np.random.default_rng(0).integers(0, 256, gray.shape).astype(np.uint8)
  for video in (gray, noise):
    verdict = judge(video)
    assert (verdict.colour, verdict.shape, verdict.motion) == (NONE, NONE, NONE)
    assert verdict.background == 'gray'


def test_a_shape_which_vanishes_has_no_motion():
  video = scene('moving left')
  video[30:50] = 0
  verdict = judge(video)
  assert (verdict.colour, verdict.motion) == ('red', NONE)


def test_a_shape_that_is_seen_in_few_frames_is_judged_by_these():
  clip = synthetic.clip(0, size=32, frames=16, fps=16 / 5, seed=0)
  video = np.broadcast_to(clip['video'][0, 0, 0], clip['video'].shape).copy()
  video[:3] = clip['video'][:3]
  verdict = judge(video)
  assert (verdict.colour, verdict.shape) == (clip['facts'].colour, clip['facts'].shape)
  assert verdict.motion == NONE
