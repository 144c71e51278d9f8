"""Whether an application did what it is for, on clips of moving shapes, judged by pixels alone."""

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8

from core import video
from core.condition import Condition
from data import synthetic
from diffusion.sampling import InitialVideo
from evaluation.shapes import looks
from evaluation.shapes.judge import centres, judge
from pipelines import conditional

NEAR = 3 / 32  # of the side: how far a centre may be from where it should be
STILL = 2  # levels of 255 by which what does not move may differ
AROUND = 2 / 32  # of the side: between a shape and the edge of the box that covers it

Pixels = UInt8[np.ndarray, 't h w 3']
Picture = UInt8[np.ndarray, 'h w 3']


@dataclasses.dataclass(frozen=True)
class Task:
  """A video to make, and what is asked of it."""

  prompt: str
  condition: Condition  # all but the text
  initial_video: InitialVideo | None
  score: Callable[[Pixels], dict[str, bool]]  # what is asked -> whether it is so


def image_to_video(clip: dict) -> Task:
  """The first frame goes on as its caption says."""
  facts = clip['facts']

  def score(pixels):
    seen = judge(pixels)
    kept = (seen.colour, seen.shape) == (facts.colour, facts.shape)
    return {'colour and shape': kept, 'motion': seen.motion == facts.motion}

  condition = conditional.image_to_video(clip['video'][:1], len(clip['video']))
  return Task(facts.caption, condition, None, score)


def inpainting(clip: dict) -> Task:
  """The shape is covered in every frame by a box that goes with it."""
  facts = clip['facts']

  def score(pixels):
    near = distance(centres(pixels), centres(clip['video'])) <= NEAR
    return {'colour and place': near and judge(pixels).colour == facts.colour}

  hidden = boxes(clip['mask'])
  return Task(facts.caption, conditional.inpainting(clip['video'], hidden), None, score)


def cinemagraph(clip: dict) -> Task:
  """The first frame moves, as its caption says, in a box where the clip does; it spins where that
  stands still."""
  image, facts = clip['video'][:1], clip['facts']
  if facts.motion == 'standing still':
    facts = dataclasses.replace(facts, motion='spinning')
  region = boxes(clip['mask'].any(0, keepdims=True))

  def score(pixels):
    pixels = pixels.astype(int)
    outside, inside = pixels[:, ~region[0]] - image[:, ~region[0]], pixels[:, region[0]]
    moves = np.abs(np.diff(inside, axis=0)).mean(-1).max() > STILL
    return {'still outside, moves inside': bool(np.abs(outside).max() <= STILL and moves)}

  condition = conditional.cinemagraph(image, region, len(clip['video']))
  return Task(facts.caption, condition, None, score)


def edit(clip: dict, strength: float) -> Task:
  """The clip with a shape of the next colour."""
  facts = clip['facts']
  colours = [c for c in synthetic.COLOURS if c != facts.background]
  colour = colours[(colours.index(facts.colour) + 1) % len(colours)]
  wanted = dataclasses.replace(facts, colour=colour)

  def score(pixels):
    near = distance(centres(pixels), centres(clip['video'])) <= NEAR
    return {'path': near, 'colour': judge(pixels).colour == colour}

  start = InitialVideo(jnp.asarray(video.to_float(clip['video']))[None], jnp.asarray(strength))
  return Task(wanted.caption, Condition(), start, score)


def stylize(clip: dict, name: str, descriptor: str, references: Mapping[str, Picture]) -> Task:
  """What the caption says but for its colours, which are the style's of this name.

  references: a picture of every style.
  """
  facts = clip['facts']

  def score(pixels):
    return {
      'look': looks.nearest(pixels, references) == name,
      'motion': judge(pixels).motion == facts.motion,
    }

  return Task(f'a {facts.shape} {facts.motion} {descriptor}', Condition(), None, score)


def distance(a: Float[np.ndarray, 't 2'], b: Float[np.ndarray, 't 2']) -> float:
  """The mean distance of two paths; infinite where one of them is lost."""
  apart = np.linalg.norm(a - b, axis=-1).mean()
  return np.inf if np.isnan(apart) else float(apart)


def boxes(mask: Bool[np.ndarray, 't h w']) -> Bool[np.ndarray, 't h w']:
  """For every frame, true in the smallest box around what is true there, and a little beyond."""
  rows, columns = (_span(mask.any(axis), AROUND) for axis in (2, 1))
  return rows[:, :, None] & columns[:, None, :]


def _span(line, around):
  """From the first to the last that is true in each row of `t n`, and that part of n beyond."""
  n = line.shape[1]
  beyond = round(around * n)
  first = line.argmax(1) - beyond
  last = n - 1 - line[:, ::-1].argmax(1) + beyond
  at = np.arange(n)
  return line.any(1)[:, None] & (first[:, None] <= at) & (at <= last[:, None])
