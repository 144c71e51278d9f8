"""The whole network: what inflation guarantees, and which inputs an output depends on."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange, repeat

from core.condition import Condition
from core.params import matches, names, nest, partition
from stunet.inflate import TEMPORAL, inflate
from stunet.unet import STUNet
from tests.conftest import SMALL, TINY, inputs
from tests.oracles import fresh, random_params, relative_error

# Differences from the tiny model, without units on the way down unless a variant has some: together
# they have every option and every temporal factor N.
VARIANTS = {
  'N=2, resampling in blocks': {},
  'N=4, strided convs, patches, scale and shift, learned variance': {
    'temporal_strides': (1, 4),
    'resample': 'conv',
    'patch': 2,
    'temporal_scale_shift': True,
    'temporal_attentions': (1, 2),
    'activation': 'silu',
    'out_channels': 6,
    'skip_scale': 0.5**0.5,
    'residual_scale': 0.5**0.5,
  },
  'N=8, cross attention once a level': {
    'temporal_strides': (1, 8),
    'attention': ('cross', 'cross'),
    'attend_after': 'level',
    'down_units': (0, 1),
    'up_units': (1, 2),
    'text_features': 12,
  },
  'N=1, noise level': {
    'temporal_strides': (1, 1),
    'noise_level_embedding': True,
    'emb_features': 24,
  },
  'N=2, as Stable Diffusion': {
    'attention': ('transformer', 'none'),
    'middle_attention': 'transformer',
    'heads': 2,
    'transformer_projection': 'dense',
    'resample': 'conv_after',
    'pool_text': False,
    'embedding': 'add',
    'activation': 'silu',
    'out_channels': 4,
  },
}
# The height and width of frames, with the options of a model.
SIZES = {name: ((8, 8), options) for name, options in VARIANTS.items()}
SIZES['N=4, frames that are wide'] = (8, 20), VARIANTS[[*VARIANTS][1]]
SIZES['N=2, as Stable Diffusion'] = (7, 5), VARIANTS['N=2, as Stable Diffusion']
FEW = TINY | {'down_units': (0, 0)}
SPATIAL = (r'(?!(.*/)?temporal).*',)


def shapes_of(model, *inputs):
  return jax.eval_shape(model.init, jax.random.key(0), *inputs)['params']


@dataclasses.dataclass(frozen=True)
class Inflated:
  """A newly inflated model with random spatial parameters, and outputs of the image model."""

  n: int
  x: jax.Array  # a clip of 2 n frames
  apply: Callable  # the video model, as a function of a clip
  image: jax.Array  # the image model's output for frames 0 and n of the clip


@pytest.fixture(scope='module', params=SIZES.values(), ids=SIZES)
def inflated(request):
  size, options = request.param
  options = FEW | options
  image, video = STUNet(**options, temporal=False), STUNet(**options)
  n = video.temporal_factor
  x, t, cond = inputs(frames=2 * n, size=size)
  cond = cond.replace(noise_level=t / 2 if video.noise_level_embedding else None)
  params = random_params(shapes_of(image, x[:, :1], t, cond))

  # The video model's first convolution is wider, for a condition that the image model lacks.
  noise = jnp.asarray(np.random.default_rng(1).normal(size=(*x.shape[:4], 4)), jnp.float32)
  wide = cond.replace(masked_video=noise[..., :3], mask=noise[..., 3:])
  random = random_params(shapes_of(video, x, t, wide))
  inserted = fresh(video, x, t, wide, select=lambda params: partition(params, TEMPORAL)[0])
  inflated = inflate(params, nest(names(random) | names(inserted)))

  def apply(x):
    first = {name: v[:, : x.shape[1]] for name, v in wide.videos.items()}
    return video.apply({'params': inflated}, x, t, wide.replace(**first))

  frames = rearrange(x[:, ::n], 'b t h w c -> (b t) 1 h w c')
  conditions = jax.tree.map(lambda a: repeat(a, 'b ... -> (b t) ...', t=2), (t, cond))
  frames = jax.jit(image.apply)({'params': params}, frames, *conditions)
  return Inflated(n, x, jax.jit(apply), rearrange(frames, '(b t) 1 h w c -> b t h w c', t=2))


def test_every_frame_of_a_static_clip_is_the_image_models_output(inflated):
  got = inflated.apply(jnp.repeat(inflated.x[:, :1], 2 * inflated.n, 1))
  assert got.shape[1] == 2 * inflated.n
  for k in range(2 * inflated.n):
    assert relative_error(got[:, k], inflated.image[:, 0]) <= 1e-5


def test_every_nth_frame_of_any_clip_is_the_image_models_output(inflated):
  got, wanted = inflated.apply(inflated.x), inflated.image
  assert relative_error(wanted[:, 0], wanted[:, 1]) > 0.1
  for k in range(2):
    assert relative_error(got[:, k * inflated.n], wanted[:, k]) <= 1e-5


def test_of_every_fourth_frame_the_coarse_levels_compute_what_they_do_of_all():
  """A model of all frames, whose finest level is still the image model's and whose resampling in
  time is new, gets every frame four times: it has the output of the model of every fourth frame."""
  options = FEW | {
    'channels': (16, 16, 32), 'down_units': (1, 1, 1), 'up_units': (1, 1, 1),
    'attention': ('none', 'joint', 'joint'), 'temporal_strides': (1, 4, 2),
    'temporal_attentions': (0, 1, 1), 'temporal_scale_shift': True,
  }  # fmt: skip
  every, fourth = STUNet(**options), STUNet(**options, frame_step=4)
  assert (every.temporal_factor, fourth.temporal_factor) == (8, 2)
  x, t, cond = inputs(frames=4)
  shapes = shapes_of(fourth, x, t, cond)
  assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(
    jnp.shape, shapes_of(every, jnp.repeat(x, 4, 1), t, cond)
  )
  params = names(random_params(shapes))
  first = fresh(fourth, x, t, cond, select=lambda params: params)
  at_init = (r'(down|up)0_.*/temporal.*', r'temporal_(down|up).*')
  params = nest({n: names(first)[n] if matches(n, at_init) else p for n, p in params.items()})
  want = jax.jit(fourth.apply)({'params': params}, x, t, cond)
  got = jax.jit(every.apply)({'params': params}, jnp.repeat(x, 4, 1), t, cond)
  assert relative_error(want[:, 0], want[:, 1]) > 0.1
  for k in range(4):
    assert relative_error(got[:, k::4], want) <= 1e-5


@pytest.mark.parametrize('inflated', [next(iter(SIZES.values()))], indirect=True, ids=['N=2'])
def test_one_frame_is_the_image_models_output(inflated):
  assert relative_error(inflated.apply(inflated.x[:, :1]), inflated.image[:, :1]) <= 1e-5


@pytest.mark.parametrize('options', VARIANTS.values(), ids=VARIANTS)
def test_exactly_the_inserted_parameters_are_named_temporal(options):
  options = TINY | options
  x, t, cond = inputs(frames=8)
  cond = cond.replace(noise_level=t if options.get('noise_level_embedding') else None)
  models = (STUNet(**options, temporal=temporal) for temporal in (False, True))
  image, video = (names(random_params(shapes_of(model, x, t, cond))) for model in models)
  inserted = video.keys() - image.keys()
  assert image.keys() < video.keys()
  assert inserted == {name for name in video if matches(name, TEMPORAL)}
  assert inserted == {name for name in video if 'temporal' in name}


def test_the_image_model_sees_every_frame_alone(tiny):
  image = STUNet(**TINY, temporal=False)
  params = partition(tiny.params, SPATIAL)[0]
  apply = jax.jit(lambda x: image.apply({'params': params}, x, tiny.t, tiny.cond))
  before, after = apply(tiny.x), apply(tiny.x.at[:, 2].multiply(10))
  np.testing.assert_array_equal(np.delete(before, 2, 1), np.delete(after, 2, 1))
  assert relative_error(after[:, 2], before[:, 2]) > 0.1


def test_the_video_model_sees_all_frames_of_one_clip(tiny):
  before = tiny.apply(tiny.params, *tiny.inputs)
  after = tiny.apply(tiny.params, tiny.x.at[1, 3].add(1), tiny.t, tiny.cond)
  np.testing.assert_array_equal(before[0], after[0])
  assert jnp.abs(before[1] - after[1]).max((1, 2, 3)).min() > 1e-4


def test_the_condition_of_a_clip_affects_no_other(tiny):
  before = tiny.apply(tiny.params, *tiny.inputs)
  text = tiny.cond.text.at[1, 0].add(1)
  for t, cond in ((tiny.t, tiny.cond.replace(text=text)), (tiny.t.at[1].add(0.05), tiny.cond)):
    after = tiny.apply(tiny.params, tiny.x, t, cond)
    np.testing.assert_array_equal(before[0], after[0])
    assert relative_error(after[1], before[1]) > 1e-3


def test_a_masked_token_changes_nothing(tiny):
  before = tiny.apply(tiny.params, *tiny.inputs)
  cond = tiny.cond.replace(text=tiny.cond.text.at[:, 2].set(7))
  np.testing.assert_array_equal(tiny.apply(tiny.params, tiny.x, tiny.t, cond), before)


def test_bfloat16_is_close_to_float32_and_keeps_its_parameters(tiny):
  model = STUNet(**TINY, dtype='bfloat16')
  shapes = shapes_of(model, *tiny.inputs)
  assert {p.dtype for p in jax.tree.leaves(shapes)} == {jnp.dtype('float32')}
  got = jax.jit(model.apply)({'params': tiny.params}, *tiny.inputs)
  assert got.dtype == jnp.float32
  error = relative_error(got, tiny.apply(tiny.params, *tiny.inputs))
  assert 1e-4 < error < 0.05  # without any error nothing would be computed in bfloat16


def test_recomputation_changes_no_gradient():
  example = inputs(b=1, frames=2)
  # Two units, since compiling gradients takes long.
  options = SMALL | {'attention': ('none',), 'up_units': (0,)}
  params = random_params(shapes_of(STUNet(**options), *example))

  def loss(remat):
    model = STUNet(**options, remat=remat)
    return lambda params: jnp.mean(model.apply({'params': params}, *example) ** 2)

  want, got = (jax.jit(jax.grad(loss(remat)))(params) for remat in (False, True))
  for name, gradient in names(want).items():
    np.testing.assert_allclose(names(got)[name], gradient, rtol=1e-4, atol=1e-6, err_msg=name)
  steps = [str(jax.make_jaxpr(jax.grad(loss(remat)))(params)) for remat in (False, True)]
  assert [' remat' in step for step in steps] == [False, True]
  convolutions = [step.count('conv_general_dilated[') for step in steps]
  assert convolutions[0] == convolutions[1] > 0  # they are saved, not recomputed


@pytest.mark.parametrize('frames', [1, 4, 8, 12])
def test_any_multiple_of_the_factor_makes_a_clip(frames):
  model = STUNet(**TINY | {'temporal_strides': (1, 4), 'out_channels': 6})
  example = inputs(frames=frames)
  shapes = shapes_of(model, *inputs(frames=4))
  got = jax.eval_shape(model.apply, {'params': shapes}, *example)
  assert (got.shape, got.dtype) == ((2, frames, 8, 8, 6), jnp.float32)


def test_no_mask_is_a_mask_that_is_true_everywhere():
  x, t, cond = inputs(frames=1)
  model, every = (
    STUNet(**SMALL, temporal=False),
    Condition(cond.text, jnp.ones_like(cond.text_mask)),
  )
  params = random_params(shapes_of(model, x, t, every))
  apply = jax.jit(lambda cond: model.apply({'params': params}, x, t, cond))
  assert relative_error(apply(Condition(cond.text)), apply(every)) < 1e-6
