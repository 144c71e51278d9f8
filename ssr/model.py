"""The network of super-resolution: an STUNet conditioned on the low-resolution video.

The network is the same as for other stages; only its input differs.  It embeds the noise level of
the low-resolution video.  Its config has the arrangement of the Efficient U-Net (Imagen, App. B.1):
it downsamples first, has most blocks at low resolution and no self-attention, so that it can be
trained on crops and applied to whole frames.
"""

from collections.abc import Callable

from ssr.degrade import upsample


def with_upsampled_low_res(apply: Callable) -> Callable:
  """`apply(params, xt, t, cond)` of a network that gets `cond.low_res` at the size of `xt`.

  The low-resolution video is upsampled here and nowhere before, so that it takes little memory,
  in windows, and when it is noised.
  """

  def upsampled(params, xt, t, cond):
    return apply(params, xt, t, cond.replace(low_res=upsample(cond.low_res, *xt.shape[2:4])))

  return upsampled


def adding_low_res(apply: Callable) -> Callable:
  """The same for a network that predicts the difference between x_0 and the upsampled
  `cond.low_res`.

  The prediction is right from the beginning wherever a video is smooth, so that a small network has
  to learn edges alone (Li et al., 2022, "SRDiff").
  """

  def upsampled(params, xt, t, cond):
    low_res = upsample(cond.low_res, *xt.shape[2:4])
    return low_res + apply(params, xt, t, cond.replace(low_res=low_res))

  return upsampled
