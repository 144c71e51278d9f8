"""Models of random weights, as training leaves them, and scripts called with flags of their own."""

import contextlib
import importlib
import io
import re
import sys
from collections.abc import Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from core import command
from core.params import matches, names, nest
from pipelines import style
from pipelines.stages import open_stage
from stunet.adapters import add_adapters
from stunet.inflate import TEMPORAL
from training import checkpoint
from training.state import State


class Position(Iterator):
  """Stands for the data: its position is saved with the model."""

  def __next__(self):
    raise StopIteration

  def get_state(self):
    return {}


def save(path, config):
  """A model of random weights, as training leaves one after step 3."""
  d, text, stage = config.data, config.text, open_stage(config)
  x = jnp.zeros((1, d.frames, d.size, d.size, 3))
  batch = {
    'text': jnp.zeros((1, text.tokens, text.width)),
    'text_mask': jnp.ones((1, text.tokens), bool),
    'mask': jnp.zeros(x.shape[:4], bool),
  }
  cond = stage.make_condition(jax.random.key(0), x, batch)
  shapes = jax.eval_shape(stage.init, jax.random.key(0), x, jnp.zeros(1), cond)
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda p: jnp.asarray(0.1 * rng.normal(size=p.shape), p.dtype), shapes)
  checkpoint.save_config(path, config)
  with checkpoint.manager(path) as checkpoints:
    checkpoint.save(checkpoints, State(jnp.asarray(3), params, params, {}, {}), Position())
  return path


def save_style(path, workdir, descriptor):
  """A style of random adapters, of the image model from which that video model has grown."""
  _, params, _ = checkpoint.load(workdir)
  image = nest({n: v for n, v in names(params).items() if not matches(n, TEMPORAL)})
  began = {n: style.fingerprint(v) for n, v in names(image).items()}
  rng, adapted = np.random.default_rng(0), names(add_adapters(image, 2, jax.random.key(1)))
  change = {
    n: rng.normal(size=v.shape).astype('float32') for n, v in adapted.items() if 'adapter' in n
  }
  style.save(path, style.Style(descriptor, began, nest(change)))
  return path


@contextlib.contextmanager
def script(name):
  """The script `sample`, `evaluate` or `train`; its flags, of which other scripts have some too,
  are gone afterwards."""
  defined = re.findall(r"DEFINE_\w+\(\s*'(\w+)'", (command.ROOT / f'{name}.py').read_text())
  others = {flag: flags.FLAGS[flag] for flag in defined if flag in flags.FLAGS}
  for flag in others:
    delattr(flags.FLAGS, flag)
  module, devices = importlib.import_module(name), jax.devices()[:1]
  # To share a video between more of them takes long to compile.
  with mock.patch.object(jax, 'devices', return_value=devices):
    yield module
  del sys.modules[name]
  for flag in defined:
    delattr(flags.FLAGS, flag)
  for flag, definition in others.items():
    flags.FLAGS[flag] = definition


class Terminal(io.StringIO):
  """A text stream that claims to be a terminal, so that progress bars are written to it."""

  def isatty(self):
    return True


def call(script, *argv, terminal=False) -> tuple[int, str, str]:
  """The exit status, stdout and stderr of a script with verbs.

  With `terminal`, stderr is one and gets the progress bars.  Programs that move a bar cannot be
  cached by XLA, so each of them is compiled again.
  """
  run = lambda: command.run_verb(script.VERBS, script.__doc__)
  return called(script, run, *argv, terminal=terminal)


def called(script, run, *argv, terminal=False) -> tuple[int, str, str]:
  """The same of `run()`, which reads the flags of the script."""
  out, err = io.StringIO(), Terminal() if terminal else io.StringIO()
  with (
    mock.patch.object(sys, 'argv', [script.__file__, *map(str, argv)]),
    flagsaver.flagsaver(),
    contextlib.redirect_stdout(out),
    contextlib.redirect_stderr(err),
    pytest.raises(SystemExit) as exit,
  ):
    run()
  return exit.value.code or 0, out.getvalue(), err.getvalue()


def call_verb(sample, models, verb, *argv):
  """Calls a verb of `sample` with the model that it needs, and with a prompt if there is none."""
  model = models / ('t2v' if verb in ('edit', 'stylize', 'text_to_video') else 't2v_masked')
  prompt = [] if any(str(a).startswith('--prompt') for a in argv) else ['--prompt=a red ring']
  return call(sample, verb, f'--workdir={model}', *prompt, *argv)
