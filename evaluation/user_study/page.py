"""A page on which raters choose between two systems' videos, side by side.

Two-alternative forced choice with vigilance checks (Lumiere, Sec. 5.2).  `judgements.py` reads the
answers.
"""

import base64
import dataclasses
import hashlib
import html
import json
import pathlib
import random
import shutil
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence

from tqdm import tqdm

from core import video
from core.errors import UserError
from core.folder import new_folder
from core.writable import require_folder
from data.decode import decode
from evaluation.folder import open_folder
from evaluation.user_study import checks
from evaluation.user_study.checks import Moving
from evaluation.user_study.matching import by_name, few, input_images, match, prompts, read_clips

Path = pathlib.Path

# In the order in which they are asked.  The text is shown only with its own question, so that it
# cannot affect the judgement of quality.
QUESTIONS = {
  'quality': 'Which video has better visual quality and motion?',
  'text': 'Which video matches the text better?',
}
FORMAT = 1  # the version of files of keys and answers
MAX_EMBEDDED = 64  # MiB of videos in one page; a phone can still open it

_TEMPLATE = Path(__file__).with_suffix('.html')


@dataclasses.dataclass(frozen=True)
class Item:
  """Two videos side by side, `a` and `b`, in random order; only the key has which is which."""

  id: str
  a: str
  b: str
  known: str  # the side of our video, or of the right video in a check
  kind: str  # 'pair', or the kind of a check's wrong video: 'still' or 'noise'
  name: str
  questions: tuple[str, ...]
  prompt: str
  image: str


def embedded(folder: Path) -> str:
  """The HTML that embeds the videos of a folder, which is removed, so that the page is one file."""
  files = sorted(folder.iterdir())
  size = sum(file.stat().st_size for file in files) / 2**20
  if size > MAX_EMBEDDED:
    raise UserError(
      f'The videos take {size:.0f} MiB; in one page at most {MAX_EMBEDDED} are allowed: place them '
      'beside the page, or make them smaller.'
    )
  # In scripts of their own: a browser parses the main script when it opens the page, but these only
  # when they are shown.
  encoded = ((file.stem, base64.b64encode(file.read_bytes()).decode()) for file in files)
  text = '\n'.join(f'<script type="text/plain" id="v{id}">{data}</script>' for id, data in encoded)
  shutil.rmtree(folder)
  return text


def beside(folder: Path) -> str:
  """The HTML for videos that stay in their folder beside the page: an empty string."""
  return ''


