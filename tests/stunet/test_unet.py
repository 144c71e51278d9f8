"""The whole network: what inflation promises, who sees whom, and what is refused."""

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
from stunet.unet import STUNet, shuffle, unshuffle
from tests.conftest import SMALL, TINY, inputs
from tests.oracles import fresh, random_params, relative_error

# Each differs from the tiny model in what it names, and has no unit on the way down where it names
# none: together they have every option, and every factor N.
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
}
FEW = TINY | {'down_units': (0, 0)}
SPATIAL = (r'(?!(.*/)?temporal).*',)


def shapes_of(model, *inputs):
  return jax.eval_shape(model.init, jax.random.key(0), *inputs)['params']


@dataclasses.dataclass(frozen=True)
class Inflated:
  """A newly inflated model with perturbed spatial weights, and what the image model answers."""

  n: int
  x: jax.Array  # a clip of 2 n frames
  apply: Callable  # the video model's answer to a clip
  wanted: jax.Array  # the image model's to frames 0 and n of it


@pytest.fixture(scope='module', params=VARIANTS.values(), ids=VARIANTS)
def inflated(request):
  options = FEW | request.param
  image, video = STUNet(**options, temporal=False), STUNet(**options)
  n = video.temporal_factor
  x, t, cond = inputs(frames=2 * n)
  cond = cond.replace(level=t / 2 if video.noise_level_embedding else None)
  params = random_params(shapes_of(image, x[:, :1], t, cond))

  # The video model is widened, too, by a condition which the image model does not have.
  noise = jnp.asarray(np.random.default_rng(1).normal(size=(*x.shape[:4], 4)), jnp.float32)
  wide = cond.replace(frames=noise)
  random = random_params(shapes_of(video, x, t, wide))
  inserted = fresh(video, x, t, wide, of=lambda params: partition(params, TEMPORAL)[0])
  born = inflate(params, nest(names(random) | names(inserted)))
  beside = lambda x: wide.replace(frames=noise[:, : x.shape[1]])
  apply = lambda x: video.apply({'params': born}, x, t, beside(x))

  frames = rearrange(x[:, ::n], 'b t h w c -> (b t) 1 h w c')
  told = jax.tree.map(lambda a: repeat(a, 'b ... -> (b t) ...', t=2), (t, cond))
  wanted = jax.jit(image.apply)({'params': params}, frames, *told)
  return Inflated(n, x, jax.jit(apply), rearrange(wanted, '(b t) 1 h w c -> b t h w c', t=2))


def test_a_static_clip_is_the_image_models_answer_in_every_frame(inflated):
  got = inflated.apply(jnp.repeat(inflated.x[:, :1], 2 * inflated.n, 1))
  assert got.shape[1] == 2 * inflated.n
  for k in range(2 * inflated.n):
    assert relative_error(got[:, k], inflated.wanted[:, 0]) <= 1e-5


def test_every_nth_frame_of_any_clip_is_the_image_models_answer(inflated):
  got, wanted = inflated.apply(inflated.x), inflated.wanted
  assert relative_error(wanted[:, 0], wanted[:, 1]) > 0.1
  for k in range(2):
    assert relative_error(got[:, k * inflated.n], wanted[:, k]) <= 1e-5


@pytest.mark.parametrize('inflated', [next(iter(VARIANTS.values()))], indirect=True, ids=['N=2'])
def test_one_frame_is_the_image_models_answer(inflated):
  assert relative_error(inflated.apply(inflated.x[:, :1]), inflated.wanted[:, :1]) <= 1e-5


@pytest.mark.parametrize('options', VARIANTS.values(), ids=VARIANTS)
def test_all_that_is_inserted_is_named_temporal_and_nothing_else(options):
  options = TINY | options
  x, t, cond = inputs(frames=8)
  cond = cond.replace(level=t if options.get('noise_level_embedding') else None)
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


def test_what_a_clip_is_told_reaches_no_other(tiny):
  before = tiny.apply(tiny.params, *tiny.inputs)
  text = tiny.cond.text.at[1, 0].add(1)
  for told in ((tiny.t, tiny.cond.replace(text=text)), (tiny.t.at[1].add(0.05), tiny.cond)):
    after = tiny.apply(tiny.params, tiny.x, *told)
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
  assert 1e-4 < error < 0.05  # not none: then nothing would be computed in bfloat16


