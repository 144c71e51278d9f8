"""The report on a dataset: what was kept and what was left out, and why."""

import collections
import json
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from core import unicode
from data import captioner, dataset, manifest, report_page, selection
from data.on_disk import Rows, Table


def summary(
  clips: Sequence[dataset.Clip],
  conflicts: Collection[str],
  chosen: selection.Selection,
  faults: Sequence[manifest.Fault],
) -> dict:
  """The report on a dataset, as `report.json` has it; its long parts are on disk.

  conflicts: the source videos that are in several splits.
  """
  splits, captioners, images, seconds = collections.Counter(), collections.Counter(), 0, 0.0
  damaged, skipped = Table(), Table()
  for clip in clips:
    splits[clip.split] += 1
    captioners[clip.captioner] += 1
    images += clip.facts.seconds == 0
    seconds += clip.facts.seconds
    if clip.facts.fault:
      damaged[unicode.escaped(clip.file)] = clip.facts.fault
  for name, (_, reason) in chosen.left_out.items():
    skipped[unicode.escaped(name)] = unicode.escaped(reason)
  return {
    'written': len(clips),
    'splits': dict(sorted(splits.items())),
    'images': images,
    'seconds': seconds,
    **dataset.summary(clips),
    'captioners': dict(sorted(captioners.items())),
    'in_several_splits': Rows(
      unicode.escaped(one.name)
      for one, clip in (zip(chosen.clips(), clips) if conflicts else ())
      if clip.source_video in conflicts
    ),
    'damaged': damaged,
    'manifest': {
      'faults': _counted(fault.kind for fault in faults),
      'lines': Rows(f'{fault.where}: {unicode.escaped(fault.reason)}' for fault in faults),
    },
    'reasons': _counted(kind for kind, _ in chosen.left_out.values()),
    'skipped': skipped,
  }


def _counted(kinds: Iterable[str]) -> dict[str, int]:
  return dict(sorted(collections.Counter(kinds).items()))


def write(
  folder: pathlib.Path,
  report: dict,
  videos: pathlib.Path,
  chosen: selection.Selection,
  captions: Mapping[str, captioner.Caption],
  **limits,
) -> None:
  """Writes `report.json` and `report.html` to a folder; see `report_page.render`."""
  with (folder / 'report.json').open('w', encoding='utf-8') as file:
    file.writelines(_json(report))
    file.write('\n')
  page = report_page.render(videos, report, chosen, captions, **limits)
  (folder / 'report.html').write_text(page, 'utf-8')


def _json(value: object, indent: str = '') -> Iterator[str]:
  """The parts of a value in JSON, of which not all are in memory."""
  named = isinstance(value, Mapping)
  if isinstance(value, str) or not isinstance(value, Mapping | Sequence):
    yield json.dumps(value, ensure_ascii=False)
    return
  if not len(value):
    yield '{}' if named else '[]'
    return
  before = f'\n{indent}  '
  yield '{' if named else '['
  for number, item in enumerate(value.items() if named else value):
    yield f',{before}' if number else before
    if named:
      yield f'{json.dumps(item[0], ensure_ascii=False)}: '
    yield from _json(item[1] if named else item, indent + '  ')
  yield f'\n{indent}' + ('}' if named else ']')


def text(out: pathlib.Path, report: dict) -> str:
  """The lines that the builder prints about the dataset in `out`."""
  written = ', '.join(f'{count} {split}' for split, count in report['splits'].items())
  lines = [
    f'{out}: written {report["written"]} ({written}) and left out {len(report["skipped"])}; '
    f'{len(report["damaged"])} files are damaged; pictures and reasons in {out / "report.html"}',
    f'The least height is {report["least_height"]} pixels, the least width '
    f'{report["least_width"]}; the shortest clip has {report["shortest"]:g} seconds.',
  ]
  if images := report['images']:
    lines.append(f'{images} of the clips are images, which have one frame and 0 seconds.')
  if reasons := report['reasons']:
    lines.append('Left out: ' + ', '.join(f'{n} {kind}' for kind, n in reasons.items()) + '.')
  if faults := report['manifest']['faults']:
    kinds = ', '.join(f'{count} {kind}' for kind, count in faults.items())
    lines.append(f'Lines of the captions that cannot be used: {kinds}; see manifest of the report.')
  if conflicts := report['in_several_splits']:
    lines.append(
      f'{len(conflicts)} clips have a source video that the captions put into several splits: see '
      'in_several_splits of the report.'
    )
  return '\n'.join(lines)
