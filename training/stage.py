"""What training and sampling need to know of a stage; `pipelines.stages` makes one from a
config."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from core.condition import Condition
from core.typing import Params
from diffusion.process import Process
from diffusion.sampling import Generate
from text.hashed import Encoder
from training.step import Apply, MakeCondition, Target, ToTimes, clean

Shapes = Mapping[str, jax.ShapeDtypeStruct]  # of one example or one video, without the batch axis


def model_stage(config: ConfigDict) -> str | None:
  """The stage of the model that the config trains: of a student, that of its teacher."""
  return (config.get('distill') or config).get('stage')


@dataclasses.dataclass(frozen=True)
class Data:
  """Examples to train and to validate on."""

  name: str  # the folder or the file where they are
  splits: Callable[[], Sequence[str]]  # the names of the splits that there are
  open: Callable[[str], Any]  # from the name of a split to its source: see data.pipeline
  endless: bool  # whether examples are drawn at random without an end


@dataclasses.dataclass(frozen=True)
class Stage:
  """A network, what it is trained on and conditioned on, and how videos are sampled from it."""

  init: Callable[..., Params]  # (key, xt, t, cond) -> params
  apply: Apply
  process: Process
  encode: Encoder  # of its texts: captions and prompts
  data: Data
  batch: Shapes  # the arrays of a training example, by their keys in a batch
  make_condition: MakeCondition  # (key, x_0, batch) -> the condition of training examples
  required_condition: Shapes  # the fields of the condition that sampling requires
  optional_condition: Sequence[str]  # the fields of the condition that sampling also accepts
  generate: Generate
  # From a batch of examples to the titles and the condition of the samples in training.
  sample_inputs: Callable[[dict], tuple[Sequence[str], Condition]]
  target: Target = clean
  times: ToTimes | None = None  # the distribution of the times of training; None is the config's


def with_batch(shapes: Shapes, size: int) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes with a batch axis of this size."""
  return {k: jax.ShapeDtypeStruct((size, *s.shape), s.dtype) for k, s in shapes.items()}
