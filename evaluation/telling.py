"""What is said of a score where it was asked for, and what is written."""

import pathlib
import sys

from evaluation.protocol import flat, write_score


def tell(found: dict, output: pathlib.Path | None) -> None:
  """Prints a score and what was skipped, and writes it, if anywhere, with its protocol."""
  for file, reason in found['skipped'].items():
    print(f'skipped {file}: {reason}', file=sys.stderr)
  for row in found.get('videos', ()):
    print(_line(row))
  numbers = ', '.join(f'{name} {value:.4g}' for name, value in flat(found['score']).items())
  print(f'{numbers}: {found["metric"]} of {found["protocol"]["clips"]} clips in {found["of"]}')
  if found['protocol'].get('network', {}).get('weights', '').startswith('random:'):
    print(
      f'{found["metric"]} is by random weights: it compares with others by them alone, roughly.'
    )
  if output:
    write_score(output, **found)


def _line(row: dict) -> str:
  """What is said of one video."""
  said = (f'{k} {v:.4g}' if isinstance(v, float) else f'{k} {v}' for k, v in row.items())
  return '  '.join(said)
