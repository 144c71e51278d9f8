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
from evaluation.user_study.matched import by_name, clips, few, given_images, matched, prompts

Path = pathlib.Path

# In the order in which they are asked of a pair.  The text is shown with its own question alone, so
# that it says nothing of the quality.
QUESTIONS = {
  'quality': 'Which video has better visual quality and motion?',
  'text': 'Which video matches the text better?',
}
FORMAT = 1  # of keys and answers
MAX_EMBEDDED = 64  # MiB of videos in one page, which a phone still opens

_TEMPLATE = Path(__file__).with_suffix('.html')


@dataclasses.dataclass(frozen=True)
class Item:
  """Two videos side by side, `a` and `b`; which is drawn is known to the key alone."""

  id: str
  a: str
  b: str
  known: str  # the side of ours, or that which is right in a check
  kind: str  # 'pair', or of a check what is wrong: 'still' or 'noise'
  name: str
  questions: tuple[str, ...]
  prompt: str
  image: str


def embedded(folder: Path) -> str:
  """The HTML that holds the videos of a folder, which is removed: the page is one file."""
  files = sorted(folder.iterdir())
  size = sum(file.stat().st_size for file in files) / 2**20
  if size > MAX_EMBEDDED:
    raise UserError(
      f'The videos take {size:.0f} MiB; in one page at most {MAX_EMBEDDED} are allowed: place them '
      'beside the page, or make them smaller.'
    )
  # Not in the script: a browser parses that when it opens the page, and these when they are shown.
  coded = ((file.stem, base64.b64encode(file.read_bytes()).decode()) for file in files)
  text = '\n'.join(f'<script type="text/plain" id="v{id}">{data}</script>' for id, data in coded)
  shutil.rmtree(folder)
  return text


def beside(folder: Path) -> str:
  """The HTML for videos that stay in their folder beside the page, which is none."""
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
  """The page, `out/page/index.html`; `out/key.json` says whose is what, and is not for raters.

  Videos of one name make a pair.  Their prompts are in `index.jsonl` of a folder, as `sample.py`
  writes it.  A rater sees `pairs` pairs, of which `vigilance` are checks: in turn a video beside
  its own first frame, and one beside noise.  Those are videos from the folder `real`, with its own
  prompts: the first by name of which enough move.  Without, they are the ones here that move by
  about the median, as those that move most may flicker.  Real ones are better, and the paper's: a
  careful rater may prefer a still to what is generated.  Pictures that both systems were given are
  in `images`, by the names of the pairs.

  Raters save their answers as files, or the page POSTs them to `post_url`, as text/plain.  All
  videos are alike: `size` pixels, `fps` frames a second, H.264.  `place`: `embedded` or `beside`.

  ValueError where `out` is there, names or prompts do not match, or there are too few videos.
  """
  folders = [open_folder(folder) for folder in (ours, theirs, real) if folder]
  files, of = matched(*folders[:2]), prompts(folders[:2])
  known, told = (by_name(folders[2]), prompts(folders[2:])) if real else ({}, of)
  _require(files, of, questions, pairs, vigilance, size, out)
  connect = _origin(post_url)
  given = given_images(images, files, size=size) if images else {}
  rng, kinds = random.Random(_secret(files, seed)), checks.kinds(vigilance, questions)
  facts = dict(pairs=pairs, vigilance=vigilance, size=size, fps=fps, seed=seed)
  with new_folder(out) as temporary:
    folder = temporary / 'page' / 'videos'
    folder.mkdir(parents=True)
    items, moving = _pairs(files, questions, of, given, folder, rng, size, fps)
    moving = _real(known, kinds, folder, rng, size, fps) if real else checks.from_the_middle(moving)
    items += _checks(moving, kinds, questions, told, folder, rng, fps)
    rng.shuffle(items)  # their order tells which are checks, and whose name is first
    study = _identity(items, folder, facts)
    key = {'version': FORMAT, 'study': study, 'ours': str(ours), 'theirs': str(theirs), **facts}
    key['items'] = {item.id: _secrets(item) for item in items}
    (temporary / 'key.json').write_text(json.dumps(key, indent=2) + '\n', 'utf-8')
    page = _page(study, items, questions, pairs - vigilance, post_url, connect, place(folder))
    (temporary / 'page' / 'index.html').write_text(page, 'utf-8')
  return out / 'page' / 'index.html'


