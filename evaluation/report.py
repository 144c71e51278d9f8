"""The report of a run, one HTML file: curves, samples by step, their X-T slices, and scores.

It is made from the files of the workdir, and has no script and no link to the network.
"""

import base64
import dataclasses
import html
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from core import files, unicode
from core.errors import UserError
from core.folder import new_file
from core.frame_size import height_width
from core.video import read_metadata
from core.writable import require_file
from evaluation import curves
from evaluation.protocol import MARK, Comparison, compare, flatten, format_cell, read_score
from training import account, checkpoint
from training.validation import HELD_OUT, TRAINED_ON

MAX_EMBEDDED = 2**18  # bytes; larger files are linked and not embedded in the page
MAX_STEPS = 6  # steps whose samples are shown

EVALUATED = (HELD_OUT, TRAINED_ON)
# Charts of several metrics.  Every other metric has a chart of its own.
CHARTS = {
  'loss': ('loss', *EVALUATED),
  'norm of gradients': ('grad_norm',),
  'norm of updates': ('update_norm',),
  'norm of parameters': ('param_norm',),
  'seconds a step': ('step_s', 'data_wait_s'),
  'frames a second': ('frames_per_s',),
  'memory, GiB': ('host_gib', 'device_gib', 'device_peak_gib'),
}
_TYPES = {'.mp4': 'video/mp4', '.png': 'image/png', '.gif': 'image/gif', '.webp': 'image/webp'}
_STEP = re.compile(r'step_(\d+)$')
_STYLE = pathlib.Path(__file__).with_suffix('.css').read_text('utf-8')


@dataclasses.dataclass(frozen=True)
class Page:
  """The path of a report, and the workdir that it is about."""

  workdir: pathlib.Path
  path: pathlib.Path


def write_report(workdir: pathlib.Path, output: pathlib.Path | None = None) -> pathlib.Path:
  """Writes the report, and returns its path: `report.html` in the workdir by default.

  It appears complete or not at all.  Files of up to `MAX_EMBEDDED` bytes are embedded.  Larger ones
  are linked by relative paths where the report lies in the workdir, and only named elsewhere.

  UserError, before anything is written, where there is no workdir or the output is no `.html`;
  OSError where it cannot be written.
  """
  output = output or workdir / 'report.html'
  if not (workdir / 'config.json').is_file():
    raise UserError(f'{workdir} is no workdir of a run: it has no config.json.')
  if output.suffix != '.html':
    raise UserError(f'Got a report of the name {output}; allowed is one that ends in .html.')
  require_file(output)
  text = render(workdir, output)
  with new_file(output) as file:
    file.write_text(unicode.escaped(text), 'utf-8')
  return output


def render(workdir: pathlib.Path, output: pathlib.Path) -> str:
  """The HTML of the report, to be written to `output`."""
  page = Page(workdir, output)
  config = checkpoint.load_config(workdir).to_dict()
  metrics = curves.read(workdir / 'metrics.jsonl')
  name = html.escape(workdir.resolve().name)
  parts = [
    f'<h1>{name}</h1>',
    _facts(config, metrics),
    '<h2>Curves</h2>',
    _curves(metrics),
    '<h2>Samples</h2>',
    _samples(page),
    '<h2>Scores</h2>',
    _scores(workdir / 'evaluation'),
    '<h2>Run</h2>',
    _account(workdir / 'metrics.jsonl'),
    _details('config', json.dumps(config, indent=2)),
  ]
  head = f'<meta charset="utf-8"><title>{name}</title>\n<style>\n{_STYLE}</style>'
  view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
  body = '\n'.join(parts)
  return (
    f'<!doctype html>\n<html lang="en"><head>{view}{head}</head>\n<body>\n{body}\n</body></html>\n'
  )


def _facts(config: Mapping, metrics: Mapping[str, curves.Points]) -> str:
  """The stage, the progress, the data and the losses of the run."""
  data = config.get('data', {})
  size = 'x'.join(map(str, height_width(data['size']))) if 'size' in data else None
  last = max((points[-1][0] for points in metrics.values()), default=0)
  facts = {
    'stage': config.get('stage'),
    'step': f'{last:,} of {config.get("steps", 0):,}',
    'videos': f'{data.get("frames")} frames of {size} pixels, {data.get("source")}',
    'initialised from': config.get('init_from'),
  }
  for name in ('loss', *EVALUATED):
    if finite := [(value, step) for step, value in metrics.get(name, ()) if math.isfinite(value)]:
      minimum, step = min(finite)
      facts[name] = f'{finite[-1][0]:.4g}, minimum {minimum:.4g} at step {step:,}'
  cells = (f'<div><dt>{k}</dt><dd>{html.escape(str(v))}</dd></div>' for k, v in facts.items() if v)
  return f'<dl class="facts">{"".join(cells)}</dl>'


def _curves(metrics: dict[str, curves.Points]) -> str:
  """The charts; metrics that never change are listed below them."""
  if not metrics:
    return '<p>The run has no metrics yet.</p>'
  metrics = {k: points for k, points in metrics.items() if not k.startswith(account.SECONDS)}
  if rates := metrics.pop('steps_per_s', None):
    metrics['step_s'] = [(step, 1 / rate if rate else math.nan) for step, rate in rates]
  constant = {
    name: points[0][1]
    for name, points in metrics.items()
    if len({value for _, value in points}) == 1
  }
  changing = {name: points for name, points in metrics.items() if name not in constant}
  charts = {title: [n for n in names if n in changing] for title, names in CHARTS.items()}
  grouped = {name for names in charts.values() for name in names}
  charts |= {name: [name] for name in sorted(changing.keys() - grouped)}
  figures = []
  for title, names in charts.items():
    if chart := curves.svg({n: changing[n] for n in names}):
      keys = ''.join(f'<span class="c{i}">{html.escape(n)}</span>' for i, n in enumerate(names))
      caption = f'<figcaption>{html.escape(title)} {keys if len(names) > 1 else ""}</figcaption>'
      figures.append(f'<figure>{caption}{chart}</figure>')
  words = ', '.join(f'{html.escape(name)} {format_cell(value)}' for name, value in constant.items())
  note = f'<p class="note">The same at every step: {words}.</p>' if words else ''
  return f'<div class="charts">{"".join(figures)}</div>{note}'


