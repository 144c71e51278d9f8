"""What the scripts of `launch/` would start."""

import copy
import pathlib
import re
import shlex
import subprocess

import pytest
import yaml

from tests import kubernetes

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAIN = ['--', '--config=configs/t2v.py:paper', '--workdir=/mnt/a run']
NUMBER = r'[1-9]\d*'
# The forms of options in the manuals sbatch(1) and srun(1) of Slurm 22.05 and 24.11.
SBATCH = {
  '--job-name': r'[\w-]+',
  '--nodes': rf'{NUMBER}(-{NUMBER})?',
  '--ntasks-per-node': NUMBER,
  '--gpus-per-node': rf'(\w+:)?{NUMBER}',
  '--cpus-per-task': NUMBER,
  '--time': r'\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}',
  '--requeue': None,
  '--open-mode': r'append|truncate',
  '--signal': r'([RB]{1,2}:)?(\d+|[A-Z]+\d?)(@\d{1,5})?',
}
SRUN = {
  '--kill-on-bad-exit': r'[01]',
  '--cpus-per-task': NUMBER,
  '--gpu-bind': r'(verbose,)?(closest|none|(map_gpu|mask_gpu|per_task|single):.+)',
}


def launch(script, *arguments):
  line = [str(ROOT / 'launch' / script), *arguments]
  return subprocess.run(line, capture_output=True, text=True, check=False)


def dry(script, *arguments):
  done = launch(script, '--dry_run', *arguments)
  assert done.returncode == 0, done.stderr
  return done.stdout


def require_options(words, known):
  for word in words:
    name, equals, value = word.partition('=')
    assert name in known, word
    assert re.fullmatch(known[name], value) if known[name] else not equals, word


def is_bash(script):
  return subprocess.run(['bash', '-n'], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
  'options', [[], ['--nodes=4', '--gpus=2', '--cpus=12', '--time=2-12', '--notice=600']]
)
def test_slurm_takes_every_option_of_the_script(options):
  output = dry('slurm.sh', *options, *TRAIN)
  _, script = output.split("<<'END'\n")
  lines = [line.removeprefix('#SBATCH ') for line in script.splitlines() if '#SBATCH' in line]
  assert len(lines) == len(SBATCH)
  require_options(lines, SBATCH)
  # What sbatch reads is before the first command.
  assert all(line.startswith('#') for line in script.splitlines()[: len(lines) + 1])
  (srun,) = (shlex.split(line) for line in script.splitlines() if line.startswith('srun'))
  require_options(srun[1 : srun.index('launch/slurm_task.sh')], SRUN)
  assert is_bash(script.removesuffix('END\n'))


def test_a_task_of_slurm_is_one_of_as_many_as_gpus_and_sees_them_all():
  output = dry('slurm.sh', '--nodes=4', '--gpus=8', '--cpus=6', '--sbatch=--partition=big', *TRAIN)
  assert output.startswith("sbatch --partition=big <<'END'\n#!/bin/bash\n")
  for line in ('--nodes=4', '--ntasks-per-node=8', '--gpus-per-node=8', '--cpus-per-task=6'):
    assert f'#SBATCH {line}\n' in output
  # It would bind a task to one GPU, which it knows as the first, while JAX takes that of its id.
  assert '--gpus-per-task' not in output
  (srun,) = (shlex.split(line) for line in output.splitlines() if line.startswith('srun'))
  # Since 22.05 srun does not take it from sbatch.
  assert {'--cpus-per-task=6', '--gpu-bind=none'} < set(srun)
  assert srun[srun.index('.venv/bin/python') :] == [
    '.venv/bin/python', 'train.py', *TRAIN[1:], '&',
  ]  # fmt: skip


def test_tpu_vms_are_all_started_at_once():
  words = shlex.split(dry('tpu_vm.sh', '--name=tpu', '--zone=us-east5-a', *TRAIN))
  assert words[:6] == ['gcloud', 'compute', 'tpus', 'tpu-vm', 'ssh', 'tpu']
  assert {'--zone=us-east5-a', '--worker=all'} <= set(words)
  (remote,) = (w.removeprefix('--command=') for w in words if w.startswith('--command='))
  assert shlex.split(remote) == [
    'cd', 'lumiere', '&&', 'exec', 'launch/tpu_worker.sh', 'train.py', *TRAIN[1:]
  ]  # fmt: skip
  assert is_bash(remote)


SAMPLE = ['--script=sample.py', '--', 'text_to_video', '--prompt=a red ring']


