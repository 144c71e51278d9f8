r"""Scores videos, and the models that make them.

  python evaluate.py fvd --videos=DIR --reference=DIR --i3d=i3d.safetensors --count=2048
  python evaluate.py shapes --workdir=checkpoints/demo/t2v
  python evaluate.py report --workdir=DIR --output=report.html

In place of the folder --videos, scores take the videos of --prompts that the model in --workdir
makes.  They are kept in the folder --samples, and those that are there are not made again.
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import contextlib
import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import flags

from core import command, video
from core.usage import Verb
from data import prompts as lists
from data import synthetic
from diffusion.sampling import SPACINGS
from evaluation import samples as sampling
from evaluation import ucf101 as zero_shot
from evaluation import xt_slice as slices
from evaluation.clips import read
from evaluation.folder import Folder, open_folder
from evaluation.protocol import print_score, write_score
from evaluation.report import write_report
from evaluation.scores import METRICS, Settings, open_network, require
from evaluation.shapes import held_out
from evaluation.user_study import judgements
from evaluation.user_study.page import QUESTIONS, beside, embedded, write_study
from pipelines.checkpoints import find_base, find_super_resolution
from pipelines.jobs import Job
from training import processes

_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'The file to write: a .json of the score and its protocol, for xt_slice a .png, for report a '
  '.html.',
)

# The videos that are scored.
_VIDEOS = flags.DEFINE_string('videos', None, 'The folder of the videos to score.')
_WORKDIR = flags.DEFINE_string(
  'workdir', 'checkpoints/demo/t2v', 'The folder in which the video model was trained.'
)
_SSR_WORKDIR = flags.DEFINE_string(
  'ssr_workdir',
  None,
  'The folder in which the super-resolution model was trained.  By default there is none, and '
  'videos keep the low resolution of the video model.',
)
_PROMPTS = flags.DEFINE_string(
  'prompts',
  None,
  'A file with a list of prompts.  It ends in .txt, .tsv, .json or .jsonl.',
)
_PER_PROMPT = flags.DEFINE_integer(
  'per_prompt', 1, 'The number of videos of each prompt.', lower_bound=1
)
_COUNT = flags.DEFINE_integer(
  'count', 0, 'The number of videos to make, or of clips to draw: 0 is all.', lower_bound=0
)
_SAMPLES = flags.DEFINE_string(
  'samples',
  None,
  'The folder in which generated videos are kept, and not made again.  By default they are not '
  'kept.',
)
_EXTENSION = flags.DEFINE_enum(
  'extension',
  '.mp4',
  ('.mp4', '.npy'),
  'The format in which generated videos are kept: .npy is lossless.',
)
_HOST = flags.DEFINE_integer('host', 0, 'The number of this host, of --hosts.', lower_bound=0)
_HOSTS = flags.DEFINE_integer(
  'hosts', 1, 'The number of hosts.  Each makes its share of the videos.', lower_bound=1
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'The address of process 0, HOST:PORT, if many processes generate each video together; with auto, '
  'JAX finds it.  It is not needed under a job scheduler that JAX supports.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes',
  None,
  'The number of processes; 1 runs this process alone, even under a job scheduler.',
  lower_bound=1,
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'The number of this process, from 0.', lower_bound=0
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'The seed of all random numbers.', lower_bound=0, upper_bound=2**32 - 1
)
_BATCH = flags.DEFINE_integer(
  'batch',
  1,
  'The number of videos that are generated, or of clips that are scored, at the same time.',
  lower_bound=1,
)
_STEPS = flags.DEFINE_integer(
  'steps', None, "The number of denoising steps.  The default is the model's.", lower_bound=1
)
_GUIDANCE = flags.DEFINE_float(
  'guidance',
  None,
  "The scale of classifier-free guidance: 1 is none.  The default is the model's.",
  lower_bound=0.0,
)
_SPACING = flags.DEFINE_enum(
  'spacing',
  None,
  sorted(SPACINGS),
  "How the times of the denoising steps are spaced.  The default is the model's.",
)

# How they are scored: evaluation.scores.Settings has a field for each of these flags.
_FRAMES = flags.DEFINE_integer(
  'frames', 0, 'The number of frames in a clip: 0 is as many as the score is defined on.'
)
_FPS = flags.DEFINE_float(
  'fps',
  0.0,
  'The frame rate at which videos are read: 0 is their own, and in a user study 16.',
)
_STRIDE = flags.DEFINE_integer('stride', 1, 'The step between the frames of a clip.')
_WINDOWS = flags.DEFINE_string(
  'windows', 'first', 'Which clips of a video are scored: first, or all.'
)
_REFERENCE = flags.DEFINE_string('reference', '', 'The folder of real videos to compare with.')
_REFERENCE_COUNT = flags.DEFINE_integer(
  'reference_count',
  0,
  'The number of clips of --reference that are drawn: 0 is all.',
  lower_bound=0,
)
_WEIGHTS = 'The weights of {}: a .safetensors or .npz file, or random:SEED.'
_I3D = flags.DEFINE_string('i3d', '', _WEIGHTS.format('the I3D network'))
_C3D = flags.DEFINE_string('c3d', '', _WEIGHTS.format('the C3D network'))
_CLIP = flags.DEFINE_string('clip', '', _WEIGHTS.format('CLIP'))
_CLIP_NETWORK = flags.DEFINE_string(
  'clip_network', 'clip_b32', 'The size of CLIP: clip_b32 or clip_l14.'
)
_VOCABULARY = flags.DEFINE_string(
  'vocabulary', '', "The file of CLIP's vocabulary, bpe_simple_vocab_16e6.txt.gz, or its folder."
)
_SPLITS = flags.DEFINE_integer(
  'splits',
  1,
  'The number of parts of the videos whose inception scores are averaged.',
  lower_bound=1,
)

# Flags of single verbs.
_CLASS_PROMPTS = flags.DEFINE_string(
  'class_prompts',
  None,
  'A file that has on each line a class of UCF101, a tab and a prompt.  By default the prompts are '
  'the names of the classes.',
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Whether ucf101 only prints which videos it would make.'
)
_MASKED_WORKDIR = flags.DEFINE_string(
  'masked_workdir',
  'checkpoints/demo/t2v_masked',
  'The folder in which the model that completes masked videos was trained.',
)
_STYLES = flags.DEFINE_string(
  'styles', 'checkpoints/demo/styles', 'The folder of styles, each with its picture beside it.'
)
_CLIPS = flags.DEFINE_integer(
  'clips', 50, 'The number of held-out clips for each application.', lower_bound=1
)
_STRENGTH = flags.DEFINE_float(
  'strength',
  0.6,
  'The noise level up to which a clip is noised before it is edited.',
  lower_bound=0.0,
  upper_bound=1.0,
)
_ROW = flags.DEFINE_string(
  'row',
  None,
  'The row of an X-T slice: a number of pixels from the top, or with a point a share of the '
  'height.  The default is 0.5.',
)
_COLUMN = flags.DEFINE_string(
  'column',
  None,
  'The column of an X-T slice, in place of --row: pixels from the left, or a share of the width.',
)
for _place in (_ROW, _COLUMN):
  flags.register_validator(
    _place,
    lambda value: value is None or value.replace('.', '', 1).isdecimal(),
    'allowed is a number, as 64, or a share with a point, as 0.5',
  )
_OURS = flags.DEFINE_string('ours', None, 'The folder of the videos that raters judge.')
_THEIRS = flags.DEFINE_string(
  'theirs', None, "The folder of another system's videos, which have the same names."
)
_STUDY = flags.DEFINE_string('study', None, 'A new folder for the page of a study and its key.')
_REAL = flags.DEFINE_string(
  'real',
  None,
  'A folder of real videos, with prompts of their own, from which checks of vigilance are made.  '
  'One is recommended.',
)
_QUESTIONS = flags.DEFINE_list(
  'questions', list(QUESTIONS), 'The questions that are asked about a pair of videos.'
)
_SIZE = flags.DEFINE_integer(
  'size', 512, 'The side in pixels of the videos that raters see.', lower_bound=16
)
_IMAGES = flags.DEFINE_string(
  'images', None, 'The folder of the images from which both systems made their videos.'
)
_PAIRS = flags.DEFINE_integer('pairs', 10, 'The number of pairs that a rater sees.', lower_bound=1)
_VIGILANCE = flags.DEFINE_integer(
  'vigilance', 2, 'The number of pairs that check the vigilance of a rater.', lower_bound=0
)
_POST_URL = flags.DEFINE_string(
  'post_url', None, 'The URL to which answers are posted.  By default a rater saves them to a file.'
)
_BESIDE = flags.DEFINE_bool(
  'beside', False, 'Whether videos are files beside the page of a study, and not part of it.'
)
_ANALYSE = flags.DEFINE_string(
  'analyse', None, 'The folder of what raters saved, which is analysed in place of a new study.'
)
_KEY = flags.DEFINE_string('key', None, 'The key.json of the study that is analysed.')
_ALLOWED = flags.DEFINE_integer(
  'allowed_fails', 0, 'The number of checks that a rater may fail and still count.'
)


def _together(verb: Callable[..., None]) -> Callable[..., None]:
  """The verb, in all processes of a run if there are several and it samples a model.  The first one
  writes and scores."""

  @functools.wraps(verb)
  def called(*arguments):
    if _VIDEOS.value or _DRY_RUN.value:
      return verb(*arguments)
    who = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    with processes.together(*who, command.report):
      read = _PROMPTS.value, _CLASS_PROMPTS.value
      processes.require_same(command.ROOT, processes.of_command(VERBS, read))
      verb(*arguments)

  return called


@_together
def score(metric: str) -> None:
  """Computes one of `METRICS` for the videos, and prints and writes it."""
  output, settings = command.json_file(_OUTPUT.value), _settings()
  _prepare([metric], settings)
  prompts = None
  if not _VIDEOS.value:
    if metric == 'shapes' and not _PROMPTS.value:
      prompts = [synthetic.prompt(seed).caption for seed in range(_COUNT.value or 40)]
    else:
      prompts = _read_prompts()
  with _videos(prompts) as folder:
    if folder:
      print_score(METRICS[metric](folder, settings), output)


@_together
def prompts() -> None:
  """Generates the videos of a list of prompts, in a folder with an index."""
  if not _SAMPLES.value:
    raise UserError('prompts needs --samples=DIR.')
  with _videos(_read_prompts()) as folder:
    if folder:
      print(f'{len(folder.files)} videos: {folder.path}')


@_together
def ucf101() -> None:
  """Scores videos by the zero-shot protocol of UCF101, beside published scores."""
  count = _COUNT.value or zero_shot.COUNT
  class_prompts = zero_shot.class_prompts(
    _CLASS_PROMPTS.value and pathlib.Path(_CLASS_PROMPTS.value)
  )
  if _DRY_RUN.value:
    return print(zero_shot.describe(count, class_prompts))
  output, settings = command.json_file(_OUTPUT.value), _settings()
  metrics = [name for name, flag in (('fvd', _I3D), ('inception_score', _C3D)) if flag.value]
  if not metrics:
    raise UserError('ucf101 needs --i3d=FILE and --reference=DIR, --c3d=FILE, or all of these.')
  if not _VIDEOS.value and not _SAMPLES.value:
    raise UserError('ucf101 needs --samples=DIR, or the --videos that were made.')
  _prepare(metrics, settings)
  prompts = None if _VIDEOS.value else zero_shot.video_prompts(count, class_prompts)
  with _videos(prompts) as folder:
    if not folder:
      return
    results = {metric: METRICS[metric](folder, settings) for metric in metrics}
  scores = {name: result['score'][name] for name, result in results.items()}
  print(zero_shot.comparison_table(str(folder.path), *map(scores.get, ('fvd', 'inception_score'))))
  for result in results.values():
    print_score(result, None)
  protocol = {name: result['protocol'] for name, result in results.items()}
  protocol |= {'class_prompts': class_prompts}
  if output:
    parts = list(results.values())
    write_score(output, 'ucf101', parts[0]['of'], scores, protocol, parts=parts)


@_together
def applications() -> None:
  """Scores each application on held-out clips of moving shapes."""
  output = command.json_file(_OUTPUT.value)
  options = {'steps': _STEPS.value, 'guidance': _GUIDANCE.value, 'spacing': _SPACING.value}
  result = held_out.applications(
    pathlib.Path(_WORKDIR.value),
    pathlib.Path(_MASKED_WORKDIR.value),
    pathlib.Path(_STYLES.value),
    clips=_CLIPS.value,
    strength=_STRENGTH.value,
    sampling={k: v for k, v in options.items() if v is not None},
  )
  if output and jax.process_index() == 0:
    write_score(output, **result)


def xt_slice() -> None:
  """Draws a row or a column of every frame, stacked over time, of several videos."""
  if not _OUTPUT.value or not _OUTPUT.value.endswith('.png') or not _VIDEOS.value:
    raise UserError('xt_slice needs --videos=DIR and --output=FILE.png.')
  video.check_writable(_OUTPUT.value)
  folder, reading = open_folder(_VIDEOS.value), _settings().reading('xt_slice')
  files = folder.files[: _COUNT.value or len(folder.files)]
  clips = ((file, next(read(folder.path / file, reading))) for file in files)
  place = lambda text: text and (float(text) if '.' in text else int(text))
  image = slices.picture(clips, row=place(_ROW.value), column=place(_COLUMN.value))
  video.write(_OUTPUT.value, image[None])


def user_study() -> None:
  """Writes the page of a user study; with --analyse, prints what its raters prefer."""
  if _ANALYSE.value:
    if not _KEY.value:
      raise UserError('--analyse=DIR needs the --key=key.json of its study.')
    output = command.json_file(_OUTPUT.value)
    files = pathlib.Path(_ANALYSE.value), pathlib.Path(_KEY.value)
    result = judgements.print_report(*files, allowed=_ALLOWED.value)
    if output:
      write_score(output, 'user_study', _ANALYSE.value, **result)
    return
  if not (_OURS.value and _THEIRS.value and _STUDY.value):
    raise UserError('user_study needs --ours=DIR, --theirs=DIR and --study=DIR, or --analyse=DIR.')
  page = write_study(
    pathlib.Path(_OURS.value),
    pathlib.Path(_THEIRS.value),
    pathlib.Path(_STUDY.value),
    questions=_QUESTIONS.value,
    pairs=_PAIRS.value,
    vigilance=_VIGILANCE.value,
    real=_REAL.value and pathlib.Path(_REAL.value),
    images=_IMAGES.value and pathlib.Path(_IMAGES.value),
    size=_SIZE.value,
    fps=_FPS.value or 16.0,
    seed=_SEED.value,
    post_url=_POST_URL.value,
    place=beside if _BESIDE.value else embedded,
  )
  print(f'for raters: {page}\nnot for raters: {page.parents[1] / "key.json"}')


def report() -> None:
  """Writes the report of a run: losses, samples, their X-T slices, and scores."""
  output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else None
  print(write_report(pathlib.Path(_WORKDIR.value), output))


def _settings() -> Settings:
  settings = Settings(**{name: flags.FLAGS[name].value for name in vars(Settings())})
  # For generated videos, --count is the number of videos, all of which are scored.
  return settings if _VIDEOS.value else dataclasses.replace(settings, count=0)


def _prepare(metrics: Sequence[str], settings: Settings) -> None:
  """Opens the networks and checks the folders, so that mistakes are found before sampling."""
  for metric in metrics:
    require(metric, settings)
  if jax.process_index() > 0:
    return
  if _SAMPLES.value:
    sampling.require_place(pathlib.Path(_SAMPLES.value))
  for metric in metrics:
    open_network(metric, settings)


def _read_prompts() -> list[str]:
  """The prompts of --prompts; if --count is given, that many, repeated if there are fewer."""
  if not _PROMPTS.value:
    raise UserError('Neither --videos=DIR nor --prompts=FILE says what is scored.')
  prompts = lists.read(pathlib.Path(_PROMPTS.value))
  return [prompts[i % len(prompts)] for i in range(_COUNT.value or len(prompts))]


@contextlib.contextmanager
def _videos(prompts: Sequence[str] | None) -> Iterator[Folder | None]:
  """The folder --videos or, with prompts, of their generated videos.

  None until all are made, and in all processes but the first.
  """
  if prompts is None:
    yield open_folder(_VIDEOS.value)
    return
  with contextlib.ExitStack() as stack:
    folder, extension = _SAMPLES.value, _EXTENSION.value
    if not folder and _HOSTS.value > 1:
      raise UserError('--hosts needs --samples=DIR, a folder that all of them see.')
    if not folder:
      folder, extension = stack.enter_context(tempfile.TemporaryDirectory()), '.npy'
    jobs = sampling.plan(prompts, pathlib.Path(folder), extension, _PER_PROMPT.value)
    complete = _generate(jobs)
    yield sampling.sampled(jobs) if complete and jax.process_index() == 0 else None


def _generate(jobs: Sequence[Job]) -> bool:
  """Generates this host's share of the videos; returns whether all videos exist."""
  base = find_base(
    _WORKDIR.value, steps=_STEPS.value, guidance=_GUIDANCE.value, spacing=_SPACING.value
  )
  ssr_workdir = _SSR_WORKDIR.value
  ssr = find_super_resolution(ssr_workdir, base.config.data) if ssr_workdir else None
  share = dict(host=_HOST.value, hosts=_HOSTS.value)
  missing = sampling.sample(jobs, base, ssr, batch=_BATCH.value, seed=_SEED.value, **share)
  if missing and jax.process_index() == 0:
    print(f'{len(missing)} of {len(jobs)} videos are not there yet: other hosts make them.')
  return not missing


