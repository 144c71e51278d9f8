"""How processes find each other, by arguments and by what schedulers leave in the environment."""

import json
import os
import random
import socket
import subprocess
import sys

import jax
import pytest

from core import command
from training import cluster, processes

STEP = {
  'SLURM_JOB_ID': '7',
  'SLURM_NTASKS': '2',
  'SLURM_STEP_NUM_TASKS': '2',
  'SLURM_STEP_NODELIST': 'node[1-2]',
  'SLURM_PROCID': '1',
  'SLURM_LOCALID': '0',
}
MPI = {
  'OMPI_COMM_WORLD_SIZE': '2',
  'OMPI_COMM_WORLD_RANK': '1',
  'OMPI_COMM_WORLD_LOCAL_RANK': '1',
  'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1:34911',
}
POD = {'TPU_WORKER_HOSTNAMES': 'a,b', 'TPU_WORKER_ID': '1'}
SLICES = POD | {
  'MEGASCALE_NUM_SLICES': '2',
  'MEGASCALE_SLICE_ID': '1',
  'MEGASCALE_COORDINATOR_ADDRESS': 'a:8080',
}


@pytest.fixture
def joined(monkeypatch):
  """Joins with only these variables of schedulers in the environment; what JAX is called with."""

  def joined(environment=(), coordinator=None, num=None, index=None):
    for name in list(os.environ):
      if name.startswith(('SLURM_', 'OMPI_', 'TPU_', 'MEGASCALE_')):
        monkeypatch.delenv(name)
    for name, value in dict(environment).items():
      monkeypatch.setenv(name, value)
    calls = []
    monkeypatch.setattr(jax.config, 'update', lambda *_: None)
    monkeypatch.setattr(jax.distributed, 'initialize', lambda *args, **_: calls.append(args))
    processes.join(coordinator, num, index)
    return calls

  return joined


@pytest.mark.parametrize(
  'environment', [STEP, MPI, POD, SLICES], ids=['slurm', 'mpi', 'pod', 'slices']
)
def test_a_scheduler_that_says_all_is_believed(joined, environment):
  assert joined(environment) == [(None, None, None)]


@pytest.mark.parametrize(
  'environment',
  [
    {},
    {'SLURM_JOB_ID': '7'},
    {'SLURM_JOB_ID': '7', 'SLURM_NTASKS': ''},
    {'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '1', 'SLURM_TASKS_PER_NODE': '2(x3)'},
    STEP | {'SLURM_NTASKS': '1', 'SLURM_STEP_NUM_TASKS': '1'},
    {'OMPI_COMM_WORLD_SIZE': '1'},
    {'TPU_WORKER_HOSTNAMES': 'localhost', 'TPU_WORKER_ID': '0', 'MEGASCALE_NUM_SLICES': ''},
  ],
)
def test_one_process_is_alone(joined, environment):
  assert joined(environment) == []


def without(environment, name):
  return {key: value for key, value in environment.items() if key != name}


@pytest.mark.parametrize(
  ('environment', 'message'),
  [
    ({'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '2'}, 'SLURM_NTASKS=2, but srun did not start'),
    # The shell of an allocation that Slurm makes a step of one task.
    (STEP | {'SLURM_STEP_NUM_TASKS': '1'}, 'SLURM_NTASKS=2, but srun did not start'),
    (STEP | {'SLURM_NTASKS': ''}, 'SLURM_NTASKS=, but srun did not start'),
    (without(STEP, 'SLURM_LOCALID'), 'SLURM_NTASKS=2, but srun did not start'),
    (STEP | {'SLURM_NTASKS': '2(x3)'}, r'SLURM_NTASKS=2\(x3\) is in the environment; allowed is a'),
    (STEP | {'SLURM_PROCID': 'one'}, 'SLURM_PROCID=one is in the environment'),
    (STEP | {'SLURM_JOB_ID': '7_1'}, 'SLURM_JOB_ID=7_1 is in the environment'),
    (without(MPI, 'OMPI_MCA_orte_hnp_uri'), r'OMPI_MCA_orte_hnp_uri is not set.*_id=\$OMPI_COMM'),
    (without(MPI, 'OMPI_COMM_WORLD_RANK'), 'OMPI_COMM_WORLD_RANK is not set'),
    (MPI | {'OMPI_COMM_WORLD_SIZE': '-2'}, 'OMPI_COMM_WORLD_SIZE=-2 is in the environment'),
    (without(POD, 'TPU_WORKER_ID'), 'the hosts a,b of TPUs, but not TPU_WORKER_ID'),
    (
      without(SLICES, 'MEGASCALE_SLICE_ID'),
      'has 2 slices of TPUs, but not MEGASCALE_SLICE_ID',
    ),
    (SLICES | {'MEGASCALE_NUM_SLICES': 'two'}, 'MEGASCALE_NUM_SLICES=two is in the environment'),
  ],
)
def test_an_environment_that_says_half_of_it_is_refused_in_one_line(joined, environment, message):
  with pytest.raises(ValueError, match=message) as refused:
    joined(environment)
  assert cluster.ALONE in str(refused.value)
  assert '\n' not in str(refused.value)
  # That line holds; and who says who is who by arguments needs no scheduler.
  assert joined(environment, num=1) == []
  assert joined(environment, 'host:1', 2, 1) == [('host:1', 2, 1)]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('host:1', 2, None), 'given together, or not at all, or --coordinator=auto or --num_proc'),
    ((None, 2, None), 'given together'),
    (('host:1', 2, 2), r'Got --process_id=2 of 2; 0\.\.1 are allowed'),
    (('host', 2, 1), 'Got --coordinator=host; allowed are auto and HOST:PORT'),
    ((':1', 2, 1), 'Got --coordinator=:1; allowed'),
    (('host:http', 2, 1), 'Got --coordinator=host:http; allowed'),
    (('host:65536', 2, 1), 'Got --coordinator=host:65536; allowed'),
    (('host:0', 2, 1), 'Got --coordinator=host:0; allowed'),
  ],
)
def test_arguments_that_cannot_be(joined, arguments, message):
  with pytest.raises(ValueError, match=message):
    joined({}, *arguments)


