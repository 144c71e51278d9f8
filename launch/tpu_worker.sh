#!/usr/bin/env bash
# Trains or samples on one worker of a slice of Cloud TPU VMs: launch/tpu_vm.sh calls it on all of them.
#
#   launch/tpu_worker.sh SCRIPT ARGUMENTS OF THE SCRIPT
#
# A run is restarted if it was ended by its watchdog (75), was killed, or lost a peer (128 or more,
# except 130 for Ctrl-C).  After five runs in a row of less than ten minutes, it is not restarted any
# more: another worker may be unable to start.
fail() { echo "error: $1" >&2; exit 2; }

script=$1
shift
workdir= before=
for argument; do
  case $before in --workdir | -workdir) workdir=$argument ;; esac
  case $argument in --workdir=* | -workdir=*) workdir=${argument#*=} ;; esac
  before=$argument
done
# The deepest folder that exists shows on which file system the workdir will be.
folder=$workdir
while [[ $folder && ! -e $folder ]]; do
  [[ $folder == */* ]] && folder=${folder%/*} || folder=.
done
folder=${folder:-/}
if [[ $script == train.py && $(findmnt -n -o FSTYPE -T "$folder") == fuse.gcsfuse ]]; then
  bucket=$(findmnt -n -o SOURCE -T "$folder")
  bucket=${bucket%%/*}  # only a folder of it may be mounted
  format='value(hierarchical_namespace.enabled)'
  hierarchical=$(gcloud storage buckets describe "gs://$bucket" --format="$format") ||
    fail "cannot find out whether gs://$bucket, which contains --workdir, has hierarchical namespace"
  [[ $hierarchical == True ]] ||
    fail "--workdir=$workdir is in gs://$bucket, which has no hierarchical namespace: checkpoints could be incomplete.  See launch/tpu_vm.sh"
fi

short=0
while :; do
  began=$SECONDS
  .venv/bin/python "$script" --coordinator=auto "$@"
  status=$?
  ((status == 75 || status >= 128 && status != 130)) || exit $status
  ((SECONDS - began < 600)) && short=$((short + 1)) || short=0
  ((short < 5)) || exit $status
  sleep 10
done
