#!/usr/bin/env bash
# Trains or samples on the GPUs of a SLURM cluster, with one process per GPU, and requeues the job if
# interrupted.
#
#   launch/slurm.sh [--dry_run] [--nodes=2] [--gpus=8] [--cpus=8] [--time=24:00:00] [--notice=120] [--sbatch=OPTIONS] [--script=train.py] -- ARGUMENTS OF THE SCRIPT
#
# --script is train.py, sample.py or evaluate.py; the last two make each video on all GPUs together.
# If their job is requeued, evaluate.py goes on with the videos in --samples, and sample.py begins again.
#
# --gpus is the number per node, --cpus the number per process.  Other options of sbatch, such as
# --partition or --mem, go into --sbatch.  Each process sees all GPUs of its node, and JAX uses the one
# with its local id.
#
# --notice seconds before the end of the job's time, the run gets a signal: it saves, ends, and is
# requeued.  This must be enough for one step and for saving; otherwise the steps since the last
# checkpoint are lost, and the job is not requeued.  The job is also requeued, up to 100 times, if the
# first process to fail was ended by its watchdog (75), was killed, or lost a peer (128 or more, except
# 130 for Ctrl-C).  After any other failure it is not, since it would fail again.
set -euo pipefail

nodes=2 gpus=8 cpus=8 time=24:00:00 notice=120 sbatch= script=train.py dry=
while (($#)); do
  case $1 in
    --nodes=*) nodes=${1#*=} ;;
    --gpus=*) gpus=${1#*=} ;;
    --cpus=*) cpus=${1#*=} ;;
    --time=*) time=${1#*=} ;;
    --notice=*) notice=${1#*=} ;;
    --sbatch=*) sbatch=${1#*=} ;;
    --script=*) script=${1#*=} ;;
    --dry_run) dry=1 ;;
    --) shift; break ;;
    *) echo "error: $1 is unknown; allowed are --dry_run, --nodes, --gpus, --cpus, --time, --notice, --sbatch, --script, and the script's arguments after --" >&2; exit 2 ;;
  esac
  shift
done
[[ $script =~ ^(train|sample|evaluate)\.py$ ]] || { echo "error: got --script=$script; allowed are train.py, sample.py and evaluate.py" >&2; exit 2; }
(($#)) || { echo "error: the arguments of $script are needed, after --" >&2; exit 2; }
for name in nodes gpus cpus notice; do
  [[ ${!name} =~ ^[1-9][0-9]{0,4}$ ]] || { echo "error: got --$name=${!name}; allowed is a number of 1 or more" >&2; exit 2; }
done
# The formats in the manual of sbatch.
[[ $time =~ ^([0-9]+-)?[0-9]+(:[0-9]+){0,2}$ ]] || { echo "error: got --time=$time; allowed are MINUTES, HOURS:MINUTES:SECONDS and DAYS-HOURS" >&2; exit 2; }

root=$(cd "$(dirname "$0")/.." && pwd)
# Since SLURM 22.05, srun does not inherit --cpus-per-task from sbatch.  --gpu-bind=none overrides a
# default of some clusters with which a task sees only one GPU.
batch=$(cat <<END
#!/bin/bash
#SBATCH --job-name=lumiere
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=$gpus
#SBATCH --gpus-per-node=$gpus
#SBATCH --cpus-per-task=$cpus
#SBATCH --time=$time
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@$notice
cd ${root@Q} || exit 2
stopped=
trap 'stopped=1; kill -USR1 \$run' USR1
first=.slurm_\${SLURM_JOB_ID}_\${SLURM_RESTART_COUNT:-0}
srun --kill-on-bad-exit=1 --cpus-per-task=$cpus --gpu-bind=none launch/slurm_task.sh "\$first" .venv/bin/python $script ${*@Q} &
run=\$!
wait \$run; status=\$?
if [[ \$stopped ]]; then wait \$run; status=\$?; fi
if ((status)) && [[ -e \$first ]]; then status=\$(<"\$first"); fi
rm -f "\$first"
if ((status == 0)) && [[ \$stopped ]]; then exec scontrol requeue \$SLURM_JOB_ID; fi
if ((status == 75 || status >= 128 && status != 130)) && ((\${SLURM_RESTART_COUNT:-0} < 100)); then exec scontrol requeue \$SLURM_JOB_ID; fi
exit \$status
END
)
if [[ $dry ]]; then
  echo "sbatch $sbatch <<'END'"
  echo "$batch"
  echo END
else
  # shellcheck disable=SC2086 # options are words
  sbatch $sbatch <<<"$batch"
fi