def _samples(page: Page) -> str:
  """A table with a column for each step that is shown, and a row for each example."""
  folders = sorted((page.workdir / 'samples').glob('step_*'), key=lambda folder: folder.name)
  folders = [folder for folder in folders if _STEP.match(folder.name)]
  shown = evenly_spaced(folders, MAX_STEPS)
  examples = {folder: _examples(folder) for folder in shown}
  names = {name for files in examples.values() for name in files}
  names = sorted(names, key=lambda name: (len(name), name))
  if not names:
    return '<p>There are no samples yet.</p>'
  steps = ''.join(f'<th>step {int(_STEP.match(folder.name)[1]):,}</th>' for folder in shown)
  rows = []
  for name in names:
    by_step = [examples[folder].get(name) for folder in shown]
    prompt = next((read_metadata(file).get('prompt', '') for file in by_step if file), '')
    title = f'<tr><th class="prompt" colspan="{len(shown)}">{html.escape(prompt or name)}</th></tr>'
    cells = ''.join(f'<td>{_sample(page, file) if file else ""}</td>' for file in by_step)
    rows.append(f'{title}<tr>{cells}</tr>')
  note = (
    f'{len(shown)} of {len(folders)} steps.  Below each video is its X-T slice; time runs down.'
  )
  table = f'<table class="samples"><tr>{steps}</tr>{"".join(rows)}</table>'
  return f'<p class="note">{note}</p><div class="wide">{table}</div>'


def evenly_spaced(folders: Sequence[pathlib.Path], most: int) -> list[pathlib.Path]:
  """At most `most` of the folders at even distances, including the first and the last."""
  if len(folders) <= most:
    return list(folders)
  return [folders[round(i * (len(folders) - 1) / (most - 1))] for i in range(most)]


def _examples(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  every = (file for file in folder.iterdir() if file.suffix in _TYPES)
  return {file.stem: file for file in every if not file.stem.endswith('_xt')}


def _sample(page: Page, file: pathlib.Path) -> str:
  slice_ = file.with_name(f'{file.stem}_xt.png')
  return _media(page, file) + (_media(page, slice_) if slice_.exists() else '')


def _media(page: Page, file: pathlib.Path) -> str:
  """The element of a video or an image, embedded or linked."""
  kind, size = _TYPES[file.suffix], file.stat().st_size
  folder = page.path.resolve().parent
  if size <= MAX_EMBEDDED:
    source = f'data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}'
  elif folder.is_relative_to(page.workdir.resolve()):
    source = pathlib.Path(os.path.relpath(file.resolve(), folder)).as_posix()
  else:
    return f'<p class="note">{html.escape(str(file))}: {size / 2**20:.1f} MiB, not shown</p>'
  source = html.escape(source)
  if kind.startswith('video'):
    return f'<video src="{source}" autoplay loop muted playsinline controls></video>'
  return f'<img src="{source}" alt="{html.escape(file.name)}">'


def _scores(folder: pathlib.Path) -> str:
  """A table for each metric, and the errors of files that could not be read."""
  scores, errors = [], []
  names = files.below(folder) if folder.is_dir() else ()
  for path in sorted(folder / name for name in names if name.endswith('.json')):
    try:
      scores.append(read_score(path))
    except ValueError as error:
      errors.append(f'<p class="note">{html.escape(str(error))}</p>')
  if not scores and not errors:
    return '<p>There are no scores yet.</p>'
  tables = [_table(comparison) for comparison in compare(scores)]
  protocols = [
    _details(f'protocol of {score["metric"]}, {score["of"]}', _lines(score['protocol']))
    for score in scores
  ]
  return '\n'.join([*tables, *errors, *protocols])


def _table(comparison: Comparison) -> str:
  keys = [f'<i>{html.escape(key)}</i>' for key in comparison.keys]
  head = ''.join(f'<th>{text}</th>' for text in ['', *map(html.escape, comparison.names), *keys])
  rows = []
  for row in comparison.rows:
    title = html.escape(row.subject) + (f' <sup>{MARK}</sup>' if row.marked else '')
    values = [
      format_cell(row.score[name]) if name in row.score else '' for name in comparison.names
    ]
    values += [format_cell(row.protocol[key]) for key in comparison.keys]
    cells = ''.join(f'<td>{html.escape(value)}</td>' for value in values)
    rows.append(f'<tr><th>{title}</th>{cells}</tr>')
  note = f'<p class="note">{html.escape(comparison.footnote)}</p>' if comparison.footnote else ''
  table = f'<table class="scores"><tr>{head}</tr>{"".join(rows)}</table>'
  return f'<h3>{html.escape(comparison.metric)}</h3><div class="wide">{table}</div>{note}'


def _account(path: pathlib.Path) -> str:
  """The time spent in each phase, up to the last entry of the run."""
  if not (starts := account.starts(path)):
    return ''
  rows = account.account(starts, path.stat().st_mtime)
  return f'<pre>{html.escape(account.table(rows))}</pre>'


def _lines(protocol: Mapping) -> str:
  return '\n'.join(f'{key}: {format_cell(value)}' for key, value in flatten(protocol).items())


def _details(title: str, text: str) -> str:
  return f'<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>'
