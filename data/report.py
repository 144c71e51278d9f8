"""The report on a dataset: what was kept and what was left out, and why."""

import collections
import json
import pathlib
from collections.abc import Mapping, Sequence

from core import unicode
from data import dataset, manifest, report_page, selection


def summary(
  clips: Sequence[dataset.Clip],
  conflicts: Sequence[int],
  chosen: selection.Selection,
  faults: Sequence[manifest.Fault],
) -> dict:
  """The report on a dataset, as `report.json` has it.

  conflicts: the indices of clips whose source video is in several splits.
  """
  left_out = sorted(chosen.left_out.items())
  return {
    'written': len(clips),
    'splits': dict(sorted(collections.Counter(clip.split for clip in clips).items())),
    'seconds': sum(clip.facts.seconds for clip in clips),
    **dataset.summary(clips),
    'captioners': dict(sorted(collections.Counter(clip.captioner for clip in clips).items())),
    'in_several_splits': [unicode.escaped(chosen.clips[i].name) for i in conflicts],
    'damaged': {unicode.escaped(c.file): c.facts.fault for c in clips if c.facts.fault},
    'manifest': {
      'faults': dict(sorted(collections.Counter(fault.kind for fault in faults).items())),
      'lines': [f'{fault.where}: {unicode.escaped(fault.reason)}' for fault in faults],
    },
    'reasons': dict(sorted(collections.Counter(kind for _, (kind, _) in left_out).items())),
    'skipped': {unicode.escaped(name): unicode.escaped(reason) for name, (_, reason) in left_out},
  }


def write(
  folder: pathlib.Path,
  report: dict,
  videos: pathlib.Path,
  chosen: selection.Selection,
  captions: Mapping[str, str],
) -> None:
  """Writes `report.json` and `report.html` to a folder; see `report_page.render`."""
  text = json.dumps(report, indent=2, ensure_ascii=False) + '\n'
  (folder / 'report.json').write_text(text, 'utf-8')
  page = report_page.render(videos, report, chosen, captions)
  (folder / 'report.html').write_text(page, 'utf-8')


def text(out: pathlib.Path, report: dict) -> str:
  """The lines that the builder prints about the dataset in `out`."""
  written = ', '.join(f'{count} {split}' for split, count in report['splits'].items())
  lines = [
    f'{out}: written {report["written"]} ({written}) and left out {len(report["skipped"])}; '
    f'{len(report["damaged"])} files are damaged; pictures and reasons in {out / "report.html"}',
    f'The least height is {report["least_height"]} pixels, the least width '
    f'{report["least_width"]}; the shortest clip has {report["shortest"]:g} seconds.',
  ]
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
