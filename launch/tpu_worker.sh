#!/usr/bin/env bash
# Trains on one worker of a slice of Cloud TPU VMs: launch/tpu_vm.sh calls it on all of them.
#
#   launch/tpu_worker.sh ARGUMENTS OF train.py
#
# A run that a watchdog ended (75), that was killed or lost a peer (128 and more, but for Ctrl-C, 130)
# is started again, but not after five in a row that lasted less than ten minutes each: where another
# worker does not start, there would be no end to that.
fail() { echo "error: $1" >&2; exit 2; }

workdir= before=
for argument; do
  case $before in --workdir | -workdir) workdir=$argument ;; esac
  case $argument in --workdir=* | -workdir=*) workdir=${argument#*=} ;; esac
  before=$argument
done
# What is there of it already tells where it would be.
folder=$workdir
while [[ $folder && ! -e $folder ]]; do
  [[ $folder == */* ]] && folder=${folder%/*} || folder=.
done
folder=${folder:-/}
if [[ $(findmnt -n -o FSTYPE -T "$folder") == fuse.gcsfuse ]]; then
  bucket=$(findmnt -n -o SOURCE -T "$folder")
  bucket=${bucket%%/*}  # a folder of it may be mounted
  format='value(hierarchical_namespace.enabled)'
  hierarchical=$(gcloud storage buckets describe "gs://$bucket" --format="$format") ||
    fail "it can't be said whether gs://$bucket, where --workdir is, has hierarchical namespace"
  [[ $hierarchical == True ]] ||
    fail "--workdir=$workdir is in gs://$bucket, which has no hierarchical namespace: checkpoints would not be whole.  See launch/tpu_vm.sh"
fi

short=0
while :; do
  began=$SECONDS
  .venv/bin/python train.py --coordinator=auto "$@"
  status=$?
  ((status == 75 || status >= 128 && status != 130)) || exit $status
  ((SECONDS - began < 600)) && short=$((short + 1)) || short=0
  ((short < 5)) || exit $status
  sleep 10
done
