r"""Makes videos with a trained model.

  python sample.py text_to_video --prompt='a red circle moving right on a black background' \
    --output=out.mp4 --workdir=checkpoints/demo/t2v
"""

import dataclasses
import json
import pathlib
import re
import time

from absl import flags
from tqdm import tqdm

from core import command, video
from diffusion.process import Process
from pipelines.text_to_video import SAMPLERS, in_batches, make_text_to_video
from stunet.unet import STUNet
from text.hashed import encoder
from training import checkpoint

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
_UPSCALE = flags.DEFINE_integer('upscale', 1, 'A pixel is a square of this side.', lower_bound=1)
_XT_SLICE = flags.DEFINE_string(
  'xt_slice', None, 'An image, .png, of the middle row of every frame, stacked over time.'
)


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
  workdir = pathlib.Path(_WORKDIR.value)
  config = checkpoint.load_config(workdir)
  model = STUNet(**config.model)
  shape = (_NUM_FRAMES.value or config.data.frames, config.data.size, config.data.size, 3)
  model.check_frames(shape[0])
  given = {'sampler': _SAMPLER.value, 'steps': _STEPS.value, 'guidance': _GUIDANCE.value}
  options = config.sampling.to_dict() | {k: v for k, v in given.items() if v is not None}
  _, params, step = checkpoint.load(workdir)
  made_by = {'model': f'{workdir.resolve().name} step {step}', 'seed': _SEED.value, **options}

  with tqdm(total=options['steps'], desc='compiling', unit='step') as bar:
    generate = make_text_to_video(
      lambda params, *inputs: model.apply({'params': params}, *inputs),
      Process(**config.schedule),
      shape,
      on_step=lambda i: bar.update(i + 1 - bar.n),
      **options,
    )
    begin = time.perf_counter()
    batch = min(_BATCH.value, len(jobs))
    make = in_batches(generate, params, encoder(**config.text), batch=batch, seed=_SEED.value)
    compiled = time.perf_counter()
    for done in range(0, len(jobs), batch):
      bar.reset()
      bar.set_description(f'video {done + 1} of {len(jobs)}')
      some = jobs[done : done + batch]
      videos = make([job.prompt for job in some], [job.number for job in some])
      for job, pixels in zip(some, video.to_uint8(videos)):
        _write(job, pixels, config.data.fps, made_by)
    end = time.perf_counter()

  _report(jobs, made_by)
  print(f'compiled in {compiled - begin:.1f} s, made in {end - compiled:.1f} s')


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
