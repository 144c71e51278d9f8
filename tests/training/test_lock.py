import json
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from training import lock


@pytest.fixture
def workdir(tmp_path):
  """One that is not there yet."""
  return tmp_path / 'runs/a'


def left(workdir, **changes):
  """A lock as a run leaves that was killed: of a process that is gone, with these changes."""
  process = subprocess.Popen([sys.executable, '-c', ''])
  process.wait()
  workdir.mkdir(parents=True, exist_ok=True)
  owner = json.loads(lock._describe_self()) | {'pid': process.pid, 'token': 'stale'} | changes
  (workdir / lock.FILE).write_text(json.dumps(owner))


def refused(workdir):
  with pytest.raises(ValueError, match='is in use by') as error, lock.locked(workdir):
    pass
  return str(error.value)


def test_a_second_run_is_refused_in_one_line_that_says_by_whom(workdir):
  with lock.locked(workdir):
    before = (workdir / lock.FILE).read_bytes()
    output = refused(workdir)
    assert output.startswith(
      f'{workdir} is in use by process {os.getpid()} on {os.uname().nodename}'
    )
    assert f'remove {workdir}/lock.json.' in output
    assert '\n' not in output
    assert (workdir / lock.FILE).read_bytes() == before
  with lock.locked(workdir):
    pass


def test_nothing_stays_where_nothing_was_written(workdir, tmp_path):
  with lock.locked(workdir):
    assert [p.name for p in workdir.iterdir()] == ['lock.json']
  assert list(tmp_path.iterdir()) == []
  with lock.locked(workdir):
    (workdir / 'config.json').touch()
  assert [p.name for p in workdir.iterdir()] == ['config.json']


def test_it_is_taken_from_a_process_that_is_gone_or_whose_number_another_has(workdir, capsys):
  own = psutil.Process()
  for changes in ({}, {'pid': own.pid, 'started': lock._started(own) - 9}):
    left(workdir, **changes)
    with lock.locked(workdir):
      pass
    assert 'which is gone; this run has it now.' in capsys.readouterr().err


def test_a_process_that_nobody_waited_for_is_gone(workdir):
  process = subprocess.Popen([sys.executable, '-c', ''])
  while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
    time.sleep(0.01)
  left(workdir, pid=process.pid, started=lock._started(psutil.Process(process.pid)))
  with lock.locked(workdir):
    pass
  process.wait()


@pytest.fixture
def soon(monkeypatch):
  """Owners on other machines are gone soon."""
  for name, value in (('RETRY', 0.02), ('HEARTBEAT', 0.05), ('TIMEOUT', 0.6)):
    monkeypatch.setattr(lock, name, value)


ELSEWHERE = {'host': 'elsewhere', 'boot': 'other'}


@pytest.mark.parametrize('text', [json.dumps({'pid': 1} | ELSEWHERE), '', '[1]', '{"host": "els'])
def test_an_owner_elsewhere_is_gone_when_it_gives_no_sign_of_life(workdir, soon, capsys, text):
  workdir.mkdir(parents=True)
  (workdir / lock.FILE).write_text(text)
  began = time.monotonic()
  with lock.locked(workdir):
    assert 0.4 < time.monotonic() - began < 5
  output = capsys.readouterr().err
  assert output.count('which is gone if it gives no sign of life for 1 s') == 1
  assert 'which is gone; this run has it now.' in output


def test_of_an_owner_elsewhere_that_was_last_there_long_ago_no_sign_is_awaited(workdir, capsys):
  left(workdir, **ELSEWHERE)
  then = time.time() - 2 * lock.TIMEOUT
  os.utime(workdir / lock.FILE, (then, then))
  with lock.locked(workdir):
    pass
  assert 'this run has it now' in capsys.readouterr().err


@pytest.mark.parametrize('clock', [0, -3600, 3600])
def test_an_owner_elsewhere_that_gives_signs_of_life_is_there_whatever_its_clock(
  workdir, soon, monkeypatch, clock
):
  monkeypatch.setattr(lock, 'TIMEOUT', 2.0 if clock >= 0 else 1e9)
  left(workdir, **ELSEWHERE)
  done = threading.Event()

  def live():
    while not done.wait(0.05):
      now = time.time() + clock
      os.utime(workdir / lock.FILE, (now, now))

  thread = threading.Thread(target=live)
  thread.start()
  try:
    time.sleep(0.2)
    assert 'in use by process' in refused(workdir)
  finally:
    done.set()
    thread.join()


def test_a_job_that_slurm_starts_again_has_its_lock(workdir, monkeypatch):
  monkeypatch.setenv('SLURM_JOB_ID', '77')
  left(workdir, **ELSEWHERE)
  monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
  began = time.monotonic()
  with lock.locked(workdir):
    assert time.monotonic() - began < 5


def test_one_of_many_takes_a_lock_that_was_left(workdir):
  """And they do not take it from each other."""
  for _ in range(40):
    left(workdir)
    many, outcomes = 6, []
    gate = threading.Barrier(many)

    def take(gate=gate, outcomes=outcomes):
      own, idle = lock._describe_self(), lock.idle_time()
      gate.wait()
      problem = lock.WAIT
      while problem.startswith(lock.WAIT):
        problem = lock.attempt(workdir, own, idle)
      outcomes.append((problem, own))

    threads = [threading.Thread(target=take) for _ in range(many)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    winners = [own for problem, own in outcomes if not problem]
    assert winners == [(workdir / lock.FILE).read_bytes()]
    assert [p.name for p in workdir.iterdir()] == ['lock.json']


def test_one_that_was_killed_while_it_took_a_lock_is_not_waited_for(workdir, soon):
  left(workdir)
  (workdir / '.lock.json.turn').touch()
  with lock.locked(workdir):
    assert [p.name for p in workdir.iterdir()] == ['lock.json']


def test_a_run_ends_whose_lock_another_has(workdir, soon, capfd):
  ended = []
  with lock.locked(workdir, end=ended.append):
    (workdir / lock.FILE).unlink()  # somebody took it for stale
    time.sleep(0.3)
    assert json.loads((workdir / lock.FILE).read_text())['pid'] == os.getpid()
    assert ended == []
    left(workdir, **ELSEWHERE)
    time.sleep(0.3)
  assert ended == [lock.LOST]
  assert f'error: {workdir} was taken over by process ' in capfd.readouterr().err
  assert json.loads((workdir / lock.FILE).read_text())['token'] == 'stale'


def test_it_gives_signs_of_life(workdir, soon):
  with lock.locked(workdir):
    first = (workdir / lock.FILE).stat().st_mtime
    time.sleep(0.3)
    assert (workdir / lock.FILE).stat().st_mtime > first


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
  (tmp_path / 'file').touch()
  for name in ('file', 'file/in'):
    with (
      pytest.raises(ValueError, match=r'^Cannot write .*lock\.json: '),
      lock.locked(tmp_path / name),
    ):
      pass
