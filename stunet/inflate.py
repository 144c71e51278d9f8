"""Inflation: the parameters of a video model from those of an image model."""

import jax
import jax.numpy as jnp

from core.params import TEACHER, names, nest, transplant, without_teacher
from core.typing import Params
from stunet.adapters import ADAPTERS

# Names of the parameters that inflation adds; all others are those of the image model.
TEMPORAL = (r'(.*/)?temporal[^/]*/.*',)


def inflate(image: Params, video: Params) -> Params:
  """`video` with the spatial parameters of `image` (Lumiere, Sec. 3.1).

  Where the first convolution of the video model has more input channels, for a condition, their
  part of the kernel is zero (Sec. 4.2).  `image` can also be a video model, of which the temporal
  parameters are taken too.  If `video` has a teacher, `image` is that as well, and has all its
  parameters.  UserError, with a list of names, where parameters do not fit.
  """
  if TEACHER in video:
    teacher = jax.tree.map(jnp.copy, transplant(image, video[TEACHER], new=()))
    return {**inflate(image, without_teacher(video)), TEACHER: teacher}
  image, video_names = names(image), names(video)
  kernel = image.get('conv_in/kernel')
  wider = video_names.get('conv_in/kernel')
  if kernel is not None and wider is not None:
    extra = max(0, wider.shape[-2] - kernel.shape[-2])
    image['conv_in/kernel'] = jnp.pad(kernel, [(0, 0), (0, 0), (0, extra), (0, 0)])
  new = () if any('temporal' in name for name in image) else TEMPORAL
  return transplant(nest(image), video, new=(*new, *ADAPTERS))
