"""Image models of moving shapes are judged by what they draw."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks import recipe
from benchmarks.recipe import LOG_SNRS, assess, seconds_of_steps, swapped, table
from configs.t2i import get_config
from data import synthetic
from pipelines.checkpoints import find_base
from pipelines.model import Model

DEMO = 'checkpoints/demo/t2i'


def test_a_model_that_knows_the_answer_has_no_error(monkeypatch):
  """And one that draws what it is asked for obeys."""
  checkpoint = find_base(DEMO, steps=1)
  clips = [
    synthetic.clip(i, size=32, frames=1, fps=16.0, seed=recipe.SHAPES['test']) for i in range(6)
  ]
  truth = np.stack([clip['video'] for clip in clips]) / np.float32(127.5) - 1
  monkeypatch.setattr(recipe, 'network', lambda apply, params, process: lambda xt, t, cond: truth)
  drawn = [synthetic.prompt(recipe.FIRST_PROMPT + i) for i in range(6)]

  def generate(self, cond, keys):
    for scene in drawn:
      middle = (0.5, 0.5)
      facts = synthetic.Facts(
        **dataclasses.asdict(scene), start=middle, end=middle, radii=(0.2, 0.2)
      )
      yield synthetic.render(facts, np.zeros(1), 32)[0] / np.float32(127.5) - 1

  monkeypatch.setattr(Model, 'generate', generate)
  outcome = assess(checkpoint, frames=6, images=6, seed=0)
  np.testing.assert_allclose(outcome.errors, np.zeros(len(LOG_SNRS)), atol=1e-6)
  assert outcome.seen == [1.0, 1.0]
  assert outcome.obeyed == 0.0  # the frames show their own shapes
  assert outcome.shares == {'colour': 1.0, 'background': 1.0, 'shape': 1.0}
  assert f'| a | {get_config("demo").steps:,} |' in table({'a': outcome})


@pytest.mark.parametrize('i', range(8))
def test_a_swapped_word_is_another_shape(i):
  scene = synthetic.prompt(i)
  other = swapped(scene, i)
  assert other.shape in synthetic.SHAPES
  assert other.shape != scene.shape
  assert (other.colour, other.motion, other.background) == (
    scene.colour, scene.motion, scene.background
  )  # fmt: skip


def test_seconds_are_those_of_every_start(tmp_path):
  """Within a start, the account grows from line to line."""
  lines = [
    {'step': 0, 'started': 100.0},
    {'step': 10, 'seconds/step': 3.0},
    {'step': 20, 'seconds/step': 6.0},
    {'step': 20, 'started': 200.0},
    {'step': 30, 'seconds/step': 4.0},
  ]
  assert np.isnan(seconds_of_steps(tmp_path))
  (tmp_path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  assert seconds_of_steps(tmp_path) == 10.0