def _require(files, of: Mapping[str, str], questions, pairs, vigilance, size, out: Path) -> None:
  if not questions or set(questions) - QUESTIONS.keys() or len(set(questions)) < len(questions):
    raise UserError(f'Got the questions {list(questions)}; allowed are some of {list(QUESTIONS)}.')
  silent = [name for name in files if not of.get(name, '').strip()]
  if silent and 'text' in questions:
    raise UserError(
      f'No prompt in index.jsonl for {few(silent)}; without, the question text is not allowed.'
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
  """Where the page may connect to, in words of its Content-Security-Policy."""
  if post_url is None:
    return "'none'"
  try:
    parts = urllib.parse.urlsplit(post_url)
    sound = parts.scheme in ('http', 'https') and parts.hostname and parts.port != 0
  except ValueError:  # of a host in brackets, or of a port
    sound = False
  if not sound:
    raise UserError(f'Cannot post to {post_url!r}; allowed are addresses of http:// or https://.')
  return f'{parts.scheme}://{parts.netloc}'


def _secret(files: Mapping[str, tuple[Path, Path]], seed: int) -> str:
  """What names and sides are drawn by: nobody can repeat it who has the page alone."""
  digest = hashlib.sha256(str(seed).encode())
  for file in (file for both in files.values() for file in both):
    digest.update(hashlib.sha256(file.read_bytes()).digest())
  return digest.hexdigest()


def _opaque(rng: random.Random) -> str:
  return f'{rng.getrandbits(48):012x}'


def _add(clip: video.Pixels, folder: Path, fps: float, rng: random.Random) -> str:
  id = _opaque(rng)
  video.write(folder / f'{id}.mp4', clip, fps=fps)
  return id


def _item(rng, ids: Sequence[str], kind, name, questions, prompt='', given='') -> Item:
  """The item whose first video is the one that is known, on a side that is drawn."""
  known = rng.choice('ab')
  a, b = ids if known == 'a' else reversed(ids)
  return Item(_opaque(rng), a, b, known, kind, name, tuple(questions), prompt, given)


def _pairs(files, questions, of, given, folder: Path, rng, size, fps) -> tuple[list, list]:
  """The items of all pairs, and of every video how much it moves, its id and its name."""
  items, moving = [], []
  for name, both in tqdm(files.items(), desc='encoding', unit='pair'):
    found = clips(both, size=size, fps=fps)
    ids = [_add(clip, folder, fps, rng) for clip in found]
    moving += [Moving(checks.moves(clip), id, name) for clip, id in zip(found, ids)]
    items.append(_item(rng, ids, 'pair', name, questions, of.get(name, ''), given.get(name, '')))
  return items, moving


def _real(files: Mapping[str, Path], kinds, folder: Path, rng, size, fps) -> list[Moving]:
  """Of the videos those that checks need."""

  read = lambda name: clips([files[name]], size=size, fps=fps)[0]
  found = checks.enough((Moving(checks.moves(read(name)), '', name) for name in files), kinds)
  return [one._replace(id=_add(read(one.name), folder, fps, rng)) for one in found]


def _checks(moving, kinds, questions, of, folder: Path, rng, fps: float) -> Iterator[Item]:
  """Items of which one side is wrong.  Which questions one is asked, is what it can answer."""
  for kind, (_, id, name) in checks.chosen(moving, kinds):
    asked = [q for q in questions if q == 'quality' or (kind == 'noise' and of.get(name))]
    if not asked:
      raise UserError(f'{name} has no prompt in index.jsonl; a check of the text needs one.')
    wrong = checks.spoilt(decode(folder / f'{id}.mp4', fps=fps), kind, rng)
    yield _item(rng, [id, _add(wrong, folder, fps, rng)], kind, name, asked, of.get(name, ''))


def _identity(items: Sequence[Item], folder: Path, facts: dict) -> str:
  """A study's name, by all that a rater may see of it."""
  digest = hashlib.sha256(json.dumps([*map(_shown, items), facts], sort_keys=True).encode())
  for file in sorted(folder.iterdir()):
    digest.update(hashlib.sha256(file.read_bytes()).digest())
  return digest.hexdigest()[:16]


def _shown(item: Item) -> dict:
  facts = {'id': item.id, 'a': item.a, 'b': item.b, 'always': item.kind != 'pair'}
  return facts | {'questions': item.questions, 'prompt': item.prompt, 'image': item.image}


def _secrets(item: Item) -> dict:
  return {'kind': item.kind, 'name': item.name, 'known': item.known, 'questions': item.questions}


def _page(study: str, items, questions, drawn: int, post_url, connect: str, held: str) -> str:
  asked = {name: text for name, text in QUESTIONS.items() if name in questions}
  told = {'version': FORMAT, 'study': study, 'drawn': drawn, 'post': post_url, 'questions': asked}
  text = json.dumps(told | {'items': [*map(_shown, items)]})
  page = _TEMPLATE.read_text('utf-8').replace('{connect}', html.escape(connect))
  # Last, and without what ends a script: prompts may be anything.
  return page.replace('{videos}', held).replace('{study}', text.replace('<', '\\u003c'))
