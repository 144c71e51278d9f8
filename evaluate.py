r"""Scores videos, and the models that make them.

  python evaluate.py fvd --videos=DIR --reference=DIR --i3d=i3d.safetensors --count=2048
  python evaluate.py inception_score --videos=DIR --c3d=c3d.safetensors
  python evaluate.py clip_score --videos=DIR --clip=CLIP_DIR --vocabulary=CLIP_DIR
  python evaluate.py motion --videos=DIR
  python evaluate.py shapes --workdir=checkpoints/demo/t2v
  python evaluate.py applications --masked_workdir=checkpoints/demo/t2v_masked
  python evaluate.py xt_slice --videos=DIR --row=64 --output=slices.png
  python evaluate.py prompts --prompts=list.txt --workdir=DIR --samples=DIR
  python evaluate.py ucf101 --workdir=DIR --samples=DIR --reference=DIR --i3d=FILE --c3d=FILE
  python evaluate.py user_study --ours=DIR --theirs=DIR --study=DIR
  python evaluate.py report --workdir=DIR --output=report.html

Instead of a folder of --videos, scores take those of --prompts that the model in --workdir makes,
in the folder --samples; what is there already is not made again.
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import contextlib
import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

from absl import flags

from core import command, video
from data import prompts as lists
from data import synthetic
from diffusion.sampling import SPACINGS
from evaluation import samples as sampling
from evaluation import ucf101 as zero_shot
from evaluation import xt_slice as slices
from evaluation.protocol import write_score
from evaluation.report import write_report
from evaluation.scores import METRICS, Settings, network_of, require
from evaluation.shapes import held_out
from evaluation.telling import tell
from evaluation.user_study import judgements
from evaluation.user_study.page import QUESTIONS, beside, embedded, write_study
from evaluation.videos import Folder, open_folder, read
from pipelines.jobs import Job
from pipelines.run import Model

_OUTPUT = flags.DEFINE_string('output', None, 'A .json file for the score and its protocol.')

# What is scored.
_VIDEOS = flags.DEFINE_string('videos', None, 'A folder of videos to score.')
_WORKDIR = flags.DEFINE_string('workdir', 'checkpoints/demo/t2v', 'Where the model was trained.')
_SSR_WORKDIR = flags.DEFINE_string('ssr_workdir', None, 'Where one that makes videos large was.')
_PROMPTS = flags.DEFINE_string('prompts', None, 'A list of prompts: .txt, .tsv, .json or .jsonl.')
_PER_PROMPT = flags.DEFINE_integer('per_prompt', 1, 'Videos of each.', lower_bound=1)
_COUNT = flags.DEFINE_integer(
  'count', 0, 'Of videos to make, or of clips to draw; 0 is all.', lower_bound=0
)
_SAMPLES = flags.DEFINE_string('samples', None, 'A folder for what is made; none keeps nothing.')
_EXTENSION = flags.DEFINE_enum('extension', '.mp4', ('.mp4', '.npy'), 'A .npy loses nothing.')
_HOST = flags.DEFINE_integer('host', 0, 'Which of --hosts this is.', lower_bound=0)
_HOSTS = flags.DEFINE_integer('hosts', 1, 'That share what is made, each alone.', lower_bound=1)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Of all that is drawn.', lower_bound=0, upper_bound=2**32 - 1
)
_BATCH = flags.DEFINE_integer('batch', 1, 'Videos made, or clips seen, at once.', lower_bound=1)
_STEPS = flags.DEFINE_integer('steps', None, "The model's by default.", lower_bound=1)
_GUIDANCE = flags.DEFINE_float('guidance', None, "The model's by default.", lower_bound=0.0)
_SPACING = flags.DEFINE_enum('spacing', None, sorted(SPACINGS), "The model's by default.")

# How it is scored: evaluation.scores.Settings has a flag for each of its fields.
_FRAMES = flags.DEFINE_integer('frames', 0, 'Of a clip; 0 is as many as the score takes.')
_FPS = flags.DEFINE_float(
  'fps', 0.0, 'Frames a second; 0 is those that are stored, and 16 in a study.'
)
_STRIDE = flags.DEFINE_integer('stride', 1, 'Every so many of them.')
_WINDOWS = flags.DEFINE_string('windows', 'first', 'The first clip of a video, or all.')
_REFERENCE = flags.DEFINE_string('reference', '', 'A folder of real videos.')
_REFERENCE_COUNT = flags.DEFINE_integer(
  'reference_count', 0, 'Clips of it; 0 is all.', lower_bound=0
)
_WEIGHTS = 'Weights: .safetensors, .npz, or random:SEED.'
_I3D = flags.DEFINE_string('i3d', '', _WEIGHTS)
_C3D = flags.DEFINE_string('c3d', '', _WEIGHTS)
_CLIP = flags.DEFINE_string('clip', '', _WEIGHTS)
_CLIP_NETWORK = flags.DEFINE_string('clip_network', 'clip_b32', 'Or clip_l14.')
_VOCABULARY = flags.DEFINE_string('vocabulary', '', "CLIP's bpe_simple_vocab_16e6.txt.gz.")
_SPLITS = flags.DEFINE_integer('splits', 1, 'Of the inception score.', lower_bound=1)

# Of single verbs.
_CLASS_PROMPTS = flags.DEFINE_string(
  'class_prompts', None, "UCF101's classes, a tab and a prompt a line; their names by default."
)
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Says what ucf101 would make, and no more.')
_MASKED_WORKDIR = flags.DEFINE_string(
  'masked_workdir', 'checkpoints/demo/t2v_masked', 'The model that is given part of a video.'
)
_STYLES = flags.DEFINE_string(
  'styles', 'checkpoints/demo/styles', 'A folder of styles, each with its picture beside it.'
)
_CLIPS = flags.DEFINE_integer('clips', 50, 'How many are held out.', lower_bound=1)
_STRENGTH = flags.DEFINE_float('strength', 0.6, 'Of edits.', 0.0, upper_bound=1.0)

_ROW = flags.DEFINE_string(
  'row', None, 'For xt_slice: of pixels, or, with a point, a share of the height; 0.5 by default.'
)
_COLUMN = flags.DEFINE_string('column', None, 'The same from the left, instead of a row.')
for _place in (_ROW, _COLUMN):
  flags.register_validator(
    _place,
    lambda value: value is None or value.replace('.', '', 1).isdecimal(),
    'allowed is a number, as 64, or a share with a point, as 0.5',
  )
_OURS = flags.DEFINE_string('ours', None, 'A folder of videos to ask raters about.')
_THEIRS = flags.DEFINE_string('theirs', None, 'A folder of the same names, of another system.')
_STUDY = flags.DEFINE_string('study', None, 'A new folder for the page and its key.')
_REAL = flags.DEFINE_string(
  'real',
  None,
  'A folder of real videos, with prompts of its own, for checks of vigilance; advised.',
)
_QUESTIONS = flags.DEFINE_list('questions', list(QUESTIONS), 'That are asked of a pair.')
_SIZE = flags.DEFINE_integer('size', 512, 'Of videos that raters see, in pixels.', lower_bound=16)
_IMAGES = flags.DEFINE_string('images', None, 'A folder of what both systems were given.')
_PAIRS = flags.DEFINE_integer('pairs', 10, 'That a rater sees.', lower_bound=1)
_VIGILANCE = flags.DEFINE_integer('vigilance', 2, 'Of these, checks.', lower_bound=0)
_POST_URL = flags.DEFINE_string('post_url', None, 'Where answers go; a file by default.')
_BESIDE = flags.DEFINE_bool('beside', False, 'Puts videos beside the page, not into it.')
_ANALYSE = flags.DEFINE_string('analyse', None, 'A folder of what raters saved.')
_KEY = flags.DEFINE_string('key', None, 'The key.json of their study.')
_ALLOWED = flags.DEFINE_integer('allowed_fails', 0, 'Of checks, by a rater who counts.')


def score(metric: str) -> None:
  """One of `METRICS` of the videos."""
  output, settings = command.json_file(_OUTPUT.value), _settings()
  _prepare([metric], settings)
  texts = None
  if not _VIDEOS.value:
    if metric == 'shapes' and not _PROMPTS.value:
      texts = [synthetic.prompt(seed).caption for seed in range(_COUNT.value or 40)]
    else:
      texts = _listed()
  with _videos(texts) as folder:
    if folder:
      tell(METRICS[metric](folder, settings), output)


def prompts() -> None:
  """A video of every prompt, in a folder with an index."""
  if not _SAMPLES.value:
    raise UserError('prompts needs --samples=DIR.')
  with _videos(_listed()) as folder:
    if folder:
      print(f'{len(folder.files)} videos: {folder.path}')


def ucf101() -> None:
  """The zero-shot protocol of UCF101, and what others reached by it."""
  count = _COUNT.value or zero_shot.COUNT
  of = zero_shot.class_prompts(_CLASS_PROMPTS.value and pathlib.Path(_CLASS_PROMPTS.value))
  if _DRY_RUN.value:
    return print(zero_shot.described(count, of))
  output, settings = command.json_file(_OUTPUT.value), _settings()
  metrics = [name for name, told in (('fvd', _I3D), ('inception_score', _C3D)) if told.value]
  if not metrics:
    raise UserError('ucf101 needs --i3d=FILE and --reference=DIR, --c3d=FILE, or all of these.')
  if not _VIDEOS.value and not _SAMPLES.value:
    raise UserError('ucf101 needs --samples=DIR, or the --videos that were made.')
  _prepare(metrics, settings)
  with _videos(None if _VIDEOS.value else zero_shot.prompts(count, of)) as folder:
    if not folder:
      return
    found = {metric: METRICS[metric](folder, settings) for metric in metrics}
  scores = {name: one['score'][name] for name, one in found.items()}
  print(zero_shot.beside_published(str(folder.path), *map(scores.get, ('fvd', 'inception_score'))))
  for one in found.values():
    tell(one, None)
  protocol = {name: one['protocol'] for name, one in found.items()} | {'class_prompts': of}
  if output:
    parts = list(found.values())
    write_score(output, 'ucf101', parts[0]['of'], scores, protocol, parts=parts)


def applications() -> None:
  """The share of held-out clips with which each application does what it is for."""
  output = command.json_file(_OUTPUT.value)
  sampled = {'steps': _STEPS.value, 'guidance': _GUIDANCE.value, 'spacing': _SPACING.value}
  found = held_out.applications(
    pathlib.Path(_WORKDIR.value),
    pathlib.Path(_MASKED_WORKDIR.value),
    pathlib.Path(_STYLES.value),
    clips=_CLIPS.value,
    strength=_STRENGTH.value,
    sampling={k: v for k, v in sampled.items() if v is not None},
  )
  if output:
    write_score(output, **found)


def xt_slice() -> None:
  """A row or a column of every frame, stacked over time, of videos above one another."""
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
  """A page that asks which of two systems' videos is better; with --analyse, what raters said."""
  if _ANALYSE.value:
    if not _KEY.value:
      raise UserError('--analyse=DIR needs the --key=key.json of its study.')
    output = command.json_file(_OUTPUT.value)
    files = pathlib.Path(_ANALYSE.value), pathlib.Path(_KEY.value)
    found = judgements.report(*files, allowed=_ALLOWED.value)
    if output:
      write_score(output, 'user_study', _ANALYSE.value, **found)
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
  """One page of a training: losses, samples, their slices, and scores with protocols."""
  output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else None
  print(write_report(pathlib.Path(_WORKDIR.value), output))


