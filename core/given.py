"""What a user gives of a video that is to be made: pixels that are known (Lumiere, Sec. 4.2)."""

from typing import Any

import flax
import jax.numpy as jnp
from einops import rearrange

from core.typing import Float, Video


@flax.struct.dataclass
class Given:
  """The paper's C and M.  What is not known is 0, which is gray, whatever was there."""

  frames: Any  # b t h w c in [-1, 1]
  known: Any  # b t h w 1: 1 where a pixel is given, 0 where it is to be made

  @classmethod
  def of(cls, video: Video, known: Float['b t h w 1']) -> 'Given':
    """What of the video is known."""
    return cls(video * known, known)

  @property
  def channels(self) -> Float['b t h w k']:
    """<C, M>, as a network sees it beside the noisy video J."""
    return jnp.concatenate([self.frames, self.known], -1)

  def kept(self, made: Video) -> Video:
    """The video with what is known in its place, mixed in proportion where `known` is between."""
    return self.frames + (1 - self.known) * made

  def smaller(self, factor: int) -> 'Given':
    """The same with sides `factor` times smaller.

    A pixel is known where all of those it is the mean of are: else it would show what is hidden.
    """
    blocks = lambda a: rearrange(a, 'b t (h p) (w q) c -> b t h w c (p q)', p=factor, q=factor)
    known = blocks(self.known).min(-1)
    return Given.of(blocks(self.frames).mean(-1), known)
