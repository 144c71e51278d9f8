#!/usr/bin/env bash
# Trains on the GPUs of a SLURM cluster, one process a GPU, and comes back after every interruption.
#
#   launch/slurm.sh [--dry_run] [--nodes=2] [--gpus=8] [--time=24:00:00] [--sbatch=OPTIONS] -- ARGUMENTS OF train.py
#
# Two minutes before the job's time is over the run is told to stop: it saves, ends, and is requeued.
# So is one that its watchdog ended (75), that was killed, or that lost a peer (128 and more); any
# other failure is not, since it would only fail again.
set -euo pipefail

nodes=2 gpus=8 time=24:00:00 sbatch= dry=
while (($#)); do
  case $1 in
    --nodes=*) nodes=${1#*=} ;;
    --gpus=*) gpus=${1#*=} ;;
    --time=*) time=${1#*=} ;;
    --sbatch=*) sbatch=${1#*=} ;;
    --dry_run) dry=1 ;;
    --) shift; break ;;
    *) echo "error: $1 is unknown; allowed are --dry_run, --nodes, --gpus, --time, --sbatch, and train.py's arguments after --" >&2; exit 2 ;;
  esac
  shift
done
(($#)) || { echo "error: train.py's arguments are needed, after --" >&2; exit 2; }

root=$(cd "$(dirname "$0")/.." && pwd)
script=$(cat <<END
#!/bin/bash
#SBATCH --job-name=lumiere
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=$gpus
#SBATCH --gpus-per-task=1
#SBATCH --time=$time
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
cd ${root@Q}
stopped=
trap 'stopped=1; kill -USR1 \$run' USR1
srun --kill-on-bad-exit=1 .venv/bin/python train.py ${*@Q} &
run=\$!
wait \$run; status=\$?
if [[ \$stopped ]]; then wait \$run; status=\$?; fi
if ((status == 75 || status >= 128)) || [[ \$stopped && \$status == 0 ]]; then exec scontrol requeue \$SLURM_JOB_ID; fi
exit \$status
END
)
if [[ $dry ]]; then
  echo "sbatch $sbatch <<'END'"
  echo "$script"
  echo END
else
  # shellcheck disable=SC2086 # options are words
  sbatch $sbatch <<<"$script"
fi