def write_study(
  ours: Path,
  theirs: Path,
  out: Path,
  *,
  questions: Sequence[str] = tuple(QUESTIONS),
  pairs: int = 10,
  vigilance: int = 2,
  real: Path | None = None,
  images: Path | None = None,
  size: int = 512,
  fps: float = 16.0,
  seed: int = 0,
  post_url: str | None = None,
  place: Callable[[Path], str] = embedded,
) -> Path:
  """Writes the page `out/page/index.html`, and returns its path.

  `out/key.json` has which video is whose, and must not be shown to raters.  Raters save their
  answers as files, or the page POSTs them to `post_url`, as text/plain.

  ours, theirs: folders of videos; two videos of the same name are a pair.  Prompts are in
    `index.jsonl`, as `sample.py` writes it.
  pairs: the number of pairs that a rater sees, including the checks.
  vigilance: the number of checks; alternately a video beside its first frame, and one beside noise.
  real: a folder of real videos with their own prompts, as in the paper; the checks show the first
    by name that move enough.  Without it they show generated videos of about the median motion,
    since those that move most may flicker; but a careful rater may prefer a still to a generated
    video.
  images: the images that both systems were given, by the names of the pairs.
  size, fps: the side in pixels and the frame rate of all videos, which are H.264.
  place: `embedded` or `beside`.

  UserError where `out` exists, names or prompts do not match, or there are too few videos.
  """
  folders = [open_folder(folder) for folder in (ours, theirs, real) if folder]
  files, texts = match(*folders[:2]), prompts(folders[:2])
  real_files, check_texts = (by_name(folders[2]), prompts(folders[2:])) if real else ({}, texts)
  _require(files, texts, questions, pairs, vigilance, size, out)
  origin = _origin(post_url)
  inputs = input_images(images, files, size=size) if images else {}
  rng, kinds = random.Random(_secret(files, seed)), checks.check_kinds(vigilance, questions)
  facts = dict(pairs=pairs, vigilance=vigilance, size=size, fps=fps, seed=seed)
  with new_folder(out) as temporary:
    folder = temporary / 'page' / 'videos'
    folder.mkdir(parents=True)
    items, moving = _pairs(files, questions, texts, inputs, folder, rng, size, fps)
    if real:
      moving = _select_real(real_files, kinds, folder, rng, size, fps)
    else:
      moving = checks.median_first(moving)
    items += _checks(moving, kinds, questions, check_texts, folder, rng, fps)
    rng.shuffle(items)  # their order would show which are checks, and the order of names
    study = _identity(items, folder, facts)
    key = {'version': FORMAT, 'study': study, 'ours': str(ours), 'theirs': str(theirs), **facts}
    key['items'] = {item.id: _key_entry(item) for item in items}
    (temporary / 'key.json').write_text(json.dumps(key, indent=2) + '\n', 'utf-8')
    page = _page(study, items, questions, pairs - vigilance, post_url, origin, place(folder))
    (temporary / 'page' / 'index.html').write_text(page, 'utf-8')
  return out / 'page' / 'index.html'


def _require(files, texts: Mapping[str, str], questions, pairs, vigilance, size, out: Path) -> None:
  if not questions or set(questions) - QUESTIONS.keys() or len(set(questions)) < len(questions):
    raise UserError(f'Got the questions {list(questions)}; allowed are some of {list(QUESTIONS)}.')
  without_prompt = [name for name in files if not texts.get(name, '').strip()]
  if without_prompt and 'text' in questions:
    raise UserError(
      f'No prompt in index.jsonl for {few(without_prompt)}; without, the question text is not '
      'allowed.'
    )
  if not 0 <= vigilance < pairs or pairs - vigilance > len(files):
    raise UserError(
      f'Got {pairs} pairs a rater with {vigilance} checks among them, and {len(files)} pairs of '
      f'videos; allowed are checks from 0 on, and 1 to {len(files)} pairs that are none.'
    )
  if size < 16:
    raise UserError(f'Got videos of {size} pixels; allowed are 16 or more.')
  if out.exists():
    raise UserError(f'{out} is there, perhaps with the key to answers; allowed is a new folder.')
  if not out.absolute().parent.is_dir():
    raise UserError(f'{out}: there is no folder {out.absolute().parent}.')
  require_folder(out)


def _origin(post_url: str | None) -> str:
  """The origin that the page may connect to, for its Content-Security-Policy."""
  if post_url is None:
    return "'none'"
  try:
    parts = urllib.parse.urlsplit(post_url)
    valid = parts.scheme in ('http', 'https') and parts.hostname and parts.port != 0
  except ValueError:  # a malformed host in brackets, or port
    valid = False
  if not valid:
    raise UserError(f'Cannot post to {post_url!r}; allowed are addresses of http:// or https://.')
  return f'{parts.scheme}://{parts.netloc}'


def _secret(files: Mapping[str, tuple[Path, Path]], seed: int) -> str:
  """The seed of all random names and sides, which nobody can compute from the page alone."""
  digest = hashlib.sha256(str(seed).encode())
  for file in (file for pair in files.values() for file in pair):
    digest.update(hashlib.sha256(file.read_bytes()).digest())
  return digest.hexdigest()


def _opaque(rng: random.Random) -> str:
  return f'{rng.getrandbits(48):012x}'