def test_the_scripts_sample_too():
  slurm = dry('slurm.sh', *SAMPLE)
  (srun,) = (shlex.split(line) for line in slurm.splitlines() if line.startswith('srun'))
  assert srun[srun.index('sample.py') :] == ['sample.py', *SAMPLE[2:], '&']
  words = shlex.split(dry('tpu_vm.sh', '--name=tpu', '--zone=us-east5-a', *SAMPLE))
  (remote,) = (w.removeprefix('--command=') for w in words if w.startswith('--command='))
  assert shlex.split(remote)[4:] == ['launch/tpu_worker.sh', 'sample.py', *SAMPLE[2:]]
  output = dry('gke.sh', '--name=run', '--image=image:1', '--gpu=x', '--hosts=2', *SAMPLE)
  assert ".venv/bin/python sample.py 'text_to_video' '--prompt=a red ring' --coord" in output


POD = ['--tpu=tpu-v5p-slice:4x4x4', '--hosts=16']
SLICES = ['--tpu=tpu-v6e-slice:4x4', '--hosts=4', '--slices=2']
GPUS = ['--gpu=nvidia-h100-80gb', '--hosts=16']
RDMA = ['--gpu=nvidia-h200-141gb', '--hosts=2', '--rdma=rdma-0,rdma-1']


def job_set(*options):
  output = yaml.safe_load(dry('gke.sh', '--name=run', '--image=image:1', *options, *TRAIN))
  (replicated,) = output['spec']['replicatedJobs']
  return output, replicated, replicated['template']['spec']['template']


@pytest.mark.parametrize('options', [POD, SLICES, GPUS, RDMA], ids=['pod', 'slices', 'gpu', 'rdma'])
def test_kubernetes_takes_every_field(options):
  output, *_ = job_set(*options)
  assert list(kubernetes.problems(output)) == []


def test_what_kubernetes_would_not_take_is_seen():
  output, *_ = job_set(*POD)
  for keys, value, message in (
    (('spec', 'failurePolicy', 'maxRestart'), 1, '.spec.failurePolicy has no field maxRestart'),
    (('spec', 'failurePolicy', 'maxRestarts'), '1', ".spec.failurePolicy.maxRestarts is '1'"),
    (('spec', 'network', 'enableDNSHostnames'), 'yes', "enableDNSHostnames is 'yes', no bool"),
    (('spec', 'replicatedJobs', 0, 'name'), 'a_b', "replicatedJobs[0].name is 'a_b'"),
    (('spec', 'replicatedJobs', 0, 'template', 'spec'), {}, 'template.spec lacks template'),
    (('kind',), 'Jobset', ".kind is 'Jobset'"),
    (('spec', 'replicatedJobs'), {}, '.spec.replicatedJobs is {}'),
  ):
    wrong = copy.deepcopy(output)
    at = wrong
    for key in keys[:-1]:
      at = at[key]
    at[keys[-1]] = value
    problems = list(kubernetes.problems(wrong))
    assert len(problems) == 1
    assert problems[0].endswith(message)


@pytest.mark.parametrize(
  ('options', 'selector', 'limits'),
  [
    (
      POD,
      {
        'cloud.google.com/gke-tpu-accelerator': 'tpu-v5p-slice',
        'cloud.google.com/gke-tpu-topology': '4x4x4',
      },
      {'google.com/tpu': 4},
    ),
    (GPUS, {'cloud.google.com/gke-accelerator': 'nvidia-h100-80gb'}, {'nvidia.com/gpu': 8}),
  ],
)
def test_kubernetes_gets_a_job_for_each_host(options, selector, limits):
  _, replicated, template = job_set(*options)
  assert replicated['replicas'] == 1
  job, pod = replicated['template']['spec'], template['spec']
  assert job['parallelism'] == job['completions'] == 16
  assert pod['nodeSelector'] == selector
  (container,) = pod['containers']
  assert container['resources']['limits'] == limits
  (key,) = limits
  assert pod['tolerations'] == [{'key': key, 'operator': 'Exists', 'effect': 'NoSchedule'}]


def test_each_slice_is_a_job_with_a_node_pool_to_itself():
  output, replicated, template = job_set(*SLICES)
  assert replicated['replicas'] == 2
  assert replicated['template']['spec']['parallelism'] == 4
  exclusive = 'alpha.jobset.sigs.k8s.io/exclusive-topology'
  assert output['metadata']['annotations'] == {exclusive: 'cloud.google.com/gke-nodepool'}
  ports = [port['containerPort'] for port in template['spec']['containers'][0]['ports']]
  assert {8471, 8080} <= set(ports)
  assert template['spec']['hostNetwork']
  # Pods of GPUs may be anywhere.
  assert 'annotations' not in job_set(*GPUS)[0]['metadata']


