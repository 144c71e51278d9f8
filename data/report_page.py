"""The report on a dataset as one HTML file, without scripts and without links to the network."""

import array
import base64
import collections
import html
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from core import unicode
from data import captioner, selection, sources, thumbnails

SHOWN = 24  # clips that are kept, and at most as many of each kind that is left out
BINS = 20
_STYLE = """
body { font: 15px system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; }
figure { display: inline-block; margin: .3rem; width: 11rem; vertical-align: top; }
figcaption { font-size: 12px; overflow-wrap: anywhere; } img { max-width: 100%; }
svg { display: inline-block; margin: .5rem; } text { font: 11px system-ui, sans-serif; }
.kept { fill: #2a7de1; } .out { fill: #d9822b; }
"""


def render(
  videos: pathlib.Path,
  report: Mapping,
  chosen: selection.Selection,
  captions: Mapping[str, captioner.Caption],
  *,
  workers: int,
  seconds: float,
) -> str:
  """The HTML of a report.

  Thumbnails are the middle frames of clips at equal distances in the order of the dataset.

  captions: of the clips that are kept, by `Clip.name`.
  workers, seconds: the processes that decode the thumbnails, and the time that one may take.

  Besides the page, 20 bytes for each clip are in memory.
  """
  by_kind = _shown(chosen)
  places = [_middle(clip) for clips in by_kind.values() for clip, _ in clips]
  pictures = thumbnails.jpegs(videos, places, workers, seconds)
  kept = [(clip, captions[clip.name].text) for clip, _ in by_kind.pop('', ())]
  parts = [
    '<h1>Dataset</h1>',
    _table(
      {
        'clips': report['written'],
        'of these, images': report['images'],
        'seconds': f'{report["seconds"]:,.1f}',
        **report['splits'],
      }
    ),
    '<h2>Left out</h2>',
    _table(report['reasons']) if report['reasons'] else '<p>Nothing.</p>',
    '<h2>Lines of the captions that cannot be used</h2>',
    _table(report['manifest']['faults']) if report['manifest']['faults'] else '<p>None.</p>',
    '<h2>Histograms</h2>',
    '<p><svg width="10" height="10"><rect class="kept" width="10" height="10"/></svg>kept '
    '<svg width="10" height="10"><rect class="out" width="10" height="10"/></svg>left out</p>',
    *_histograms(chosen),
    '<h2>Kept</h2>',
    _figures(pictures, kept),
  ]
  for kind, clips in sorted(by_kind.items()):
    parts += [f'<h2>Left out: {html.escape(kind)}</h2>', _figures(pictures, clips)]
  head = f'<meta charset="utf-8"><title>Dataset</title><style>{_STYLE}</style>'
  body = '\n'.join(parts)
  return unicode.escaped(
    f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'
  )


def _table(rows: Mapping[str, object]) -> str:
  cells = (f'<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>'
           for k, v in rows.items())  # fmt: skip
  return f'<table>{"".join(cells)}</table>'


def _shown(chosen: selection.Selection) -> dict[str, list[tuple[selection.Clip, str]]]:
  """The clips of each kind that have thumbnails, with the reasons; the kind '' is kept."""
  counts = collections.Counter(fault[0] if fault else '' for _, fault in chosen.all())
  indices = {
    kind: {*np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int).tolist()}
    for kind, count in counts.items()
  }
  shown, seen = {kind: [] for kind in counts}, collections.Counter()
  for clip, fault in chosen.all():
    kind, reason = fault or ('', '')
    if seen[kind] in indices[kind]:
      shown[kind].append((clip, reason))
    seen[kind] += 1
  return shown


def _figures(
  pictures: Mapping[thumbnails.Place, bytes], clips: Sequence[tuple[selection.Clip, str]]
) -> str:
  figures = []
  for clip, text in clips:
    picture = '<p>(no picture)</p>'
    if jpeg := pictures.get(_middle(clip)):
      data = base64.b64encode(jpeg).decode()
      picture = f'<img alt="" src="data:image/jpeg;base64,{data}">'
    caption = f'<b>{html.escape(clip.name)}</b><br>{html.escape(text)}'
    figures.append(f'<figure>{picture}<figcaption>{caption}</figcaption></figure>')
  return ''.join(figures)


def _middle(clip: selection.Clip) -> thumbnails.Place:
  return clip.file, (clip.segment.start + clip.segment.end) / 2


_MEASURES = (
  'seconds',
  'shorter side, pixels',
  'motion, levels',
  'share of frozen frames',
  'share of black frames',
)


def _measures(part: sources.Segment) -> tuple[float | int, ...]:
  seconds, side = part.end - part.start, min(part.height, part.width)
  if not part.scores:
    return seconds, side, math.nan, math.nan, math.nan
  return seconds, side, part.scores.motion, part.scores.frozen, part.scores.black


def _histograms(chosen: selection.Selection) -> list[str]:
  """Charts of lengths, sizes and scores of the clips that are kept and of those left out."""
  kept, dropped = array.array('f'), array.array('f')
  for clip, fault in chosen.all():
    (dropped if fault else kept).extend(_measures(clip.segment))
  kept, dropped = (
    np.frombuffer(x, np.float32).reshape(-1, len(_MEASURES)) for x in (kept, dropped)
  )
  return [histogram(title, *columns) for title, *columns in zip(_MEASURES, kept.T, dropped.T)]


def histogram(title: str, kept: Float[np.ndarray, ' n'], dropped: Float[np.ndarray, ' m']) -> str:
  """A chart of the numbers of values in `BINS` equal parts of their range, as SVG.

  The bars of `dropped` stand on those of `kept`, and each has its numbers as a title.  NaN counts
  for nothing.
  """
  kept, dropped = (part[~np.isnan(part)].astype(float) for part in (kept, dropped))
  ends = [x for part in (kept, dropped) if len(part) for x in (part.min(), part.max())] or [0.0]
  low, high = float(min(ends)), float(max(ends))
  high = high if high - low > 1e-6 * max(abs(high), 1) else low + 1  # bars need some width
  edges = np.linspace(low, high, BINS + 1)
  below, above = (np.histogram(part, edges)[0].tolist() for part in (kept, dropped))
  most = max(1, *(a + b for a, b in zip(below, above)))
  bars = []
  for i, (a, b) in enumerate(zip(below, above)):
    x, high, higher = 12 * i, 80 * a / most, 80 * (a + b) / most
    label = f'<title>{edges[i]:.4g} to {edges[i + 1]:.4g}: {a} kept, {b} left out</title>'
    bars.append(f'<g>{label}<rect class="kept" x="{x}" y="{100 - high:.1f}" width="11" '
                f'height="{high:.1f}"/><rect class="out" x="{x}" y="{100 - higher:.1f}" '
                f'width="11" height="{higher - high:.1f}"/></g>')  # fmt: skip
  ends = (
    f'<text x="0" y="114">{edges[0]:.4g}</text>'
    f'<text x="{12 * BINS}" y="114" text-anchor="end">{edges[-1]:.4g}</text>'
  )
  name = f'<text x="0" y="12">{html.escape(title)} (highest bar: {most})</text>'
  return f'<svg width="{12 * BINS}" height="120">{name}{"".join(bars)}{ends}</svg>'
