"""What the scripts of `launch/` would start."""

import pathlib
import shlex
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAIN = ['--', '--config=configs/t2v.py:paper', '--workdir=/mnt/a run']


def launch(script, *arguments):
  line = [str(ROOT / 'launch' / script), *arguments]
  return subprocess.run(line, capture_output=True, text=True, check=False)


def dry(script, *arguments):
  done = launch(script, '--dry_run', *arguments)
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_slurm_asks_for_a_task_a_gpu_and_comes_back():
  said = dry('slurm.sh', '--nodes=4', '--gpus=8', '--sbatch=--partition=big', *TRAIN)
  assert said.startswith("sbatch --partition=big <<'END'\n#!/bin/bash\n")
  for line in ('--nodes=4', '--ntasks-per-node=8', '--requeue', '--signal=B:USR1@120'):
    assert f'#SBATCH {line}\n' in said
  (run,) = (line for line in said.splitlines() if line.startswith('srun'))
  assert shlex.split(run)[3:] == ['train.py', *TRAIN[1:], '&']
  script = said.split("<<'END'\n")[1].removesuffix('END\n')
  assert subprocess.run(['bash', '-n'], input=script, text=True, check=False).returncode == 0


def test_tpu_vms_are_all_told_at_once():
  words = shlex.split(dry('tpu_vm.sh', '--name=tpu', '--zone=us-east5-a', *TRAIN))
  assert words[:6] == ['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', 'tpu']
  assert {'--zone=us-east5-a', '--worker=all'} <= set(words)
  (remote,) = (w.removeprefix('--command=') for w in words if w.startswith('--command='))
  assert (
    "train.py --coordinator=auto '--config=configs/t2v.py:paper' '--workdir=/mnt/a run'" in remote
  )
  assert subprocess.run(['bash', '-n', '-c', remote], check=False).returncode == 0


@pytest.mark.parametrize(
  ('hardware', 'selector', 'limits'),
  [
    (
      '--tpu=tpu-v5p-slice:4x4x4',
      {
        'cloud.google.com/gke-tpu-accelerator': 'tpu-v5p-slice',
        'cloud.google.com/gke-tpu-topology': '4x4x4',
      },
      {'google.com/tpu': 4},
    ),
    (
      '--gpu=nvidia-h100-80gb',
      {'cloud.google.com/gke-accelerator': 'nvidia-h100-80gb'},
      {'nvidia.com/gpu': 8},
    ),
  ],
)
def test_kubernetes_gets_a_job_for_each_host(hardware, selector, limits):
  said = dry('gke.sh', '--name=run', '--image=image:1', hardware, '--hosts=16', *TRAIN)
  spec = yaml.safe_load(said)['spec']['replicatedJobs'][0]['template']['spec']
  assert spec['parallelism'] == spec['completions'] == 16
  pod = spec['template']['spec']
  assert pod['nodeSelector'] == selector
  (container,) = pod['containers']
  assert container['resources']['limits'] == limits
  words = shlex.split(container['args'][0])
  assert words[:5] == ['exec', '.venv/bin/python', 'train.py', *TRAIN[1:]]
  many = [word for word in words if word.startswith('--num_processes')]
  assert many == ([] if 'tpu' in hardware else ['--num_processes=16'])


@pytest.mark.parametrize(
  ('script', 'arguments', 'message'),
  [
    ('slurm.sh', ['--gpu=8'], '--gpu=8 is unknown; allowed are --dry_run, --nodes'),
    ('slurm.sh', [], "train.py's arguments are needed, after --"),
    ('tpu_vm.sh', TRAIN, '--name and --zone are needed'),
    ('gke.sh', ['--name=a', '--image=b', '--hosts=1', *TRAIN], 'one of --tpu=KIND:TOPOLOGY and'),
    ('gke.sh', ['--name=a', '--image=b', '--hosts=1', '--tpu=x', *TRAIN], 'got --tpu=x; allowed'),
  ],
)
def test_mistakes_are_told(script, arguments, message):
  done = launch(script, *arguments)
  assert done.returncode == 2
  assert message in done.stderr
  assert done.stdout == ''
