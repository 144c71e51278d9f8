"""What a video is conditioned on."""

from typing import Any

import flax
import jax.numpy as jnp


@flax.struct.dataclass
class Condition:
  """Everything a denoiser is told besides the noisy video and its time."""

  text: Any  # b n d, embedded tokens
  mask: Any = None  # b n, true where a token is; None where every one is
  frames: Any = (
    None  # b t h w k, aligned with the video: a masked video and its mask, or a small video
  )
  level: Any = None  # b, the time in [0, 1] at which `frames` were noised

  def without_text(self, drop=True):
    """The null condition of guidance: no text where `drop` (b, or one bool for all) holds."""
    keep = jnp.logical_not(jnp.broadcast_to(drop, self.text.shape[:1]))[:, None]
    mask = jnp.ones(self.text.shape[:2], bool) if self.mask is None else self.mask
    return self.replace(text=self.text * keep[..., None].astype(self.text.dtype), mask=mask & keep)
