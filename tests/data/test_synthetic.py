import collections
import dataclasses
import re

import numpy as np
import pytest

from data import synthetic
from data.synthetic import COLOURS, MOTIONS, SCENES, SHAPES, Facts, MovingShapes, clip, render

FORMAT = dict(size=32, frames=80, fps=16)
SECONDS = np.arange(80) / 16


def clips(motion, count, **changes):
  """`count` clips of one motion, and their facts."""
  drawn = (i for i in range(10_000) if synthetic.facts(i).motion == motion)
  for _ in range(count):
    yield clip(next(drawn), **FORMAT | changes)


def centre(mask):
  """The centroid (x, y) of every frame, as fractions of the side."""
  size = mask.shape[-1]
  places = (np.arange(size) + 0.5) / size
  area = mask.sum((1, 2))
  return np.stack([mask.sum(1) @ places / area, mask.sum(2) @ places / area], -1)


def still(shape, radius, **changes):
  middle = (0.5, 0.5)
  radii = (radius, radius)
  return Facts('white', shape, 'standing still', 'black', middle, middle, radii, **changes)


def test_captions_are_the_grammar():
  captions = {scene.caption for scene in SCENES}
  assert len(captions) == 8 * 5 * 9 * 4 - 5 * 9  # no white on white
  pattern = (
    r'a (red|green|blue|yellow|magenta|cyan|orange|white) (circle|square|triangle|ring|cross) '
    r'(moving (left|right|up|down)|growing|shrinking|spinning|bouncing|standing still) '
    r'on a (black|gray|navy|white) background'
  )
  assert all(re.fullmatch(pattern, caption) for caption in captions)
  assert not any(c.startswith('a white') and 'white background' in c for c in captions)


def test_the_grammar_is_drawn_evenly():
  drawn = [synthetic.facts(i) for i in range(3000)]
  for names, field in ((COLOURS, 'colour'), (SHAPES, 'shape'), (MOTIONS, 'motion')):
    count = collections.Counter(getattr(f, field) for f in drawn)
    p = np.array([sum(getattr(s, field) == n for s in SCENES) for n in names]) / len(SCENES)
    got = np.array([count[n] for n in names])
    assert (np.abs(got - 3000 * p) < 4 * np.sqrt(3000 * p)).all()


def test_weights_say_how_often_motions_are_drawn():
  weights = {'spinning': 3, 'bouncing': 2}
  count = collections.Counter(synthetic.facts(i, weights=weights).motion for i in range(3000))
  p = np.array([weights.get(motion, 1) for motion in MOTIONS]) / 12
  got = np.array([count[motion] for motion in MOTIONS])
  assert (np.abs(got - 3000 * p) < 4 * np.sqrt(3000 * p)).all()


def test_a_clip_is_a_function_of_its_index_and_seed():
  a, b = clip(5, **FORMAT), clip(5, **FORMAT)
  np.testing.assert_array_equal(a['video'], b['video'])
  assert a['facts'] == b['facts']
  assert a['caption'] == synthetic.facts(5).caption
  assert synthetic.facts(5) != synthetic.facts(6)
  assert synthetic.facts(5) != synthetic.facts(5, seed=1)


def test_prompts_are_a_stream_of_their_own():
  prompts = [synthetic.prompt(seed).caption for seed in range(40)]
  assert prompts == [synthetic.prompt(seed).caption for seed in range(40)]
  assert len(set(prompts)) > 30
  same = sum(p == synthetic.facts(i).caption for i, p in enumerate(prompts))
  assert same <= 2


# Areas of shapes of radius 1, from their definitions.
AREAS = {
  'circle': np.pi,
  'square': (2 * 0.84) ** 2,
  'triangle': 3 * np.sqrt(3) / 4 * 1.2**2,
  'ring': np.pi * (1.05**2 - 0.55**2),
  'cross': 2 * (2 * 1.1) * (2 * 0.38) - (2 * 0.38) ** 2,
}


@pytest.mark.parametrize('shape', SHAPES)
def test_the_light_of_a_shape_is_its_area(shape):
  for angle in (0.0, 0.4):
    video, _ = render(still(shape, 0.25, angle=angle), np.zeros(1), 64)
    light = video[..., 0].mean() / 255
    assert light == pytest.approx(AREAS[shape] * 0.25**2, rel=0.02)


