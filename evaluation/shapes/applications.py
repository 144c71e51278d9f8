"""Tasks of applications on clips of moving shapes, whose results are judged by pixels."""

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

NEAR = 3 / 32  # the largest distance of a centre from its correct place, in shorter sides
STILL = 2  # levels of 255 up to which pixels count as still
CONSTANT_SPEED = ('moving', 'spinning')  # how the names of these motions begin
MARGIN = 2 / 32  # between a shape and the edge of the box that covers it, in shorter sides

Pixels = UInt8[np.ndarray, 't h w 3']
Picture = UInt8[np.ndarray, 'h w 3']


@dataclasses.dataclass(frozen=True)
class Task:
  """A video to generate, and how it is scored."""

  prompt: str
  condition: Condition  # without the text
  initial_video: InitialVideo | None
  # Of a criterion, whether it is met; of a measure, its value in levels of 255.
  score: Callable[[Pixels], dict[str, bool | float]]


def image_to_video(clip: dict) -> Task:
  """Continues the first frame of the clip as its caption describes.

  Where the motion has a constant speed, the mean absolute change of pixels is measured too: from
  the given frame to the next, and from frame to frame on average.  They are equal in clips of the
  dataset.  A model that does not continue what it is given makes a larger first step.
  """
  facts = clip['facts']

  def score(pixels):
    verdict = judge(pixels)
    same = (verdict.colour, verdict.shape) == (facts.colour, facts.shape)
    met = {'colour and shape': same, 'motion': verdict.motion == facts.motion}
    if not facts.motion.startswith(CONSTANT_SPEED):
      return met
    steps = np.abs(np.diff(pixels.astype(np.float32), axis=0)).mean((1, 2, 3))
    return met | {'first step': float(steps[0]), 'mean step': float(steps.mean())}

  condition = conditional.image_to_video(clip['video'][:1], len(clip['video']))
  return Task(facts.caption, condition, None, score)


def inpainting(clip: dict) -> Task:
  """Fills a box that covers the shape in every frame and moves with it."""
  facts = clip['facts']

  def score(pixels):
    near = distance(centres(pixels), centres(clip['video'])) <= NEAR
    return {'colour and place': near and judge(pixels).colour == facts.colour}

  hidden = boxes(clip['mask'])
  return Task(facts.caption, conditional.inpainting(clip['video'], hidden), None, score)


def cinemagraph(clip: dict) -> Task:
  """Animates a box of the first frame, as the caption describes; the shape spins if it is still."""
  image, facts = clip['video'][:1], clip['facts']
  if facts.motion == 'standing still':
    facts = dataclasses.replace(facts, motion='spinning')
  hidden = boxes(clip['mask'].any(0, keepdims=True))

  def score(pixels):
    pixels = pixels.astype(int)
    outside, inside = pixels[:, ~hidden[0]] - image[:, ~hidden[0]], pixels[:, hidden[0]]
    moves = np.abs(np.diff(inside, axis=0)).mean(-1).max() > STILL
    return {'still outside, moves inside': bool(np.abs(outside).max() <= STILL and moves)}

  condition = conditional.cinemagraph(image, hidden, len(clip['video']))
  return Task(facts.caption, condition, None, score)


def edit(clip: dict, strength: float) -> Task:
  """Edits the clip, so that its shape has the next colour."""
  facts = clip['facts']
  colours = [c for c in synthetic.COLOURS if c != facts.background]
  colour = colours[(colours.index(facts.colour) + 1) % len(colours)]
  edited = dataclasses.replace(facts, colour=colour)

  def score(pixels):
    near = distance(centres(pixels), centres(clip['video'])) <= NEAR
    return {'path': near, 'colour': judge(pixels).colour == colour}

  start = InitialVideo(jnp.asarray(video.to_float(clip['video']))[None], jnp.asarray(strength))
  return Task(edited.caption, Condition(), start, score)


def stylize(clip: dict, name: str, descriptor: str, references: Mapping[str, Picture]) -> Task:
  """Generates the caption of the clip in a style, whose colours replace those of the caption.

  name, descriptor: the name of the style, and the words that describe it in the prompt.
  references: the picture of every style, by name.
  """
  facts = clip['facts']

  def score(pixels):
    return {
      'look': looks.nearest(pixels, references) == name,
      'motion': judge(pixels).motion == facts.motion,
    }

  return Task(f'a {facts.shape} {facts.motion} {descriptor}', Condition(), None, score)


def distance(a: Float[np.ndarray, 't 2'], b: Float[np.ndarray, 't 2']) -> float:
  """The mean distance of two paths; infinite where one of them has NaN."""
  mean = np.linalg.norm(a - b, axis=-1).mean()
  return np.inf if np.isnan(mean) else float(mean)


def boxes(mask: Bool[np.ndarray, 't h w']) -> Bool[np.ndarray, 't h w']:
  """For every frame, a box around all pixels of the mask, with a margin of `MARGIN`."""
  margin = round(MARGIN * min(mask.shape[1:]))
  rows, columns = (_span(mask.any(axis), margin) for axis in (2, 1))
  return rows[:, :, None] & columns[:, None, :]


def _span(line, margin):
  """In each row of `t n`, true from the first to the last that is true, with a margin."""
  n = line.shape[1]
  first = line.argmax(1) - margin
  last = n - 1 - line[:, ::-1].argmax(1) + margin
  index = np.arange(n)
  return line.any(1)[:, None] & (first[:, None] <= index) & (index <= last[:, None])
