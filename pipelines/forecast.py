"""What sampling would take on a TPU slice that is not there, for the cascade of a prompt's
video."""

from ml_collections import ConfigDict

from core.sharding import over_batch, replicated
from pipelines.cascade import window_mesh
from pipelines.stages import open_stage, set_low_res_shape
from pipelines.text_to_video import clip_mesh
from training.compile_for import forecast_sampling
from training.slices import open_slice


def forecast_videos(base: ConfigDict, ssr: ConfigDict | None, name: str, batch: int) -> list[dict]:
  """The forecasts of a batch of videos from prompts on the slice of this name: that of the base
  model and, if its config is given, that of super-resolution, which runs once for each video."""
  on = open_slice(name)
  sharding = over_batch(clip_mesh(batch, on.devices))
  forecasts = [forecast_sampling(base, open_stage(base), on, batch, sharding)]
  if ssr:
    ssr, sampling = set_low_res_shape(ssr, base.data), ssr.sampling
    mesh = window_mesh(ssr.data.frames, sampling.window, sampling.overlap, on.devices)
    stage = open_stage(ssr, mesh=mesh)
    forecasts.append(forecast_sampling(ssr, stage, on, 1, replicated(mesh)) | {'times': batch})
  return forecasts
