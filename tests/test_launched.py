"""What the scripts of `launch/` do when what they have started ends, on schedulers that are drawn.

Each script runs in a copy of `launch/`, beside a Python that ends with a given status.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.test_launch import job_set

ROOT = pathlib.Path(__file__).resolve().parent.parent
# A process of train.py: PLAN has a word for each, a status after so many seconds, or what it does.
PYTHON = """#!/bin/bash
echo "$@" >>started
plan=($PLAN)
each=${plan[${SLURM_PROCID:-$(($(wc -l <started) - 1))}]}
case $each in
  saves) trap 'exit 0' USR1 TERM; touch waiting; while :; do sleep 0.05; done ;;
  fails) trap 'exit 1' USR1 TERM; touch waiting; while :; do sleep 0.05; done ;;
  hangs) trap '' USR1 TERM; while :; do sleep 0.05; done ;;
  killed) kill -KILL $$ ;;
  *@*) trap '' TERM; sleep ${each#*@}; exit ${each%@*} ;;
  *) exit $each ;;
esac
"""
# As the manual of srun says: the tasks alone are signalled, all of them are killed when one fails,
# and the highest status is returned, or that of a signal with 128.
SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys, time
words = sys.argv[1:]
while words[0].startswith('--'):
  words.pop(0)
tasks = [
  subprocess.Popen(words, env=os.environ | {{'SLURM_PROCID': str(i)}}, start_new_session=True)
  for i in range(len(os.environ['PLAN'].split()))
]
send = lambda number: [os.kill(t.pid, number) for t in tasks if t.poll() is None]
signal.signal(signal.SIGUSR1, lambda number, frame: send(number))
while None in (ended := [t.poll() for t in tasks]):
  if any(ended):
    send(signal.SIGTERM)
    time.sleep(0.3)
    for t in tasks:
      if t.poll() is None:
        os.killpg(t.pid, signal.SIGKILL)
  time.sleep(0.02)
sys.exit(max(128 - status if status < 0 else status for status in ended))
"""


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
  """A folder that stands for a clone, and comes first on PATH; and how to write a program there."""
  shutil.copytree(ROOT / 'launch', tmp_path / 'launch')
  (tmp_path / '.venv/bin').mkdir(parents=True)
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  monkeypatch.chdir(tmp_path)

  def write(name, text):
    path = tmp_path / name
    path.write_text(text)
    path.chmod(0o755)

  write('.venv/bin/python', PYTHON)
  return tmp_path, write


def run(line, plan, stop=None, **environment):
  """The exit status of a script that is asked to stop while its processes are waiting for that."""
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  running = subprocess.Popen(line, env=os.environ | {'PLAN': plan} | environment, **pipes)
  deadline = time.monotonic() + 20
  while stop and not pathlib.Path('waiting').exists():
    assert time.monotonic() < deadline
    time.sleep(0.02)
  if stop:
    time.sleep(0.2)  # for all of them
    running.send_signal(stop)
  _, errors = running.communicate(timeout=30)
  return running.returncode, errors


@pytest.fixture
def slurm(sandbox):
  """Runs the batch script with a plan; its exit status, and whether it is requeued."""
  folder, write = sandbox
  write('srun', SRUN)
  write('scontrol', '#!/bin/bash\necho "$@" >>requeued\n')
  line = ['launch/slurm.sh', '--dry_run', '--', '--workdir=a b']
  output = subprocess.run(line, capture_output=True, text=True, check=True).stdout
  write('batch', output.split("<<'END'\n")[1].removesuffix('END\n'))

  def ended(plan, stop=None, restarts=None):
    more = {} if restarts is None else {'SLURM_RESTART_COUNT': str(restarts)}
    status, _ = run(['./batch'], plan, stop, SLURM_JOB_ID='7', **more)
    assert not list(folder.glob('.slurm_*'))
    started = (folder / 'started').read_text().splitlines()
    assert set(started) == {'train.py --workdir=a b'}
    requeued = folder / 'requeued'
    return status, requeued.exists() and requeued.read_text() == 'requeue 7\n'

  return ended


@pytest.mark.parametrize(
  ('plan', 'ended'),
  [
    ('0 0', (0, False)),
    ('1 hangs', (1, False)),
    # srun says 137 here, as the other is killed.
    ('2@0.2 hangs', (2, False)),
    ('2@0.2 134@0.1', (2, False)),  # it lost the peer that made a mistake, and noticed first
    ('127 127', (127, False)),
    ('130 130', (130, False)),
    ('75 75@0.1', (0, True)),
    ('killed 1@0.2', (0, True)),
    ('134@0.1 hangs', (0, True)),
    ('0 1@0.2', (1, False)),
  ],
)
def test_slurm_comes_back_from_what_may_pass(slurm, plan, ended):
  assert slurm(plan) == ended