def test_gpus_speak_by_the_network_of_their_host_or_by_rdma():
  _, _, template = job_set(*GPUS)
  assert template['spec']['hostNetwork']
  assert template['spec']['dnsPolicy'] == 'ClusterFirstWithHostNet'
  _, _, template = job_set(*RDMA)
  assert 'hostNetwork' not in template['spec']
  interfaces = yaml.safe_load(template['metadata']['annotations']['networking.gke.io/interfaces'])
  assert interfaces == [
    {'interfaceName': 'eth0', 'network': 'default'},
    {'interfaceName': 'eth2', 'network': 'rdma-0'},
    {'interfaceName': 'eth3', 'network': 'rdma-1'},
  ]
  (container,) = template['spec']['containers']
  assert container['args'][0].startswith('source /usr/local/gib/scripts/set_nccl_env.sh\n')
  mounted = {mount['name'] for mount in container['volumeMounts']}
  assert mounted == {volume['name'] for volume in template['spec']['volumes']}


def test_only_what_may_help_is_tried_again_by_kubernetes():
  output, replicated, template = job_set(*POD, '--restarts=7')
  # A Job that fails by a rule of its Pods says so, and the JobSet ends with it.
  (rule,) = output['spec']['failurePolicy']['rules']
  assert rule['action'] == 'FailJobSet'
  assert rule['onJobFailureReasons'] == ['PodFailurePolicy']
  assert output['spec']['failurePolicy']['maxRestarts'] == 7
  job = replicated['template']['spec']
  (rule,) = job['podFailurePolicy']['rules']
  assert (rule['action'], rule['onExitCodes']['operator']) == ('FailJob', 'In')
  again = set(range(1, 256)) - set(rule['onExitCodes']['values'])
  assert again == {75} | set(range(128, 256)) - {130}  # which is Ctrl-C
  assert job['backoffLimit'] == 0
  assert template['spec']['restartPolicy'] == 'Never'  # or rules are refused


NAMED = ['--name=a', '--image=b', '--hosts=1']


@pytest.mark.parametrize(
  ('script', 'arguments', 'message'),
  [
    ('slurm.sh', ['--gpu=8'], '--gpu=8 is unknown; allowed are --dry_run, --nodes'),
    ('slurm.sh', [], 'the arguments of train.py are needed, after --'),
    ('slurm.sh', ['--script=a.py', *TRAIN], 'got --script=a.py; allowed are train.py, sample.py'),
    ('tpu_vm.sh', ['--name=a', '--zone=b', '--script=', *TRAIN], 'got --script=; allowed are'),
    ('gke.sh', [*NAMED, '--gpu=x', '--script=gallery.py', *TRAIN], 'got --script=gallery.py; al'),
    ('slurm.sh', ['--gpus=0', *TRAIN], 'got --gpus=0; allowed is a number of 1 or more'),
    ('slurm.sh', ['--cpus=', *TRAIN], 'got --cpus=; allowed is a number'),
    ('slurm.sh', ['--notice=2m', *TRAIN], 'got --notice=2m; allowed is a number'),
    ('slurm.sh', ['--time=1d', *TRAIN], 'got --time=1d; allowed are MINUTES'),
    ('tpu_vm.sh', TRAIN, '--name and --zone are needed'),
    ('gke.sh', [*NAMED, *TRAIN], 'one of --tpu=KIND:TOPOLOGY and'),
    ('gke.sh', [*NAMED, '--tpu=x', *TRAIN], 'got --tpu=x; allowed'),
    (
      'gke.sh',
      [*NAMED, '--tpu=x:4x4', *TRAIN],
      'got --hosts=1 with --chips=4; a slice of 4x4 has 16',
    ),
    (
      'gke.sh',
      [*NAMED, '--tpu=x:2x2', '--slices=2', *TRAIN],
      '--slices needs --hosts of 2 or more',
    ),
    ('gke.sh', [*NAMED, '--gpu=x', '--slices=2', *TRAIN], '--slices is for TPUs'),
    ('gke.sh', [*NAMED, '--tpu=x:2x2', '--rdma=a', *TRAIN], '--rdma is for GPUs'),
    ('gke.sh', [*NAMED, '--gpu=x', '--hosts=two', *TRAIN], 'got --hosts=two; allowed is a number'),
    ('gke.sh', [*NAMED, '--gpu=x', '--name=My_run', *TRAIN], 'got --name=My_run; allowed are'),
    ('gke.sh', [*NAMED, '--gpu=x', '--image=a b', *TRAIN], 'got --image=a b; it is not the name'),
  ],
)
def test_mistakes_are_reported(script, arguments, message):
  done = launch(script, *arguments)
  assert done.returncode == 2
  assert done.stderr.startswith('error: ')
  assert len(done.stderr.splitlines()) == 1
  assert message in done.stderr
  assert done.stdout == ''
