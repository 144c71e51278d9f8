"""What training and sampling would take on a TPU slice that is not there, from compiled
programs."""

import json
import pathlib
import time
from collections.abc import Sequence

import jax
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from core import compiler
from core.condition import Condition
from core.folder import new_file
from core.params import cast_kernels, count, without_teacher
from core.sharding import AXES, fsdp, make_mesh, replicated
from training import flops
from training.forecast import fitting, forecast
from training.plan import (
  OpenStage,
  lower_between_steps,
  lower_step,
  make_plan,
  parameter_shapes,
  with_sharding,
  with_shardings,
)
from training.ranges import require_in_range
from training.slices import GIB, Slice, open_slice
from training.stage import Stage, with_batch


def forecast_step(config: ConfigDict, name: str, open_stage: OpenStage) -> dict:
  """The forecast of a training step on the slice of this name, with the mesh of the config.

  Of several buckets it is that of the one whose videos have the most pixels.

  The errors of `open_slice` and `make_mesh`.
  """
  require_in_range(config)
  on = open_slice(name)
  plan = make_plan(config, make_mesh(config.mesh, on.devices), open_stage)
  started = time.monotonic()
  key = _keys((), replicated(plan.mesh))
  lowered, operations = lower_step(plan, key, plan.largest)
  lower_between_steps(plan, key)  # raises its errors now, not after the first steps
  with fitting(on):
    step = lowered.compile(compiler.options(plan.mesh))
  frames = plan.largest['video'].shape[0]
  return {
    'program': f'a step of {config.stage}: {config.loader.batch} of {frames} frames',
    'mesh': dict(plan.mesh.shape),
    'parameters': count(plan.params),
    'trained': count(plan.state.params),
    'compiled_in_s': time.monotonic() - started,
  } | forecast(step, operations, on)


def forecast_sampling(
  config: ConfigDict, stage: Stage, on: Slice, batch: int, sharding: NamedSharding
) -> dict:
  """The forecast of sampling a batch of videos with one model, from noise to pixels.

  sharding: that of the condition and the keys.
  """
  require_in_range(config)
  started, mesh = time.monotonic(), sharding.mesh
  cond = with_sharding(Condition(**with_batch(stage.required_condition, batch)), sharding)
  params = without_teacher(parameter_shapes(stage))
  params = jax.eval_shape(lambda params: cast_kernels(params, config.model.dtype), params)
  params = with_shardings(params, fsdp(params, mesh, config.shard_above, over=AXES))
  with jax.set_mesh(mesh):
    traced = stage.generate.trace(params, cond, _keys((batch,), sharding))
    with fitting(on):
      compiled = traced.lower().compile(compiler.options(mesh))
  return {
    'program': f'{config.sampling.steps} steps of {config.stage}: {batch} of {config.data.frames} '
    'frames',
    'mesh': dict(mesh.shape),
    'parameters': count(params),
    'compiled_in_s': time.monotonic() - started,
  } | forecast(compiled, flops.count(traced.jaxpr.jaxpr), on)


def report(forecasts: Sequence[dict], path: pathlib.Path | None) -> None:
  """Prints the forecasts, and writes them to a JSON file if a path is given."""
  print('\n\n'.join(map(table, forecasts)))
  if len(forecasts) > 1:
    total = sum(one['seconds']['total'] * one.get('times', 1) for one in forecasts)
    print(f'\n{"all of it":20} {total:.4g} s')
  if path:
    with new_file(path) as file:
      file.write_text(json.dumps(forecasts, indent=2) + '\n')


def table(program: dict) -> str:
  """The forecast of a program as a table in plain text."""
  memory, seconds, sent = program['memory'], program['seconds'], program['collectives_bytes']
  least = program['roofline']
  fits = 'fits' if memory['fits'] else 'DOES NOT FIT'
  trained = f', {program["trained"]:,} of them trained' if 'trained' in program else ''
  axes = ', '.join(f'{axis} {size}' for axis, size in program['mesh'].items())
  rows = {
    'program': program['program'],
    'slice': f'{program["slice"]}, {program["chips"]} chips: {axes}',
    'parameters': f'{program["parameters"]:,}{trained}',
    'memory of a device': f'{memory["peak_gib"]:.1f} of {memory["hbm_gib"]:.0f} GiB '
    f'({memory["share"]:.0%}): {fits}; arguments {memory["arguments_gib"]:.1f}, '
    f'temporaries {memory["temporaries_gib"]:.1f}',
    'model flops': f'{program["model_flops"]:.3e}',
    'bytes accessed': f'{program["bytes_accessed"]:.3e} a device',
    'collectives': ', '.join(f'{k} {v / GIB:.2f} GiB' for k, v in sent.items()) or 'none',
    'seconds': f'{seconds["total"]:.4g}: computing {seconds["computing"]:.4g}, '
    f'sending {seconds["sending"]:.4g}, between slices {seconds["between_slices"]:.4g}',
    'not in them': f'{len(program["not_in_seconds"])} instructions without an estimate, the input '
    'from the host, gaps between programs',
    'MFU': f'{program["mfu"]:.1%}',
    'at the roofline': f'{least["total"]:.4g} s, MFU {least["mfu"]:.1%}',
    'costliest': ', '.join(f'{k} {v:.1%}' for k, v in program['costliest'].items()),
    'compiled in': f'{program["compiled_in_s"]:.0f} s',
  }
  return '\n'.join(f'{name:20} {value}' for name, value in rows.items())


def _keys(shape, sharding):
  kind = jax.eval_shape(lambda: jax.random.key(0)).dtype
  return jax.ShapeDtypeStruct(shape, kind, sharding=sharding)
