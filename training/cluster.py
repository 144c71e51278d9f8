"""Finds out from the environment whether the scheduler of a cluster, such as Slurm, started this
process as one of many."""

import os

from core.errors import UserError

ALONE = '--num_processes=1 runs this process alone'


def started_by() -> str | None:
  """The name of the scheduler that started this process as one of many; None if none did.

  These are Slurm, Open MPI and GKE with TPUs, all of which JAX supports.  UserError if a
  scheduler's variables say that there are many processes, but not which of them this one is, as in
  a shell within an allocation, or if the value of one is not a number.
  """
  checks = (('Open MPI', _by_open_mpi), ('Slurm', _by_slurm), ('GKE', _by_gke))
  return next((name for name, is_started in checks if is_started()), None)


def _by_slurm() -> bool:
  tasks, of_step = _number('SLURM_NTASKS'), _number('SLURM_STEP_NUM_TASKS')
  if max(tasks or 1, of_step or 1) == 1:
    return False
  # A shell in an allocation belongs to no step, or to a step with a single task, in which
  # SLURM_NTASKS is that of the whole allocation.
  missing = _missing('SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_PROCID', 'SLURM_LOCALID')
  if missing or tasks != (of_step or tasks):
    raise UserError(
      f'SLURM_NTASKS={os.environ.get("SLURM_NTASKS", "")}, but srun did not start this process as '
      f'one of so many tasks: start it with srun; {ALONE}.'
    )
  for name in ('SLURM_JOB_ID', 'SLURM_PROCID', 'SLURM_LOCALID'):
    _number(name)
  return True


def _by_open_mpi() -> bool:
  tasks = _number('OMPI_COMM_WORLD_SIZE')
  if (tasks or 1) == 1:
    return False
  rank = 'OMPI_COMM_WORLD_RANK'
  # Open MPI 5 does not set the first of these variables any more.
  if missing := _missing('OMPI_MCA_orte_hnp_uri', rank, 'OMPI_COMM_WORLD_LOCAL_RANK'):
    raise UserError(
      f'OMPI_COMM_WORLD_SIZE={tasks}, but {missing} is not set, as mpirun of Open MPI 4 does.  Say '
      f'--coordinator=HOST:PORT --num_processes={tasks} --process_id=${rank}; {ALONE}.'
    )
  for name in (rank, 'OMPI_COMM_WORLD_LOCAL_RANK'):
    _number(name)
  return True


def _by_gke() -> bool:
  hosts = os.environ.get('TPU_PROCESS_ADDRESSES') or os.environ.get('TPU_WORKER_HOSTNAMES', '')
  slices = _number('MEGASCALE_NUM_SLICES') or 1
  if ',' not in hosts and slices == 1:
    return False
  # Without names of hosts these are Cloud TPU VMs, where JAX reads the rest from their metadata.
  needed = ['TPU_WORKER_ID'] if hosts else []
  if hosts and slices > 1:
    needed += ['MEGASCALE_SLICE_ID', 'MEGASCALE_COORDINATOR_ADDRESS']
  if missing := _missing(*needed):
    what = f'{slices} slices' if slices > 1 else f'the hosts {hosts}'
    raise UserError(f'The environment has {what} of TPUs, but not {missing}; {ALONE}.')
  for name in needed[:2]:
    _number(name)
  return True


def _missing(*names: str) -> str:
  return ', '.join(name for name in names if not os.environ.get(name))


def _number(name: str) -> int | None:
  """The number in the variable; None if it is unset or empty."""
  value = os.environ.get(name, '')
  if not value:
    return None
  if not (value.isascii() and value.isdigit()):
    raise UserError(f'{name}={value} is in the environment; allowed is a number.  {ALONE}.')
  return int(value)