def _add(clip: video.Pixels, folder: Path, fps: float, rng: random.Random) -> str:
  id = _opaque(rng)
  video.write(folder / f'{id}.mp4', clip, fps=fps)
  return id


def _item(rng, ids: Sequence[str], kind, name, questions, prompt='', image='') -> Item:
  """An item of two videos on random sides; the first of them is ours, or right."""
  known = rng.choice('ab')
  a, b = ids if known == 'a' else reversed(ids)
  return Item(_opaque(rng), a, b, known, kind, name, tuple(questions), prompt, image)


def _pairs(files, questions, texts, images, folder: Path, rng, size, fps) -> tuple[list, list]:
  """The items of all pairs, and the motion of every video."""
  items, moving = [], []
  for name, pair in tqdm(files.items(), desc='encoding', unit='pair'):
    clips = read_clips(pair, size=size, fps=fps)
    ids = [_add(clip, folder, fps, rng) for clip in clips]
    moving += [Moving(checks.motion_amount(clip), id, name) for clip, id in zip(clips, ids)]
    prompt, image = texts.get(name, ''), images.get(name, '')
    items.append(_item(rng, ids, 'pair', name, questions, prompt, image))
  return items, moving


def _select_real(files: Mapping[str, Path], kinds, folder: Path, rng, size, fps) -> list[Moving]:
  """The real videos that the checks need, which are added to the folder."""
  read = lambda name: read_clips([files[name]], size=size, fps=fps)[0]
  videos = (Moving(checks.motion_amount(read(name)), '', name) for name in files)
  selected = checks.first_suitable(videos, kinds)
  return [moving._replace(id=_add(read(moving.name), folder, fps, rng)) for moving in selected]


def _checks(moving, kinds, questions, texts, folder: Path, rng, fps: float) -> Iterator[Item]:
  """The items of all checks, each with the questions to which it has a right answer."""
  for kind, (_, id, name) in checks.assign(moving, kinds):
    asked = [q for q in questions if q == 'quality' or (kind == 'noise' and texts.get(name))]
    if not asked:
      raise UserError(f'{name} has no prompt in index.jsonl; a check of the text needs one.')
    wrong = checks.spoil(decode(folder / f'{id}.mp4', fps=fps), kind, rng)
    yield _item(rng, [id, _add(wrong, folder, fps, rng)], kind, name, asked, texts.get(name, ''))


def _identity(items: Sequence[Item], folder: Path, facts: dict) -> str:
  """The identity of a study: a digest of everything that a rater may see."""
  digest = hashlib.sha256(json.dumps([*map(_page_entry, items), facts], sort_keys=True).encode())
  for file in sorted(folder.iterdir()):
    digest.update(hashlib.sha256(file.read_bytes()).digest())
  return digest.hexdigest()[:16]


def _page_entry(item: Item) -> dict:
  """What the page has of an item."""
  facts = {'id': item.id, 'a': item.a, 'b': item.b, 'always': item.kind != 'pair'}
  return facts | {'questions': item.questions, 'prompt': item.prompt, 'image': item.image}


def _key_entry(item: Item) -> dict:
  """What the key has of an item."""
  return {'kind': item.kind, 'name': item.name, 'known': item.known, 'questions': item.questions}


def _page(study: str, items, questions, drawn: int, post_url, origin: str, videos: str) -> str:
  asked = {name: text for name, text in QUESTIONS.items() if name in questions}
  data = {'version': FORMAT, 'study': study, 'drawn': drawn, 'post': post_url, 'questions': asked}
  text = json.dumps(data | {'items': [*map(_page_entry, items)]})
  page = _TEMPLATE.read_text('utf-8').replace('{connect}', html.escape(origin))
  # Prompts may be any text: they are inserted last, and cannot end the script.
  return page.replace('{videos}', videos).replace('{study}', text.replace('<', '\\u003c'))
