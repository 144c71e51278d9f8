"""What networks get in place of a dropped text, and of a masked video that is not given."""

import jax.numpy as jnp

from core.typing import Bool, Float
from training.step import Apply


def with_null_text(apply: Apply, null: Float['1 n d'], null_mask: Bool['1 n']) -> Apply:
  """`apply(params, xt, t, cond)` of a network that gets the embedding `null` where the text is
  dropped.

  A pretrained text encoder has an embedding of the empty text.  Image models that were trained with
  it got this embedding where the text was dropped (DeepFloyd IF).
  """

  def apply_with_null_text(params, xt, t, cond):
    if cond.text_mask is None:
      return apply(params, xt, t, cond)
    dropped = ~cond.text_mask.any(-1)[:, None]
    text = jnp.where(dropped[..., None], null.astype(cond.text.dtype), cond.text)
    mask = cond.text_mask | dropped & null_mask
    return apply(params, xt, t, cond.replace(text=text, text_mask=mask))

  return apply_with_null_text


def with_empty_mask(apply: Apply) -> Apply:
  """`apply(params, xt, t, cond)` of a network conditioned on masked videos, with a mask of zeros if
  the condition has none."""

  def apply_with_mask(params, xt, t, cond):
    if cond.mask is None:
      mask = jnp.zeros((*xt.shape[:-1], 1), xt.dtype)
      cond = cond.replace(masked_video=jnp.zeros_like(xt), mask=mask)
    return apply(params, xt, t, cond)

  return apply_with_mask
