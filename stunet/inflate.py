"""From text-to-image to text-to-video, and from one condition to another."""

import jax.numpy as jnp

from core.params import names, nest, transplant
from core.typing import Params
from stunet.adapters import ADAPTERS

# Names of all that inflation adds; what does not match is the image model's.
TEMPORAL = (r'(.*/)?temporal[^/]*/.*',)


def inflate(image: Params, video: Params) -> Params:
  """Video parameters whose spatial part is the image model's (Lumiere, Sec. 3.1).

  Where the video model's first convolution has more input channels, for a condition, they are zero
  (Sec. 4.2).  A video model that is already inflated can be widened the same way.  Parameters which
  fit neither are a ValueError that lists their names.
  """
  image, video_names = names(image), names(video)
  kernel = image.get('conv_in/kernel')
  wide = video_names.get('conv_in/kernel')
  if kernel is not None and wide is not None:
    extra = max(0, wide.shape[-2] - kernel.shape[-2])
    image['conv_in/kernel'] = jnp.pad(kernel, [(0, 0), (0, 0), (0, extra), (0, 0)])
  new = () if any('temporal' in name for name in image) else TEMPORAL
  return transplant(nest(image), video, new=(*new, *ADAPTERS))
