"""Real processes, of which one sees an older state of the disk than the other."""

import json
import socket
import subprocess
import sys

from core import command
from training import agreement, checkpoint

LONG = 'ü' * 3000
PROGRAM = """
import json, pathlib, sys
from training import agreement, processes, resume

here, where, workdir = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3 + int(sys.argv[1])])
processes.join(where, 2, here)
said = [agreement.agreed(problem) for problem in ('', 'wrong' if here else '', str(here))]
said += [agreement.from_first([here, None]), agreement.from_first('ü' * 3000 if here == 0 else '')]
resume.require_checkpoints(workdir)
try:
  said.append(resume.restore(workdir, None, None, print))
except ValueError as error:
  said.append(str(error))
print(json.dumps(said))
"""


def test_all_take_the_way_of_the_first_or_none(tmp_path):
  now, before = tmp_path / 'now', tmp_path / 'before'
  (now / 'checkpoints/5').mkdir(parents=True)
  (now / 'checkpoints/5/_CHECKPOINT_METADATA').write_text('{}')
  before.mkdir()
  (before / 'metrics.jsonl').write_text('{"step": 5, "saved": 1.0}\n')
  assert (checkpoint.steps(now), checkpoint.steps(before)) == ([5], [])
  with socket.socket() as one:
    one.bind(('localhost', 0))
    where = f'localhost:{one.getsockname()[1]}'
  started = [
    subprocess.Popen(
      [sys.executable, '-c', PROGRAM, str(here), where, str(now), str(before)],
      cwd=command.ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for here in (0, 1)
  ]
  try:
    output = [process.communicate(timeout=120) for process in started]
  finally:
    for process in started:
      process.kill()
  refused = f'{before}/checkpoints/5 is not there for process 1, but for process 0.'
  for out, errors in output:
    assert out, errors
    assert json.loads(out.splitlines()[-1]) == ['', 'wrong', '0', [0, None], LONG, refused]


def test_one_process_agrees_with_itself():
  assert agreement.agreed('wrong') == 'wrong'
  assert agreement.from_first(LONG) == LONG