def _settings() -> Settings:
  told = Settings(**{name: flags.FLAGS[name].value for name in vars(Settings())})
  # Of videos that are made, --count says how many they are, and all of them are scored.
  return told if _VIDEOS.value else dataclasses.replace(told, count=0)


def _prepare(metrics: Sequence[str], settings: Settings) -> None:
  """Opens all that metrics need, before hours of sampling, for which there has to be a place."""
  if _SAMPLES.value:
    sampling.require_place(pathlib.Path(_SAMPLES.value))
  for metric in metrics:
    require(metric, settings)
    network_of(metric, settings)


def _listed() -> list[str]:
  """The prompts of --prompts, so many as --count says, from the first on and over again."""
  if not _PROMPTS.value:
    raise UserError('Neither --videos=DIR nor --prompts=FILE says what is scored.')
  found = lists.read(pathlib.Path(_PROMPTS.value))
  return [found[i % len(found)] for i in range(_COUNT.value or len(found))]


@contextlib.contextmanager
def _videos(texts: Sequence[str] | None) -> Iterator[Folder | None]:
  """--videos, or those of the texts once all are made; None where other hosts make some yet."""
  if texts is None:
    yield open_folder(_VIDEOS.value)
    return
  with contextlib.ExitStack() as stack:
    kept, extension = _SAMPLES.value, _EXTENSION.value
    if not kept and _HOSTS.value > 1:
      raise UserError('--hosts needs --samples=DIR, a folder that all of them see.')
    if not kept:
      kept, extension = stack.enter_context(tempfile.TemporaryDirectory()), '.npy'
    jobs = sampling.plan(texts, pathlib.Path(kept), extension, _PER_PROMPT.value)
    yield sampling.sampled(jobs) if _made(jobs) else None


def _made(jobs: Sequence[Job]) -> bool:
  """Makes this host's share of the videos; whether all are there."""
  base = Model.of_videos(
    pathlib.Path(_WORKDIR.value),
    masked=False,
    frames=None,
    steps=_STEPS.value,
    guidance=_GUIDANCE.value,
    spacing=_SPACING.value,
  )
  large = _SSR_WORKDIR.value and pathlib.Path(_SSR_WORKDIR.value)
  ssr = Model.of_super_resolution(large, base.config.data) if large else None
  share = dict(host=_HOST.value, hosts=_HOSTS.value)
  missing = sampling.sample(jobs, base, ssr, batch=_BATCH.value, seed=_SEED.value, **share)
  if missing:
    print(f'{len(missing)} of {len(jobs)} videos are not there yet: other hosts make them.')
  return not missing


VERBS = {name: functools.partial(score, name) for name in METRICS} | {
  of.__name__: of for of in (applications, prompts, ucf101, xt_slice, user_study, report)
}

if __name__ == '__main__':
  command.run_verb(VERBS)
