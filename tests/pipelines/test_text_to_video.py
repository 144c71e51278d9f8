import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.condition import Condition
from diffusion import denoiser, sampler
from diffusion.process import Process, per_example
from diffusion.sampling import SAMPLERS, SPACINGS, video_keys
from pipelines.text_to_video import make_text_to_video

SHAPE = (4, 8, 8, 3)
OPTIONS = dict(sampler='ddim', steps=4, guidance=1.0)
PROCESS = Process('cosine', 0.0, 'x0')


def pull(params, xt, t, cond):
  """A network that outputs its text's mean, more surely the later it is."""
  text = jnp.mean(cond.text * cond.text_mask[..., None], axis=(1, 2))
  return params['w'] * per_example(text, xt) + 0.2 * jnp.tanh(xt) * per_example(t, xt)


def condition(*values):
  text = jnp.asarray(values, jnp.float32)[:, None, None] * jnp.ones((1, 2, 5))
  return Condition(text, jnp.ones((len(values), 2), bool))


def generate(*values, numbers=None, apply=pull, process=PROCESS, shape=SHAPE, seed=0, **options):
  make = make_text_to_video(apply, process, shape, **(OPTIONS | options))
  numbers = jnp.arange(len(values)) if numbers is None else jnp.asarray(numbers)
  return np.asarray(make({'w': jnp.ones(())}, condition(*values), video_keys(seed, numbers)))


@pytest.mark.parametrize('name', sorted(SAMPLERS))
def test_a_video_does_not_depend_on_its_batch(name):
  learned = lambda *inputs: jnp.concatenate([pull(*inputs), jnp.sin(pull(*inputs))], -1)
  together = generate(0.3, -0.5, 0.3, sampler=name, apply=learned)
  for i, value in enumerate((0.3, -0.5, 0.3)):
    alone = generate(value, numbers=[i], sampler=name, apply=learned)[0]
    np.testing.assert_allclose(together[i], alone, atol=1e-6)
  assert np.abs(together[0] - together[2]).max() > 0.01  # one prompt, two videos


def test_a_seed_says_all():
  np.testing.assert_array_equal(generate(0.3, seed=5), generate(0.3, seed=5))
  assert np.abs(generate(0.3, seed=5) - generate(0.3, seed=6)).max() > 0.01


def test_the_steps_are_the_samplers():
  """Written out by hand for one video."""
  key = jax.random.fold_in(jax.random.key(0), 7)
  first, key = jax.random.split(key)
  network = denoiser.network(pull, {'w': jnp.ones(())}, PROCESS)
  want = sampler.ddpm(
    denoiser.clipped(denoiser.guided(network, 3.0)),
    condition(0.3),
    jax.random.normal(first, (1, *SHAPE)),
    PROCESS,
    SPACINGS['even_angles'](PROCESS, 4),
    keys=key[None],
  )
  got = generate(0.3, numbers=[7], sampler='ddpm', guidance=3.0)
  np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize('spacing', ['even_angles', 'even_times'])
def test_gaussian_data_keeps_its_deviation(spacing):
  """The exact denoiser of N(0, s^2) carries noise to N(0, s^2)."""
  s, process = 0.3, Process('cosine', 0.0, 'x0')

  def exact(params, xt, t, cond):
    alpha, sigma = per_example(process.alpha(t), xt), per_example(process.sigma(t), xt)
    return alpha * s**2 / (alpha**2 * s**2 + sigma**2) * xt

  video = generate(
    0.0, apply=exact, process=process, shape=(8, 32, 32, 3), steps=64, spacing=spacing
  )
  np.testing.assert_allclose(video.std(), s, rtol=0.04)
  np.testing.assert_allclose(video.mean(), 0.0, atol=0.02)


def test_guidance_goes_from_no_text_through_the_text():
  """The network answers its text's mean, so that guidance multiplies it."""

  def answer(params, xt, t, cond):
    return pull(params, 0 * xt, t, cond) + 0 * xt

  for scale in (0.0, 1.0, 2.5):
    video = generate(0.2, apply=answer, guidance=scale)
    np.testing.assert_allclose(video, scale * 0.2, atol=1e-4)


@pytest.mark.parametrize(('threshold', 'want'), [('static', (1.0, 0.5)), ('dynamic', (1.0, 0.125))])
def test_thresholds_keep_x0_in_range(threshold, want):
  """Half of the pixels are 4 and half 0.5; dynamic thresholding divides by 4."""

  def steep(params, xt, t, cond):
    return jnp.broadcast_to(jnp.array([4.0, 0.5]).reshape(1, 1, 1, 1, 2), xt.shape)

  video = generate(0.0, apply=steep, shape=(1, 4, 4, 2), threshold=threshold)
  np.testing.assert_allclose(video, np.broadcast_to(want, video.shape), atol=1e-4)


def test_every_step_is_reported_once_whatever_the_batch():
  seen = []
  generate(0.1, 0.2, on_step=seen.append)
  jax.effects_barrier()
  assert sorted(seen) == [0, 1, 2, 3]


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      dict(sampler='euler'),
      r"Unknown sampler: 'euler'\.  Allowed: ddim, ddpm, ddpm_learned, ddpm_",
    ),
    (
      dict(threshold='soft'),
      r"Unknown threshold: 'soft'\.  Allowed: dynamic, dynamic_if, static\.",
    ),
    (
      dict(spacing='odd'),
      r"Unknown spacing: 'odd'\.  Allowed: even_angles, even_times, leading, leading_sd\.",
    ),
    (dict(steps=0), r'Got 0 steps; allowed is 1 or more\.'),
  ],
)
def test_what_is_not_allowed_is_named(options, message):
  with pytest.raises(ValueError, match=message):
    make_text_to_video(pull, PROCESS, SHAPE, **(OPTIONS | options))