@pytest.mark.parametrize('shape', SHAPES)
def test_edges_are_those_of_a_larger_drawing_made_small(shape):
  large, _ = render(still(shape, 0.3, angle=0.2), np.zeros(1), 512)
  want = large[0].astype(float).reshape(32, 16, 32, 16, 3).mean((1, 3))
  got, _ = render(still(shape, 0.3, angle=0.2), np.zeros(1), 32)
  assert np.abs(got[0] - want).max() < 0.3 * 255  # a sharp corner; edges agree better:
  assert np.abs(got[0] - want).mean() < 0.004 * 255


def test_the_whole_shape_is_always_in_the_frame():
  for index in range(300):
    drawn = clip(index, size=32, frames=20, fps=4)
    facts = drawn['facts']
    border = np.ones((32, 32), bool)
    border[1:-1, 1:-1] = False
    assert not drawn['mask'][:, border].any(), facts
    assert drawn['mask'].any((1, 2)).all()
    back = np.array(synthetic.BACKGROUNDS[facts.background])
    assert np.abs(drawn['video'][:, 0, 0].astype(int) - back).max() == 0


def test_the_highest_leaps_stay_in_the_frame():
  for index in range(20_000):
    facts = synthetic.facts(index)
    if facts.motion == 'bouncing':
      top = facts.start[1] - facts.leap - synthetic.REACH * facts.radii[0]
      assert top >= synthetic.MARGIN - 1e-9, facts


@pytest.mark.parametrize('size', [(18, 32), (32, 18), (16, 64)])
def test_the_whole_shape_is_always_in_frames_of_any_shape(size):
  reached = []
  for index in range(200):
    mask = clip(index, size=size, frames=20, fps=4)['mask']
    assert mask.any((1, 2)).all()
    assert not mask[:, [0, -1]].any()
    assert not mask[:, :, [0, -1]].any()
    reached.append(mask.any(0))
  share = np.mean(reached, 0)[1:-1, 1:-1]
  assert (share > 0).mean() > 0.9  # shapes go everywhere


@pytest.mark.parametrize('motion', MOTIONS)
def test_a_shape_is_drawn_in_the_same_proportions_in_frames_of_any_shape(motion):
  """A frame with half the height is the upper half of a square in which all lengths are halved."""
  for index in range(3):
    facts = next(f for i in range(10_000) if (f := synthetic.facts(i, index)).motion == motion)
    half = {'radii': facts.radii, 'start': facts.start, 'end': facts.end}
    half = {name: (a / 2, b / 2) for name, (a, b) in half.items()}
    halved = dataclasses.replace(facts, **half, leap=facts.leap / 2)
    wide, mask = render(facts, SECONDS[::8], (32, 64))
    square, whole = render(halved, SECONDS[::8], 64)
    assert np.abs(wide.astype(int) - square[:, :32]).max() <= 1
    np.testing.assert_array_equal(mask, whole[:, :32])


def test_a_scene_does_not_depend_on_the_shape_of_the_frame():
  for index in range(100):
    same = (synthetic.facts(index, size=size).caption for size in (1, 32, (9, 16)))
    assert len({*same}) == 1
  assert synthetic.facts(0, size=32) == synthetic.facts(0)
  source = MovingShapes(size=(9, 16), frames=2, fps=2, shorter_side=18)
  want = clip(7, size=(18, 32), frames=2, fps=2)['video'][:, 4:13, 8:24]
  np.testing.assert_array_equal(source[7]['video'], want)


def test_the_mask_is_where_the_colour_is_rather_than_the_background():
  for index in range(20):
    drawn = clip(index, **FORMAT)
    fore, back = (
      np.linalg.norm(drawn['video'] - np.array(table[name], float), axis=-1)
      for table, name in (
        (COLOURS, drawn['facts'].colour),
        (synthetic.BACKGROUNDS, drawn['facts'].background),
      )
    )
    sure = np.abs(fore - back) > 4  # not the pixels cut in halves
    np.testing.assert_array_equal(drawn['mask'][sure], (fore < back)[sure])


