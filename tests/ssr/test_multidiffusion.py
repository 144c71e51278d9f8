"""Many windows, one video: what it is, and what it costs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.condition import Condition
from core.sharding import make_mesh, over_batch
from diffusion.denoiser import guided
from diffusion.process import Process, per_example
from diffusion.sampling import video_keys
from pipelines.cascade import make_super_resolution
from ssr.model import with_upsampled_low_res
from ssr.multidiffusion import coverage, over_windows, starts, weights

MESH = (('data', -1), ('fsdp', 1))


def example(frames, b=2, seed=0, height=2, width=2):
  """Noisy videos of which all differs: times, texts, low-resolution frames and noise levels."""
  rng = np.random.default_rng(seed)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  text, mask = normal(b, 3, 4), jnp.asarray([[True, True, False]] * b)
  low_res, level = normal(b, frames, 1, 1, 3), jnp.linspace(0.1, 0.6, b)
  cond = Condition(text, mask, low_res=low_res, noise_level=level)
  return normal(b, frames, height, width, 3), jnp.linspace(0.2, 0.9, b), cond


def framewise(xt, t, cond):
  """Answers for every frame by that frame, its small one, and all that is no frame."""
  text = (cond.text * cond.text_mask[..., None]).sum((1, 2))
  return jnp.tanh(xt * per_example(1 + t, xt)) + cond.low_res * per_example(
    text + cond.noise_level, xt
  )


def together(xt, t, cond):
  """Answers for every frame by its place in the window, and by all others of it."""
  place = jnp.arange(xt.shape[1], dtype=jnp.float32)[None, :, None, None, None]
  return framewise(xt, t, cond) + jnp.cumsum(xt**2 + cond.low_res, 1) * jnp.cos(place)


def first_frames(frames, window, overlap):
  """Where windows begin, one after the other, until one reaches the end."""
  first = [0]
  while first[-1] + window < frames:
    first.append(min(first[-1] + window - overlap, frames - window))
  return first


def trapezium(window, overlap):
  """Up over the frames shared with the window before, down over those shared with the next."""
  return np.array([min(k + 1, window - k, overlap + 1) / (overlap + 1) for k in range(window)])


def nearest_to_all(denoiser, xt, t, cond, window, overlap):
  """The video J of the least  sum_i || W (J_(i) - Phi(J_(i))) ||^2,  by its matrix, in float64."""
  frames = xt.shape[1]
  cuts = [np.arange(i, i + window) for i in first_frames(frames, window, overlap)]
  answers = [denoiser(xt[:, cut], t, cond.replace(low_res=cond.low_res[:, cut])) for cut in cuts]
  w = np.sqrt(trapezium(window, overlap))
  matrix = np.concatenate([w[:, None] * np.eye(frames)[cut] for cut in cuts])
  weighed = lambda a: w[:, None, None, None, None] * np.moveaxis(np.float64(a), 1, 0)
  answers = np.concatenate([weighed(a) for a in answers])
  video = np.linalg.lstsq(matrix, answers.reshape(len(matrix), -1), rcond=None)[0]
  return np.moveaxis(video.reshape(frames, *answers.shape[1:]), 0, 1)


# Frames, window and overlap: every extreme of one with those of the others.
WINDOWS = [
  (5, 3, 1),
  (5, 3, 2),
  (5, 5, 4),
  (41, 41, 40),
  (42, 41, 1),
  (43, 41, 40),
  (80, 8, 2),
  (80, 15, 14),
  (83, 8, 0),
  (400, 3, 1),
  (400, 3, 2),
  (400, 41, 1),
  (400, 41, 40),
]


@pytest.mark.parametrize(('frames', 'window', 'overlap'), WINDOWS)
def test_windows_of_what_sees_one_frame_are_the_whole(frames, window, overlap):
  inputs = example(frames)
  got = jax.jit(over_windows(framewise, window=window, overlap=overlap))(*inputs)
  np.testing.assert_allclose(got, framewise(*inputs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(('frames', 'window', 'overlap'), [(7, 4, 3), (9, 4, 1), (6, 3, 0)])
@pytest.mark.parametrize('scale', [1.0, 3.0])
def test_windows_are_the_video_nearest_to_all_answers(frames, window, overlap, scale):
  inputs = example(frames)
  got = over_windows(guided(together, scale), window=window, overlap=overlap)

  def by_hand(xt, t, cond):
    with_text, without = together(xt, t, cond), together(xt, t, cond.without_text())
    return without + scale * (with_text - without)

  want = nearest_to_all(by_hand, *inputs, window, overlap)
  assert np.abs(want - by_hand(*inputs)).max() > 0.1  # what a window does not see matters
  np.testing.assert_allclose(jax.jit(got)(*inputs), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('height', 'width'), [(2, 5), (3, 1)])
def test_frames_of_windows_have_any_shape(height, width):
  inputs = example(9, height=height, width=width)
  got = jax.jit(over_windows(together, window=4, overlap=1))(*inputs)
  want = nearest_to_all(together, *inputs, window=4, overlap=1)
  assert got.shape == (2, 9, height, width, 3)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@functools.cache
def one_after_the_other(scale):
  denoiser = over_windows(guided(together, scale), window=4, overlap=1)
  return jax.jit(denoiser)(*example(20))


# Of 7 windows, the last are fewer than those at once, just as many, or none of some devices'.
@pytest.mark.parametrize('scale', [1.0, 3.0])
@pytest.mark.parametrize(('at_once', 'spread'), [(2, 0), (3, 0), (7, 0), (9, 0), (8, 1), (16, 1)])
def test_windows_at_once_are_windows_one_after_the_other(at_once, spread, scale):
  sharding = over_batch(make_mesh(MESH)) if spread else None
  options = dict(window=4, overlap=1, at_once=at_once, sharding=sharding)
  got = jax.jit(over_windows(guided(together, scale), **options))(*example(20))
  np.testing.assert_allclose(got, one_after_the_other(scale), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ('frames', 'window', 'overlap'), [(5, 5, 4), (5, 6, 2), (5, 41, 1), (1, 8, 2)]
)
def test_a_video_no_longer_than_a_window_is_one(frames, window, overlap):
  inputs = example(frames)
  got = jax.jit(over_windows(together, window=window, overlap=overlap))(*inputs)
  np.testing.assert_allclose(got, together(*inputs), rtol=1e-6, atol=1e-6)


def test_small_frames_may_be_absent():
  xt, t, cond = example(5)
  denoiser = lambda xt, t, cond: xt * per_example(t, xt)
  got = over_windows(denoiser, window=3, overlap=1)(xt, t, cond.replace(low_res=None))
  np.testing.assert_allclose(got, denoiser(xt, t, cond), rtol=1e-6)


def test_windows_begin_evenly_and_the_last_is_moved_back():
  for frames in (*range(5, 90), 160, 399, 400):  # for every window, and whatever is left at the end
    for window in range(3, min(41, frames) + 1):
      for overlap in range(window):
        first = starts(frames, window, overlap)
        assert first.tolist() == first_frames(frames, window, overlap)


@pytest.mark.parametrize('frames', [5, 41, 80, 400])
def test_the_weights_of_all_windows_are_summed(frames):
  at = np.arange(frames)
  for window in range(3, min(41, frames) + 1):
    for overlap in range(window):
      first = np.array(first_frames(frames, window, overlap))[:, None]
      inside = (first <= at) & (at < first + window)
      weight = trapezium(window, overlap)[np.where(inside, at - first, 0)]
      got = coverage(frames, window, overlap)
      np.testing.assert_allclose(got, (inside * weight).sum(0), rtol=1e-12)
      assert got.min() > 0


def test_where_two_windows_overlap_weights_add_up_to_one():
  np.testing.assert_allclose(weights(8, 2), np.array([1, 2, 3, 3, 3, 3, 2, 1]) / 3)
  np.testing.assert_allclose(coverage(80, 8, 2)[2:-2], 1)
  np.testing.assert_array_equal(weights(8, 0), 1)


def test_the_windows_of_80_frames():
  np.testing.assert_array_equal(starts(80, 8, 2), np.arange(13) * 6)
  np.testing.assert_array_equal(starts(81, 8, 2), [*np.arange(13) * 6, 73])
  evenly = {w for w in range(3, 81) if all(np.diff(starts(80, w, 2)) == w - 2)}
  assert evenly == {3, 4, 5, 8, 15, 28, 41, 80}


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ((4, 4), 'Got an overlap of 4 frames; allowed is 0 to 3, as a window has 4.'),
    ((4, -1), 'Got an overlap of -1 frames; allowed is 0 to 3, as a window has 4.'),
    ((0, 0), 'Got a window of 0 frames; allowed is 1 or more.'),
    ((4, 1, 0), 'Got 0 windows at once; allowed is 1 or more.'),
  ],
)
def test_what_no_video_allows_is_named_before_there_is_one(options, message):
  options = dict(zip(('window', 'overlap', 'at_once'), options))
  with pytest.raises(ValueError, match='Got') as error:
    over_windows(framewise, **options)
  assert str(error.value) == message


def test_a_video_has_more_frames_than_windows_share():
  message = r'Got an overlap of 5 frames in a video of 5; allowed is 0 to 4\.'
  with pytest.raises(ValueError, match=message):
    over_windows(framewise, window=8, overlap=5)(*example(5))


def test_a_window_longer_than_the_video_has_no_starts():
  with pytest.raises(ValueError, match=r'Got a window of 6 frames; allowed is 1 to 5, the'):
    starts(5, 6, 2)


# What it costs, with a network whose features are many times a window's pixels.
SIDE, FEATURES = 8, 96
SHAPES = {'in': (3, 3, 6, FEATURES), 'mid': (3, 3, FEATURES, FEATURES), 'out': (3, 3, FEATURES, 3)}
PARAMS = {name: jnp.ones(shape) for name, shape in SHAPES.items()}


def convolutions(params, xt, t, cond):
  axes = ('NHWC', 'HWIO', 'NHWC')
  conv = lambda x, name: jax.lax.conv_general_dilated(
    x, params[name], (1, 1), 'SAME', dimension_numbers=axes
  )
  x = jnp.concatenate([xt, cond.low_res], -1).reshape(-1, SIDE, SIDE, 6)
  return conv(jnp.tanh(conv(jnp.tanh(conv(x, 'in')), 'mid')), 'out').reshape(xt.shape)


def compile(function, *inputs):
  return jax.jit(function).lower(*inputs).compile()


@pytest.mark.parametrize('guidance', [1.0, 3.0])
def test_memory_does_not_grow_with_the_number_of_windows(guidance):
  """But by three videos: x_t, which is made in the place of the result and is not counted, the
  sum of windows, and the x_0 of the step before, which DPM-Solver++ 2M keeps.  The small one is
  noised, and so kept once more.

  The first noise takes four for a moment; a window's features, of which there are none yet, take
  more than those here.
  """
  upscale = make_super_resolution(
    with_upsampled_low_res(convolutions), Process(prediction='x0'), (SIDE, SIDE), window=8,
    overlap=2, at_once=1, guidance=guidance, aug_level=0.1, sampler='dpmpp_2m', steps=4,
  )  # fmt: skip
  frame = SIDE**2 * 3 * 4
  kept = 2 * frame + frame / 4**2

  def besides_videos(frames):
    small = jnp.zeros((1, frames, SIDE // 4, SIDE // 4, 3))
    cond = Condition(jnp.ones((1, 2, 5)), jnp.ones((1, 2), bool), low_res=small)
    memory = compile(upscale, PARAMS, cond, video_keys(0, jnp.arange(1))).memory_analysis()
    assert memory.output_size_in_bytes == frames * frame
    return memory.temp_size_in_bytes - frames * kept

  few, more, most = map(besides_videos, (40, 80, 160))
  assert few > 8 * 4 * SIDE**2 * FEATURES  # the features of a window
  assert more <= 1.05 * few
  assert most <= 1.05 * few


@pytest.mark.parametrize('scale', [1.0, 3.0])
def test_eight_devices_share_the_work_evenly(scale):
  """13 windows are 2 for each of 8 devices, of which 3 count for nothing: 16 / 13 = 1.23."""
  video = jnp.zeros((1, 80, SIDE, SIDE, 3))
  inputs = video, jnp.ones(1), Condition(jnp.ones((1, 2, 5)), low_res=video)

  def flops(at_once, sharding=None):
    """Of one device, in one trip of the loop over windows, which is all there are."""
    denoiser = guided(functools.partial(convolutions, PARAMS), scale)
    options = dict(window=8, overlap=2, at_once=at_once, sharding=sharding)
    return compile(over_windows(denoiser, **options), *inputs).cost_analysis()['flops']

  alone = flops(13)
  answers = 13 * 8 if scale == 1 else 2 * 13 * 8
  products = sum(np.prod(shape) for shape in SHAPES.values()) * SIDE**2
  assert 0.8 < alone / (2 * products * answers) < 1.1  # some products are with zeros beyond edges
  assert flops(16, over_batch(make_mesh(MESH))) <= 1.25 / 8 * alone


def test_what_is_said_of_a_variance_is_averaged_like_frames():
  xt, t, cond = example(9)

  def both(xt, t, cond):
    return jnp.concatenate([together(xt, t, cond), framewise(xt, t, cond)], -1)

  answer = lambda denoiser, **o: over_windows(denoiser, window=4, overlap=1, **o)(xt, t, cond)
  got = answer(both, learned=True)
  np.testing.assert_allclose(got[..., :3], answer(together), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(got[..., 3:], answer(framewise), rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(answer(both), got[..., :3])  # and is left out where it isn't wanted
