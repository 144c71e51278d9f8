"""Prompts in, videos out: the one way in which this project samples its models."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from tqdm import tqdm

from core.condition import Condition
from core.errors import UserError
from core.frame_size import Size, height_width
from core.sharding import to_mesh
from core.typing import Params
from diffusion.sampling import InitialVideo, video_keys
from pipelines.cascade import to_host
from pipelines.checkpoints import Checkpoint, find_base, find_super_resolution, set_size
from pipelines.checks import require_condition, require_initial_video, require_requests
from pipelines.model import Model, Pixels


@dataclasses.dataclass(frozen=True)
class Pipeline:
  """A model that makes videos of prompts and, if there is one, a model that upscales them.

  from pipelines import Pipeline

  pipeline = Pipeline.load('checkpoints/demo/t2v', ssr_workdir='checkpoints/demo/ssr')
  for video in pipeline.generate(['a red circle moving right on a black background'], seed=3):
    print(video.shape, video.dtype)  # (80, 128, 128, 3) uint8
  """

  base: Model
  ssr: Model | None = None
  bar: Callable[[], tqdm] = lambda: tqdm(disable=True)  # the bar that shows the steps

  @classmethod
  def load(
    cls,
    workdir: str | pathlib.Path,
    ssr_workdir: str | pathlib.Path | None = None,
    *,
    batch: int = 1,
    frames: int | None = None,
    size: Size | None = None,
    **sampling,
  ) -> 'Pipeline':
    """The models that were trained in these folders, with their parameters.

    batch: low-resolution videos that are generated together.
    frames, sampling: what differs from the base model's config, as steps=20 and guidance=4.0.
    size: (height, width) of the videos, or the side of squares: see `checkpoints.set_size`.

    UserError if a folder has no such model or a setting is not allowed.
    """
    if batch < 1:
      raise UserError(f'Got a batch of {batch} videos; allowed are 1 or more.')
    base = find_base(workdir, frames=frames, **sampling)
    ssr = find_super_resolution(ssr_workdir, base.config.data) if ssr_workdir else None
    if size is not None:
      set_size(base, ssr, size)
    pipeline = cls.open(base, ssr, batch=batch)
    return pipeline.load_params(base, ssr)

  @classmethod
  def open(
    cls, base: Checkpoint, ssr: Checkpoint | None, *, batch: int, progress: bool = False
  ) -> 'Pipeline':
    """The pipeline of these checkpoints, without parameters.  The errors of their configs are
    raised here, before anything is loaded.

    progress: whether a bar on stderr shows the steps of each video, if there is one process.
    """
    # A program that calls the host has to do so in every process.
    progress = progress and jax.process_count() == 1
    # Shown when it is first needed.  XLA keeps no program that calls the host in its cache, so that
    # without a bar none does.
    bar = functools.cache(lambda: tqdm(desc='compiling', unit='step', disable=not progress))
    on_step = (lambda i: bar().update(i + 1 - bar().n)) if progress else None
    ssr_model = ssr and Model.open_super_resolution(ssr.config, on_step)
    return cls(Model.open(base.config, batch, on_step), ssr_model, bar)

  def load_params(
    self,
    base: Checkpoint,
    ssr: Checkpoint | None,
    change: Callable[[Params], Params] = lambda params: params,
  ) -> 'Pipeline':
    """The pipeline with the parameters of these checkpoints, those of the base model changed.

    One model after the other is loaded and cast: there is no time when both are in float32.
    """
    pipeline = self.with_params(change(base.load(self.base.param_shardings)))
    if not ssr:
      return pipeline
    return dataclasses.replace(
      pipeline, ssr=self.ssr.with_params(ssr.load(self.ssr.param_shardings))
    )

  def with_params(self, params: Params) -> 'Pipeline':
    """The pipeline with these parameters of its base model."""
    return dataclasses.replace(self, base=self.base.with_params(params))

  @property
  def size(self) -> tuple[int, int]:
    """The height and the width of the videos."""
    return height_width((self.ssr or self.base).config.data.size)

  def generate(
    self,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    condition: Condition = Condition(),  # noqa: B008
    initial_video: InitialVideo | None = None,
  ) -> Iterator[Pixels]:
    """The pixels of a video of each prompt, as they are generated: uint8 't h w 3'.

    seed, numbers: a video depends on its prompt, on the seed and on its number alone; by default
      the videos are numbered from 0.
    condition: all but the text, in a batch of one, for all videos; a masked video has the
      resolution of the videos that are returned.
    initial_video: the low-resolution video from which sampling starts, in a batch of one, for all
      videos.

    UserError, before anything is compiled, if one of these is not allowed: see `pipelines.checks`.
    Everything is compiled when this returns, and the iterator generates.
    """
    numbers = range(len(prompts)) if numbers is None else numbers
    require_requests(prompts, seed, numbers)
    require_condition(condition, self.base.stage, self.base.config, self.size)
    if initial_video is not None:
      require_initial_video(initial_video, self.base.config)
    if not prompts:
      return iter(())
    conditions = self._compile(condition, initial_video)
    return self._generate(prompts, seed, numbers, *conditions, initial_video)

  def _generate(
    self, prompts, seed, numbers, ssr_cond, base_cond, initial_video
  ) -> Iterator[Pixels]:
    for start in range(0, len(prompts), self.base.batch):
      some = slice(start, start + self.base.batch)
      self._show(self.base, f'video {start + 1} of {len(prompts)}')
      cond = self.base.encode(prompts[some], base_cond)
      videos = self.base.generate(
        cond, video_keys(seed, jnp.array([*numbers[some]])), initial_video
      )
      for i, frames in enumerate(videos, start):
        if self.ssr:
          self._show(self.ssr, f'super-resolution, video {i + 1} of {len(prompts)}')
          cond = self.ssr.encode([prompts[i]], ssr_cond)
          cond = cond.replace(low_res=to_mesh(frames[None], self.ssr.sharding.mesh))
          [frames] = self.ssr.generate(cond, video_keys(seed, jnp.array([numbers[i]])))
        yield to_host(frames)

  def _compile(
    self, condition: Condition, initial_video: InitialVideo | None
  ) -> tuple[Condition, Condition]:
    """Compiles all that generates videos of such a condition, unless it is compiled already, and
    returns the condition of super-resolution and of the base model, on their devices."""
    self.bar().set_description('compiling')
    key = video_keys(0, jnp.zeros(1, int))
    # Each model places its condition from the host: their meshes may differ.
    base_cond = ssr_cond = condition
    if self.ssr:
      # Other fields are of the base model alone, at its size.
      taken = {*self.ssr.stage.optional_condition}
      others = {name: None for name in vars(condition) if name not in taken}
      ssr_cond = self.ssr.place(condition.replace(**others))
      d = self.base.config.data
      low_res = jnp.zeros((1, d.frames, *height_width(d.size), 3))
      self.ssr.compile(self.ssr.encode([''], ssr_cond).replace(low_res=low_res), key)
      if base_cond.mask is not None:
        base_cond = base_cond.downsample_mask(self.ssr.config.degrade.factor)
    base_cond = self.base.place(base_cond)
    self.base.compile(self.base.encode([''], base_cond), key, initial_video)
    return ssr_cond, base_cond

  def _show(self, model: Model, what: str) -> None:
    self.bar().reset(model.config.sampling.steps)
    self.bar().set_description(what)
