r"""Makes videos with a trained model.

  python sample.py text_to_video --prompt='a red circle moving right on a black background' \
    --output=out.mp4 --workdir=checkpoints/demo/t2v
"""

import dataclasses
import json
import pathlib
import re
import sys
import time

import jax
from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

from core import command, video
from core.typing import Params
from diffusion.sampler import OnStep
from pipelines.cascade import one_by_one, to_host
from pipelines.sampling import SAMPLERS, Generate
from pipelines.stage import open_stage, super_resolution_config
from pipelines.text_to_video import in_batches
from text.hashed import Encoder, encoder
from training import checkpoint
from training.sharding import make_mesh

_PROMPT = flags.DEFINE_string(
  'prompt', 'a red circle moving right on a black background', 'What the video shows.'
)
_PROMPTS_FILE = flags.DEFINE_string('prompts_file', None, 'One prompt a line, instead of --prompt.')
_WORKDIR = flags.DEFINE_string('workdir', 'checkpoints/demo/t2v', 'Where the model was trained.')
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'The file: .gif, .mp4, .npy, .png or .webp; out.mp4 by default.  Several videos of a prompt are '
  'out_0.mp4, out_1.mp4 and so on.  With --prompts_file the folder, out by default, made if it is '
  'not there: 000_the_prompt.mp4 and so on, and index.jsonl, which says what each of them is.',
)
_NUM_VIDEOS = flags.DEFINE_integer('num_videos', 1, 'Videos of each prompt.', lower_bound=1)
_BATCH = flags.DEFINE_integer('batch', 1, 'Videos made at once.', lower_bound=1)
_SEED = flags.DEFINE_integer('seed', 0, 'Of all noise.', lower_bound=0, upper_bound=2**32 - 1)
_NUM_FRAMES = flags.DEFINE_integer('num_frames', None, "The model's by default.", lower_bound=1)
_SAMPLER = flags.DEFINE_enum('sampler', None, sorted(SAMPLERS), "The model's by default.")
_STEPS = flags.DEFINE_integer('steps', None, "The model's by default.", lower_bound=1)
_GUIDANCE = flags.DEFINE_float('guidance', None, "The model's by default.", lower_bound=0.0)
_BASE_ONLY = flags.DEFINE_bool('base_only', False, 'Leaves super-resolution out.')
_SSR_WORKDIR = flags.DEFINE_string(
  'ssr_workdir', None, 'Where the super-resolution was trained: `ssr` beside --workdir by default.'
)
_SSR_STEPS = flags.DEFINE_integer('ssr_steps', None, "The model's by default.", lower_bound=1)
_SSR_GUIDANCE = flags.DEFINE_float('ssr_guidance', None, "The model's by default.", lower_bound=0.0)
_WINDOW = flags.DEFINE_integer(
  'window',
  None,
  "Frames that super-resolution sees at once; the model's by default.",
  lower_bound=1,
)
_OVERLAP = flags.DEFINE_integer(
  'overlap', None, "Frames that neighbouring windows share; the model's by default.", lower_bound=0
)
_AUG_LEVEL = flags.DEFINE_float(
  'aug_level',
  None,
  'Noise that is added before super-resolution: the more, the less it keeps to the small video.  '
  "The model's by default.",
  lower_bound=0.0,
  upper_bound=1.0,
)
_UPSCALE = flags.DEFINE_integer('upscale', 1, 'A pixel is a square of this side.', lower_bound=1)
_XT_SLICE = flags.DEFINE_string(
  'xt_slice', None, 'An image, .png, of the middle row of every frame, stacked over time.'
)


@dataclasses.dataclass(frozen=True)
class Model:
  """What is sampled."""

  workdir: pathlib.Path
  config: ConfigDict  # with what the flags change
  generate: Generate

  @property
  def encode(self) -> Encoder:
    """What its prompts go through."""
    return encoder(**self.config.text)


@dataclasses.dataclass(frozen=True)
class Job:
  """A video to make: the one of its prompt with this number, and where it goes."""

  prompt: str
  number: int
  path: pathlib.Path
  xt_slice: pathlib.Path | None = None


def text_to_video() -> None:
  """Makes the videos the flags ask for, once all that can be wrong with them is ruled out."""
  jobs = _jobs()
  on_step = lambda i: bar.update(i + 1 - bar.n)
  base = _base(on_step)
  ssr = _super_resolution(base.config.data, on_step)
  batch, seed = min(_BATCH.value, len(jobs)), _SEED.value
  with tqdm(desc='compiling', unit='step') as bar:
    begin = time.perf_counter()
    params, made_by = _load(base, '')
    make = in_batches(base.generate, params, base.encode, batch=batch, seed=seed)
    if ssr:
      params, upscaled_by = _load(ssr, 'ssr_')
      made_by |= upscaled_by
      d = base.config.data
      shape = (d.frames, d.size, d.size, 3)
      upscale = one_by_one(ssr.generate, params, ssr.encode, shape, seed=seed, mesh=_mesh())
    compiled = time.perf_counter()
    for done in range(0, len(jobs), batch):
      some = jobs[done : done + batch]
      bar.reset(made_by['steps'])
      bar.set_description(f'video {done + 1} of {len(jobs)}')
      videos = make([job.prompt for job in some], [job.number for job in some])
      for i, (job, frames) in enumerate(zip(some, videos), done + 1):
        if ssr:
          bar.reset(made_by['ssr_steps'])
          bar.set_description(f'super-resolution, video {i} of {len(jobs)}')
          frames = upscale(job.prompt, job.number, frames)
        _write(job, to_host(frames), base.config.data.fps, made_by)
    end = time.perf_counter()

  _report(jobs, made_by)
  print(f'compiled in {compiled - begin:.1f} s, made in {end - compiled:.1f} s')


