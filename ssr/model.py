"""The network of super-resolution: an STUNet that sees the small video beside the noisy large one.

Nothing but its input is new.  It embeds the level to which the small frames were noised, and has
the arrangement of the Efficient U-Net (Imagen, App. B.1): downsampling first, most blocks at low
resolution, no self-attention, so that it is trained on crops and runs on whole frames.
"""

from collections.abc import Callable

from ssr.degrade import upsample


def beside_upsampled(apply: Callable) -> Callable:
  """`apply(params, xt, t, cond)` of a network that is given `cond.frames` at the size of `xt`.

  Upsampling them here keeps them small elsewhere: in memory, in windows, and when noised.
  """

  def upsampled(params, xt, t, cond):
    return apply(params, xt, t, cond.replace(frames=upsample(cond.frames, *xt.shape[2:4])))

  return upsampled


def beyond_upsampled(apply: Callable) -> Callable:
  """The same for a network that says what the upsampled frames lack of x_0, and not x_0 itself.

  What is flat is right from the beginning, so that a small network has edges alone to learn (Li et
  al., 2022, "SRDiff").
  """

  def upsampled(params, xt, t, cond):
    frames = upsample(cond.frames, *xt.shape[2:4])
    return frames + apply(params, xt, t, cond.replace(frames=frames))

  return upsampled
