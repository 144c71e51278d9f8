#!/usr/bin/env bash
# One task of launch/slurm.sh.
#
#   launch/slurm_task.sh FIRST COMMAND...
#
# Its exit status is the command's.  The first task to fail writes its own to the file FIRST, and one
# that ends by a mistake of the user (2) does in any case.  For srun ends the others with signals and
# says the highest status of all, so that a mistake would look like a process that was killed (137),
# and be tried again for ever.
first=$1
shift
"$@" &
run=$!
# SLURM signals the task alone, and not what the task has started.
trap 'kill -USR1 $run' USR1
trap 'kill -TERM $run' TERM
# A signal ends `wait`, and not the command.
while kill -0 $run 2>/dev/null; do wait $run; done
wait $run
status=$?
if ((status == 2)); then
  echo 2 >"$first"
elif ((status)) && [[ ! -e $first ]]; then
  (set -o noclobber; echo $status >"$first")
fi
exit $status