def test_recomputation_changes_no_gradient():
  x, *told = inputs(b=1, frames=2)
  # Two units, since compiling gradients takes long.
  options = SMALL | {'attention': ('none',), 'up_units': (0,)}
  params = random_params(shapes_of(STUNet(**options), x, *told))

  def loss(remat):
    model = STUNet(**options, remat=remat)
    return lambda params: jnp.mean(model.apply({'params': params}, x, *told) ** 2)

  want, got = (jax.jit(jax.grad(loss(remat)))(params) for remat in (False, True))
  for name, gradient in names(want).items():
    np.testing.assert_allclose(names(got)[name], gradient, rtol=1e-4, atol=1e-6, err_msg=name)
  steps = [str(jax.make_jaxpr(jax.grad(loss(remat)))(params)) for remat in (False, True)]
  assert [' remat' in step for step in steps] == [False, True]
  convolutions = [step.count('conv_general_dilated[') for step in steps]
  assert convolutions[0] == convolutions[1] > 0  # they are kept


@pytest.mark.parametrize('frames', [1, 4, 8, 12])
def test_any_multiple_of_the_factor_makes_a_clip(frames):
  model = STUNet(**TINY | {'temporal_strides': (1, 4), 'out_channels': 6})
  example = inputs(frames=frames)
  shapes = shapes_of(model, *inputs(frames=4))
  got = jax.eval_shape(model.apply, {'params': shapes}, *example)
  assert (got.shape, got.dtype) == ((2, frames, 8, 8, 6), jnp.float32)


@pytest.mark.parametrize(
  ('frames', 'nearest'), [(0, '1 or 4'), (2, '1 or 4'), (6, '4 or 8'), (79, '76 or 80')]
)
def test_other_counts_of_frames_are_told_the_nearest(frames, nearest):
  model = STUNet(**TINY | {'temporal_strides': (1, 4)})
  with pytest.raises(ValueError, match='temporal factor') as error:
    model.check_frames(frames)
  assert str(error.value) == (
    f'{frames} frames do not divide by the temporal factor 4 of the model: use 1 or a multiple of '
    f'4; the nearest are {nearest}.'
  )


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'up_units': (1,)}, "2 levels in channels, but not in ['up_units']."),
    (
      {'temporal_attentions': (1,)},
      "2 levels in channels, but not in ['temporal_attentions'].",
    ),
    (
      {'temporal_strides': (1, 2, 2), 'attention': ('joint',)},
      "2 levels in channels, but not in ['attention', 'temporal_strides'].",
    ),
    ({'up_units': (3, 1)}, 'Level 0 has 3 up_units; its down_units allow at most 2.'),
    (
      {'attention': ('none', 'self')},
      "attention is 'self'; allowed are cross, joint, none.",
    ),
    ({'resample': 'pool'}, "resample is 'pool'; allowed are conv, residual."),
    ({'attend_after': 'block'}, "attend_after is 'block'; allowed are level, unit."),
    ({'activation': 'relu'}, "activation is 'relu'; allowed are gelu, silu."),
    ({'groups': 3}, 'Level 0 has 8 channels, which do not divide by groups=3.'),
    ({'head_features': 6}, 'Level 1 has 16 channels, which do not divide by head_features=6.'),
    ({'patch': 3}, 'Frames of 8x8 pixels do not divide by 6.'),
    (
      {'temporal_strides': (2, 2)},
      'temporal_strides begins with 2; it must be 1, because nothing is resampled before level 0.',
    ),
    (
      {'noise_level_embedding': True},
      'The condition has a noise level if and only if the model embeds one.',
    ),
  ],
)
def test_a_wrong_config_is_refused(options, message):
  with pytest.raises(ValueError, match=r'.+') as error:
    shapes_of(STUNet(**TINY | options), *inputs())
  assert str(error.value) == message


def test_a_noise_level_without_its_embedding_is_refused():
  x, t, cond = inputs()
  with pytest.raises(ValueError, match='if and only if the model embeds one'):
    shapes_of(STUNet(**TINY), x, t, cond.replace(level=t))


def test_unshuffle_makes_channels_of_the_pixels_of_a_patch():
  x = jnp.arange(2 * 4 * 6 * 3).reshape(1, 2, 4, 6, 3).astype(jnp.float32)
  y = unshuffle(x, 2)
  assert y.shape == (1, 2, 2, 3, 12)
  for i, j, p, q, c in np.ndindex(2, 3, 2, 2, 3):
    np.testing.assert_array_equal(
      y[0, :, i, j, 6 * p + 3 * q + c], x[0, :, 2 * i + p, 2 * j + q, c]
    )
  np.testing.assert_array_equal(shuffle(y, 2), x)


def test_no_mask_is_a_mask_of_all():
  x, t, cond = inputs(frames=1)
  model, every = (
    STUNet(**SMALL, temporal=False),
    Condition(cond.text, jnp.ones_like(cond.text_mask)),
  )
  params = random_params(shapes_of(model, x, t, every))
  apply = jax.jit(lambda cond: model.apply({'params': params}, x, t, cond))
  assert relative_error(apply(Condition(cond.text)), apply(every)) < 1e-6