@pytest.mark.parametrize(
  ('plan', 'ended'),
  [('saves saves', (0, True)), ('fails saves', (1, False)), ('saves 75@1', (0, True))],
)
def test_slurm_comes_back_when_its_time_is_over(slurm, plan, ended):
  assert slurm(plan, signal.SIGUSR1) == ended


def test_slurm_gives_up_but_not_on_a_run_that_saves(slurm):
  assert slurm('75', restarts=100) == (75, False)


def test_slurm_goes_on_with_a_run_that_saves_for_ever(slurm):
  assert slurm('saves', signal.SIGUSR1, restarts=100) == (0, True)


@pytest.fixture
def worker(sandbox):
  """Runs `launch/tpu_worker.sh`; its exit status, errors, and how often train.py was started."""
  folder, write = sandbox
  write('sleep', '#!/bin/bash\n[[ $1 == 10 ]] || exec /bin/sleep "$@"\n')
  write('gcloud', '#!/bin/bash\necho "$@" >>asked\necho $HIERARCHICAL\n')
  write('findmnt', '#!/bin/bash\n[[ $3 == FSTYPE ]] && echo $MOUNTED || echo bucket/folder\n')

  def ended(plan, *arguments, script='train.py', **environment):
    line = ['launch/tpu_worker.sh', script, *(arguments or ['--workdir=a b'])]
    environment = {'MOUNTED': 'nfs4', 'HIERARCHICAL': ''} | environment
    status, errors = run(line, plan, **environment)
    started = folder / 'started'
    return status, errors, len(started.read_text().splitlines()) if started.exists() else 0

  return ended


@pytest.mark.parametrize(
  ('plan', 'status', 'times'),
  [
    ('0', 0, 1),
    ('1', 1, 1),
    ('2', 2, 1),
    ('130', 130, 1),
    ('75 137 134 0', 0, 4),
    ('75 killed 2', 2, 3),
    ('75 75 75 75 134 0', 134, 5),
  ],
)
def test_a_tpu_worker_starts_again_what_may_pass(worker, sandbox, plan, status, times):
  assert worker(plan)[::2] == (status, times)
  line, *_ = (sandbox[0] / 'started').read_text().splitlines()
  assert line == 'train.py --coordinator=auto --workdir=a b'


@pytest.mark.parametrize('flags', [['--workdir=/m/run'], ['--workdir', 'runs/x'], ['--steps=1']])
def test_a_tpu_worker_refuses_a_bucket_that_does_not_rename_folders(worker, sandbox, flags):
  status, errors, times = worker('0', *flags, MOUNTED='fuse.gcsfuse')
  assert (status, times) == (2, 0)
  assert errors.startswith('error: --workdir=')
  assert 'gs://bucket, which has no hierarchical namespace' in errors
  assert 'describe gs://bucket --format=' in (sandbox[0] / 'asked').read_text()
  assert worker('0', *flags, MOUNTED='fuse.gcsfuse', HIERARCHICAL='True') == (0, '', 1)


def test_a_tpu_worker_samples_from_any_bucket(worker, sandbox):
  flags = 'text_to_video', '--workdir=/m/run'
  assert worker('0', *flags, script='sample.py', MOUNTED='fuse.gcsfuse') == (0, '', 1)
  assert (sandbox[0] / 'started').read_text().split() == ['sample.py', '--coordinator=auto', *flags]


def test_a_host_of_kubernetes_that_is_evicted_is_not_one_that_is_done(sandbox):
  *_, template = job_set('--gpu=nvidia-h100-80gb', '--hosts=2')
  (container,) = template['spec']['containers']
  (script,) = container['args']
  line = [*container['command'], script.replace('$$', '$')]
  index = {'JOB_COMPLETION_INDEX': '1'}
  assert run(line, 'saves', signal.SIGTERM, **index) == (143, '')
  for plan, status in (('0', 0), ('2', 2), ('75', 75), ('killed', 137)):
    pathlib.Path('started').unlink()
    assert run(line, plan, **index)[0] == status
  assert pathlib.Path('started').read_text().split() == [
    'train.py', '--config=configs/t2v.py:paper', '--workdir=/mnt/a', 'run',
    '--coordinator=run-train-0-0.run:1234', '--num_processes=2', '--process_id=1',
  ]  # fmt: skip
  for name in ('started', 'waiting'):
    pathlib.Path(name).unlink()
  assert run(line, 'fails', signal.SIGTERM, **index) == (1, '')
