"""What a video is generated from, beside noise."""

from typing import Any

import flax
import jax.numpy as jnp
from einops import rearrange

from core.typing import Float, Video

# The fields that have a value for every pixel of every frame, in the order in which a network
# concatenates them to the noisy video.
VIDEOS = ('masked_video', 'mask', 'low_res')


@flax.struct.dataclass
class Condition:
  """What a denoiser is conditioned on: one field for each kind of condition, None where it is
  absent.

  Lumiere (Sec. 4.2) concatenates <J, C, M>, where J is the noisy video, C is `masked_video` and M
  is `mask`.
  """

  text: Any = None  # b n d, the embedded tokens
  text_mask: Any = None  # b n, true at tokens and false at padding; None is true everywhere
  masked_video: Any = None  # b t h w c in [-1, 1], and 0, which is gray, where `mask` is 0
  mask: Any = None  # b t h w 1: 1 where a pixel is given, 0 where it is hidden and generated
  low_res: Any = None  # b t h2 w2 c, the video that super-resolution upscales
  noise_level: Any = None  # b, the time in [0, 1] up to which `low_res` was noised: see ssr.degrade

  @classmethod
  def from_mask(cls, video: Video, mask: Float['b t h w 1']) -> 'Condition':
    """The masked condition: the pixels of the video where the mask is 1."""
    return cls(masked_video=video * mask, mask=mask)

  @property
  def videos(self) -> dict[str, Any]:
    """The fields of `VIDEOS` that are present, by name."""
    present = {name: getattr(self, name) for name in VIDEOS}
    return {name: video for name, video in present.items() if video is not None}

  def without_text(self, drop=True) -> 'Condition':
    """The condition without its text where `drop` (b, or one bool for all) is true.

    Classifier-free guidance compares with it.
    """
    keep = jnp.logical_not(jnp.broadcast_to(drop, self.text.shape[:1]))[:, None]
    mask = jnp.ones(self.text.shape[:2], bool) if self.text_mask is None else self.text_mask
    text = self.text * keep[..., None].astype(self.text.dtype)
    return self.replace(text=text, text_mask=mask & keep)

  def composite(self, generated: Video) -> Video:
    """The given pixels where the mask is 1 and the generated ones where it is 0, and a mixture of
    both where the mask is between."""
    return self.masked_video + (1 - self.mask) * generated

  def downsample_mask(self, factor: int) -> 'Condition':
    """The condition whose masked video and mask have sides that are `factor` times smaller.

    A low-resolution pixel is given if all pixels that it averages are given.  Otherwise it would
    show something of those that are not.
    """
    blocks = lambda a: rearrange(a, 'b t (h p) (w q) c -> b t h w c (p q)', p=factor, q=factor)
    mask = blocks(self.mask).min(-1)
    low = Condition.from_mask(blocks(self.masked_video).mean(-1), mask)
    return self.replace(masked_video=low.masked_video, mask=low.mask)
