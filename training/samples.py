"""The samples of a run: videos that it generates during training, on its own mesh."""

import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from core import video
from core.condition import Condition
from core.sharding import filled, put_batch, replicated
from core.typing import Keys, Params
from diffusion.sampling import video_keys
from training.metrics import Metrics
from training.stage import Stage

# (params, cond, keys) -> pixels of videos, one for each key, in all processes
GeneratePixels = Callable[[Params, Condition, Keys], Sequence[video.Pixels]]


def videos_at_once(config: ConfigDict, mesh: jax.sharding.Mesh) -> int:
  """How many videos are generated together: as many as there are sample prompts, rounded up to
  divide over the mesh."""
  return filled(len(config.sample_prompts), mesh)


def make_write_samples(
  config: ConfigDict,
  stage: Stage,
  mesh: jax.sharding.Mesh,
  batch: dict,
  generate: GeneratePixels,
  workdir: pathlib.Path,
  metrics: Metrics,
) -> Callable[[Params, int], None]:
  """Returns `write_samples(params, step)`, which generates videos and writes them with their X-T
  slices.

  All processes call it together; the first one writes, and shows the videos by `metrics`.

  batch: the rows of this process of an evaluation batch, from which the stage may take conditions.
  generate: generates `videos_at_once` videos or fewer: see `pipelines.model.Model`.
  """
  d, shown = config.data, min(len(config.sample_prompts), config.evaluate_batch)
  titles, cond = stage.sample_inputs(to_every_host(put_batch(batch, mesh), shown, mesh))
  keys = video_keys(config.seed, jnp.arange(len(titles)))

  def write_samples(params: Params, step: int) -> None:
    videos = generate(params, cond, keys)
    if jax.process_index() > 0:
      return
    folder = workdir / 'samples' / f'step_{step:08}'
    folder.mkdir(parents=True, exist_ok=True)
    for i, (title, frames) in enumerate(zip(titles, videos)):
      path = folder / f'{i}{".mp4" if d.frames > 1 else ".png"}'
      video.write(path, frames, fps=d.fps, metadata={'prompt': title, 'step': str(step)})
      if d.frames > 1:
        video.write(folder / f'{i}_xt.png', video.xt_slice(frames)[None])
      metrics.write_video(step, f'samples/{i}', path, frames, fps=d.fps, caption=title)

  return write_samples


def to_every_host(tree, count: int, mesh: jax.sharding.Mesh):
  """The first `count` rows of arrays that are sharded over a mesh, in all processes, which call
  this together."""
  first = lambda tree: jax.tree.map(lambda x: x[:count], tree)
  return jax.tree.map(np.asarray, jax.jit(first, out_shardings=replicated(mesh))(tree))