@pytest.mark.parametrize(
  ('motion', 'way'),
  [
    ('moving left', (-1, 0)),
    ('moving right', (1, 0)),
    ('moving up', (0, -1)),
    ('moving down', (0, 1)),
  ],
)
def test_moving_crosses_the_frame_at_constant_speed(motion, way):
  for drawn in clips(motion, 5, size=64):
    path = centre(drawn['mask'])
    line = path[:1] + np.linspace(0, 1, 80)[:, None] * (path[-1] - path[0])
    np.testing.assert_allclose(path, line, atol=1 / 64)
    moved = path[-1] - path[0]
    assert moved @ way > 0.22
    assert abs(moved @ way[::-1]) < 0.02


@pytest.mark.parametrize(('motion', 'sign'), [('growing', 1), ('shrinking', -1)])
def test_growing_more_than_doubles_the_radius(motion, sign):
  for drawn in clips(motion, 5, size=64):
    area = drawn['mask'].sum((1, 2)) ** float(sign)
    assert np.sqrt(area[-1] / area[0]) > 2
    assert (np.diff(np.log(area)) > -0.05).all()


def test_spinning_goes_round_a_point_off_the_centre():
  for drawn in clips('spinning', 5, size=64):
    facts = drawn['facts']
    arm = centre(drawn['mask']) - facts.start
    np.testing.assert_allclose(np.hypot(*arm.T), synthetic.ARM * facts.radii[0], atol=1 / 64)
    turns = np.ptp(np.unwrap(np.arctan2(arm[:, 1], arm[:, 0]))) / (2 * np.pi)
    assert turns == pytest.approx(abs(facts.turns) * 79 / 80, abs=0.05)
    assert 0.95 < turns < 1.5


def test_a_full_turn_is_no_turn():
  facts = still('triangle', 0.2, angle=0.3, turns=1.0)
  (first, half, last), _ = render(facts, np.array([0, 2.5, 5.0]), 32)
  assert np.abs(first.astype(int) - last).max() <= 1
  assert np.abs(first.astype(int) - half).max() > 100


def test_bouncing_returns_to_the_floor():
  for drawn in clips('bouncing', 5, size=64):
    facts = drawn['facts']
    path = centre(drawn['mask'])
    np.testing.assert_allclose(path[:, 0], path[0, 0], atol=1 / 64)
    height = path[0, 1] - path[:, 1]
    assert height.max() == pytest.approx(facts.leap, abs=1 / 64)
    landings = np.arange(1, int(facts.bounces) + 1) / facts.bounces * synthetic.DURATION
    inside = landings[landings < SECONDS[-1]]
    assert len(inside) >= 1
    np.testing.assert_allclose(np.interp(inside, SECONDS, height), 0, atol=0.05)


def test_standing_still_changes_nothing():
  for drawn in clips('standing still', 5):
    assert (drawn['video'] == drawn['video'][:1]).all()


def test_a_short_window_begins_at_any_moment():
  moments = []
  for drawn in clips('moving right', 60, frames=1, size=64):
    facts = drawn['facts']
    x = centre(drawn['mask'])[0, 0]
    moments.append((x - facts.start[0]) / (facts.end[0] - facts.start[0]))
  assert min(moments) < 0.15
  assert max(moments) > 0.8
  assert np.mean(moments) == pytest.approx(0.5 * (1 - 1 / 80), abs=0.15)  # 4 sigma


def test_a_window_shows_the_same_scene_at_the_same_rate():
  drawn = next(clips('moving down', 1, frames=16, size=64))
  facts = drawn['facts']
  speed = (facts.end[1] - facts.start[1]) / synthetic.DURATION
  path = centre(drawn['mask'])[:, 1]
  assert path[-1] - path[0] == pytest.approx(speed * 15 / 16, abs=1 / 64)


def test_more_frames_than_a_clip_has_are_refused():
  message = r'Got 81 frames at 16 a second; .* 1\.\.80 frames are allowed\.'
  with pytest.raises(ValueError, match=message):
    clip(0, size=32, frames=81, fps=16)
  with pytest.raises(ValueError, match=message):
    MovingShapes(size=32, frames=81, fps=16)


def test_the_source_is_read_at_random():
  source = MovingShapes(**FORMAT, length=3, seed=1)
  assert len(source) == 3
  want = clip(2, **FORMAT, seed=1)
  got = source[np.int64(2)]
  assert got.keys() == {'video', 'caption'}
  np.testing.assert_array_equal(got['video'], want['video'])
  assert got['caption'] == want['caption']
  with pytest.raises(IndexError, match=r'Got index 3 of a source of 3 clips\.'):
    source[3]
