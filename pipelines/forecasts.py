"""What training and sampling would do on a TPU slice that is not there: whole programs."""

import json
import pathlib
import time
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from core.folder import new_file
from core.params import cast_kernels, count
from core.sharding import make_mesh, over_batch, replicated
from pipelines.between_steps import lowered_between
from pipelines.cascade import window_mesh
from pipelines.plan import (
  condition_shapes,
  lowered_step,
  make_plan,
  parameter_shapes,
  with_sharding,
)
from pipelines.ranges import require_in_range
from pipelines.stage import made_large, open_stage
from pipelines.text_to_video import clip_mesh
from training import flops
from training.forecast import fitting, forecast
from training.slices import GIB, open_slice


def of_step(config: ConfigDict, name: str) -> dict:
  """Of a step of training, on the mesh of the config; the errors of `open_slice`, `make_mesh`."""
  require_in_range(config)
  on = open_slice(name)
  plan = make_plan(config, make_mesh(config.mesh, on.devices))
  began = time.monotonic()
  key = _keys((), replicated(plan.mesh))
  lowered, operations = lowered_step(plan, key)
  lowered_between(plan, key)  # whose errors come now, and not after the first steps
  with fitting(on):
    step = lowered.compile()
  return {
    'program': f'a step of {config.stage}: {config.loader.batch} of {config.data.frames} frames',
    'mesh': dict(plan.mesh.shape),
    'parameters': count(plan.params),
    'trained': count(plan.state.params),
    'compiled_in_s': time.monotonic() - began,
  } | forecast(step, operations, on)


def of_videos(base: ConfigDict, large: ConfigDict | None, name: str, batch: int) -> list[dict]:
  """Of making so many videos of their prompts, from noise to pixels: of each stage."""
  stages = [of_sampling(base, name, batch)]
  if large:
    large = made_large(large, base.data)
    stages.append(of_sampling(large, name, 1) | {'times': batch})
  return stages


def of_sampling(config: ConfigDict, name: str, batch: int) -> dict:
  """Of making so many videos at once with one model, as `in_batches` and `one_by_one` do it."""
  require_in_range(config)
  on, d, s = open_slice(name), config.data, config.sampling
  if large := bool(config.degrade):
    mesh = window_mesh(d.frames, s.window, s.overlap, on.devices)
  else:
    mesh = clip_mesh(batch, on.devices)
  where = replicated(mesh) if large else over_batch(mesh)
  cond = with_sharding(condition_shapes(config, batch), where)
  stage, began = open_stage(config, mesh=mesh), time.monotonic()
  params = parameter_shapes(config, stage)
  params = jax.eval_shape(lambda params: cast_kernels(params, config.model.dtype), params)
  params = with_sharding(params, replicated(mesh))
  with jax.set_mesh(mesh):
    traced = stage.generate.trace(params, cond, _keys((batch,), where))
    with fitting(on):
      compiled = traced.lower().compile()
  return {
    'program': f'{s.steps} steps of {config.stage}: {batch} of {d.frames} frames',
    'mesh': dict(mesh.shape),
    'parameters': count(params),
    'compiled_in_s': time.monotonic() - began,
  } | forecast(compiled, flops.count(traced.jaxpr.jaxpr), on)


def tell(found: Sequence[dict], path: pathlib.Path | None) -> None:
  """Prints it, and writes it to the file if there is one."""
  print('\n\n'.join(map(table, found)))
  if len(found) > 1:
    total = sum(one['seconds']['total'] * one.get('times', 1) for one in found)
    print(f'\n{"all of it":20} {total:.4g} s')
  if path:
    with new_file(path) as file:
      file.write_text(json.dumps(found, indent=2) + '\n')


def table(found: dict) -> str:
  """What is found of a program, to read."""
  memory, seconds, sent = found['memory'], found['seconds'], found['collectives_bytes']
  fits = 'fits' if memory['fits'] else 'DOES NOT FIT'
  trained = f', {found["trained"]:,} of them trained' if 'trained' in found else ''
  axes = ', '.join(f'{axis} {size}' for axis, size in found['mesh'].items())
  rows = {
    'program': found['program'],
    'slice': f'{found["slice"]}, {found["chips"]} chips: {axes}',
    'parameters': f'{found["parameters"]:,}{trained}',
    'memory of a device': f'{memory["peak_gib"]:.1f} of {memory["hbm_gib"]:.0f} GiB '
    f'({memory["share"]:.0%}): {fits}; arguments {memory["arguments_gib"]:.1f}, '
    f'temporaries {memory["temporaries_gib"]:.1f}',
    'model flops': f'{found["model_flops"]:.3e}',
    'bytes accessed': f'{found["bytes_accessed"]:.3e} a device',
    'collectives': ', '.join(f'{k} {v / GIB:.2f} GiB' for k, v in sent.items()) or 'none',
    'seconds': f'{seconds["total"]:.4g}: computing {seconds["computing"]:.4g}, '
    f'sending {seconds["sending"]:.4g}',
    'not in them': f'{len(found["not_in_seconds"])} instructions the compiler has no estimate of',
    'MFU': f'{found["mfu"]:.1%}',
    'costliest': ', '.join(f'{k} {v:.1%}' for k, v in found['costliest'].items()),
    'compiled in': f'{found["compiled_in_s"]:.0f} s',
  }
  return '\n'.join(f'{name:20} {value}' for name, value in rows.items())


def _keys(shape, sharding):
  kind = jax.eval_shape(lambda: jax.random.key(0)).dtype
  return jax.ShapeDtypeStruct(shape, kind, sharding=sharding)