def _base(on_step: OnStep) -> Model:
  """The model that makes videos of prompts, with what the flags change."""
  workdir = pathlib.Path(_WORKDIR.value)
  config = checkpoint.load_config(workdir)
  config.data.frames = _NUM_FRAMES.value or config.data.frames
  _override(config, sampler=_SAMPLER.value, steps=_STEPS.value, guidance=_GUIDANCE.value)
  return Model(workdir, config, open_stage(config, on_step).generate)


def _super_resolution(small: ConfigDict, on_step: OnStep) -> Model | None:
  """The model that makes them large; None where none does."""
  workdir = pathlib.Path(_SSR_WORKDIR.value or pathlib.Path(_WORKDIR.value).with_name('ssr'))
  if _BASE_ONLY.value:
    return None
  if _SSR_WORKDIR.value is None and not workdir.is_dir():
    tqdm.write(f'no {workdir}: the video stays small; --ssr_workdir=DIR makes it large', sys.stderr)
    return None
  config = super_resolution_config(workdir)
  config.data.update(frames=small.frames, size=small.size * config.degrade.factor)
  _override(
    config,
    steps=_SSR_STEPS.value,
    guidance=_SSR_GUIDANCE.value,
    window=_WINDOW.value,
    overlap=_OVERLAP.value,
    aug_level=_AUG_LEVEL.value,
  )
  return Model(workdir, config, open_stage(config, on_step, _mesh()).generate)


def _mesh() -> jax.sharding.Mesh:
  """All devices, over which super-resolution spreads its windows."""
  return make_mesh((('data', -1), ('fsdp', 1)))


def _load(model: Model, prefix: str) -> tuple[Params, dict]:
  """The parameters, and what is to be said of them and of the sampling, in keys of this prefix."""
  _, params, step = checkpoint.load(model.workdir)
  made_by = {'model': f'{model.workdir.resolve().name} step {step}', 'seed': _SEED.value}
  return params, {prefix + k: v for k, v in (made_by | model.config.sampling.to_dict()).items()}


def _override(config: ConfigDict, **given) -> None:
  """Samples as the flags say where they say something."""
  config.sampling.update({k: v for k, v in given.items() if v is not None})


def _jobs() -> list[Job]:
  """The videos to make.  The prompts are there and the files can be written, or it is an error."""
  if _PROMPTS_FILE.value is not None:
    return _jobs_of_file(pathlib.Path(_PROMPTS_FILE.value), pathlib.Path(_OUTPUT.value or 'out'))
  if not _PROMPT.value.strip():
    raise ValueError('The prompt is empty; allowed is any text that is not blank.')
  files = [pathlib.Path(_OUTPUT.value or 'out.mp4')]
  if _XT_SLICE.value is not None:
    files.append(pathlib.Path(_XT_SLICE.value))
  jobs = [
    Job(_PROMPT.value, i, *(_numbered(f, i) for f in files)) for i in range(_NUM_VIDEOS.value)
  ]
  for job in jobs:
    video.check_writable(job.path)
    if job.xt_slice:
      video.check_writable(job.xt_slice)
  return jobs


def _jobs_of_file(file: pathlib.Path, folder: pathlib.Path) -> list[Job]:
  if _XT_SLICE.value is not None:
    raise ValueError('--xt_slice is for one --prompt, not for a --prompts_file.')
  if folder.suffix in video.EXTENSIONS or (folder.exists() and not folder.is_dir()):
    raise ValueError(f'--output={folder} is a file; with --prompts_file a folder is allowed.')
  try:
    prompts = [line.strip() for line in file.read_text('utf-8').splitlines() if line.strip()]
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f'Cannot read --prompts_file={file}: {error}.') from error
  if not prompts:
    raise ValueError(f'--prompts_file={file} is empty; allowed is a prompt a line.')
  slugs = [re.sub(r'\W+', '_', prompt.lower()).strip('_')[:60] for prompt in prompts]
  jobs = [
    Job(prompt, n, _numbered(folder / f'{i:03}_{slug}.mp4', n))
    for i, (prompt, slug) in enumerate(zip(prompts, slugs))
    for n in range(_NUM_VIDEOS.value)
  ]
  # Nothing is made yet: a later error should not leave an empty folder.
  video.check_writable((folder if folder.exists() else folder.parent) / jobs[0].path.name)
  return jobs


def _numbered(path: pathlib.Path, number: int) -> pathlib.Path:
  return path if _NUM_VIDEOS.value == 1 else path.with_stem(f'{path.stem}_{number}')


def _write(job: Job, pixels: video.Pixels, fps: float, made_by: dict) -> None:
  job.path.parent.mkdir(exist_ok=True)
  metadata = _metadata(job, made_by)
  video.write(job.path, video.upscaled(pixels, _UPSCALE.value), fps=fps, metadata=metadata)
  if job.xt_slice:
    image = video.upscaled(video.xt_slice(pixels)[None], _UPSCALE.value)
    video.write(job.xt_slice, image, metadata=metadata)


def _report(jobs: list[Job], made_by: dict) -> None:
  for job in jobs:
    print(*filter(None, (job.path, job.xt_slice)), sep='\n')
  if _PROMPTS_FILE.value is not None:
    index = jobs[0].path.with_name('index.jsonl')
    lines = ({'file': job.path.name} | _metadata(job, made_by) for job in jobs)
    index.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    print(index)


def _metadata(job: Job, made_by: dict) -> dict[str, str]:
  return {k: str(v) for k, v in {'prompt': job.prompt, 'number': job.number, **made_by}.items()}


VERBS = {'text_to_video': text_to_video}

if __name__ == '__main__':
  command.run_verb(VERBS)