@pytest.mark.parametrize('host', ['127.0.0.1', '0.0.0.0', '::'])
def test_a_port_that_another_program_has(joined, host):
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  with socket.create_server((host, 0), family=family, reuse_port=True) as other:
    port = other.getsockname()[1]
    with pytest.raises(ValueError, match=f'process 0 cannot have port {port}: .* in use'):
      joined({}, f'localhost:{port}', 2, 0)
    assert joined({}, f'localhost:{port}', 2, 1)  # which is for process 0 to have
  assert joined({}, f'localhost:{port}', 2, 0)


START = """
import json, sys
from core import command
from training import processes
processes.MEET, arguments = json.loads(sys.argv.pop())
def main():
  processes.join(*arguments)
  import jax
  print(jax.process_index(), jax.process_count())
command.run(main)
"""


def start(arguments, meet, **environment):
  line = [sys.executable, '-c', START, json.dumps([meet, arguments])]
  given = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(command.ROOT)} | environment
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  return subprocess.Popen(line, env=given, cwd=command.ROOT, **pipes)


def test_a_coordinator_that_is_not_there_ends_in_one_line_in_time():
  with socket.create_server(('127.0.0.1', 0)) as silent:  # accepts, and never answers
    address = f'127.0.0.1:{silent.getsockname()[1]}'
    alone = start([address, 2, 1], 1)
    _, error = alone.communicate(timeout=300)
  assert alone.returncode == 75
  assert error == (
    f'error: the other processes were not met at {address} within 1 s: not all of them are '
    'started, or they cannot reach each other.\n'
  )


def test_tpus_that_are_not_there_are_one_line():
  runs = [
    start([None] * 3, 60, **POD),
    start([None] * 3, 60, MEGASCALE_NUM_SLICES='2'),
    start(['auto', None, None], 60),
  ]
  for run, by in zip(runs, ('GKE', 'GKE', '--coordinator=auto')):
    _, error = run.communicate(timeout=300)
    assert run.returncode == 2
    assert error == (
      f'error: JAX finds no other processes by {by} (coordinator_address should be defined); '
      f'{cluster.ALONE}.\n'
    )


def test_the_tasks_of_a_step_of_slurm_meet():
  job = str(random.randrange(4096))  # of which JAX makes the port
  of_step = STEP | {'SLURM_JOB_ID': job, 'SLURM_STEP_NODELIST': 'localhost'}
  tasks = [
    start([None] * 3, 200, **of_step | {'SLURM_PROCID': i, 'SLURM_LOCALID': i}) for i in '01'
  ]
  output = [task.communicate(timeout=300) for task in tasks]
  assert [out for out, _ in output] == ['0 2\n', '1 2\n'], output