SAMPLING = ('workdir', 'ssr_workdir', 'prompts', 'per_prompt', 'count', 'samples', 'extension')
SAMPLING += ('host', 'hosts', 'seed', 'batch', 'steps', 'guidance', 'spacing')
PROCESSES = ('coordinator', 'num_processes', 'process_id')
SAMPLING += PROCESSES
READING = ('frames', 'fps', 'stride', 'windows')
APPLICATIONS = ('output', 'workdir', 'masked_workdir', 'styles', 'clips', 'strength')
APPLICATIONS += ('steps', 'guidance', 'spacing', *PROCESSES)
FVD, INCEPTION = ('reference', 'reference_count', 'i3d'), ('c3d', 'splits')
CLIP = ('clip', 'clip_network', 'vocabulary')
SCORED = ('videos', *SAMPLING)
UCF101 = ('output', 'class_prompts', 'dry_run', *FVD, *INCEPTION, *READING, *SCORED)
XT_SLICE = ('videos', 'output', 'row', 'column', 'count', *READING)
STUDY = ('ours', 'theirs', 'study', 'questions', 'pairs', 'vigilance', 'real', 'images', 'size')
STUDY += ('fps', 'seed', 'post_url', 'beside')
ANALYSIS = ('analyse', 'key', 'allowed_fails', 'output')


