#!/usr/bin/env bash
# One task of launch/slurm.sh.
#
#   launch/slurm_task.sh FIRST COMMAND...
#
# Its exit status is the command's.  The first task to fail writes its status to the file FIRST, and a
# task that fails by a user's mistake (2) always does.  This is needed because srun then ends the other
# tasks with signals and returns the highest status, so that a mistake would look like a killed process
# (137), and the job would be requeued forever.
first=$1
shift
"$@" &
run=$!
# SLURM sends signals to this script, and not to its child.
trap 'kill -USR1 $run' USR1
trap 'kill -TERM $run' TERM
# A signal ends `wait`, but not the command.
while kill -0 $run 2>/dev/null; do wait $run; done
wait $run
status=$?
if ((status == 2)); then
  echo 2 >"$first"
elif ((status)) && [[ ! -e $first ]]; then
  (set -o noclobber; echo $status >"$first")
fi
exit $status