def _metric(name: str, flags: Sequence[str], example: str) -> tuple[str, Verb]:
  """The verb that computes a metric, which takes these flags beside those of all metrics."""
  groups = {'score': (*flags, *READING, 'output'), 'videos, or the model of them': SCORED}
  about = METRICS[name].__doc__.splitlines()[0]
  line = f'python evaluate.py {name} {example}'
  return name, Verb(functools.partial(score, name), about, line, groups)


def _verb(call, flags: Sequence[str], example: str, **more) -> tuple[str, Verb]:
  """A verb that takes these flags."""
  name, about = call.__name__, call.__doc__.splitlines()[0]
  return name, Verb(call, about, f'python evaluate.py {name} {example}', {'flags': flags} | more)


VERBS = dict(
  (
    _metric('shapes', (), '--workdir=checkpoints/demo/t2v'),
    _metric('fvd', FVD, '--videos=DIR --reference=DIR --i3d=i3d.safetensors --count=2048'),
    _metric('inception_score', INCEPTION, '--videos=DIR --c3d=c3d.safetensors'),
    _metric('clip_score', CLIP, '--videos=DIR --clip=CLIP_DIR --vocabulary=CLIP_DIR'),
    _metric('motion', (), '--videos=DIR'),
    _verb(applications, APPLICATIONS, '--masked_workdir=checkpoints/demo/t2v_masked'),
    _verb(prompts, SAMPLING, '--prompts=list.txt --workdir=DIR --samples=DIR'),
    _verb(ucf101, UCF101, '--workdir=DIR --samples=DIR --reference=DIR --i3d=FILE --c3d=FILE'),
    _verb(xt_slice, XT_SLICE, '--videos=DIR --row=64 --output=slices.png'),
    _verb(user_study, STUDY, '--ours=DIR --theirs=DIR --study=DIR', analysis=ANALYSIS),
    _verb(report, ('workdir', 'output'), '--workdir=DIR --output=report.html'),
  )
)

if __name__ == '__main__':
  command.run_verb(VERBS, __doc__)
