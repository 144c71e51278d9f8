#!/usr/bin/env bash
# Trains or samples on a slice of Cloud TPU VMs, with one process on each worker; the processes find each other.
#
#   launch/tpu_vm.sh [--dry_run] --name=TPU --zone=ZONE [--project=PROJECT] [--folder=lumiere] [--script=train.py] -- ARGUMENTS OF THE SCRIPT
#
# --script is train.py, sample.py or evaluate.py; the last two make each video on all workers together.
# --folder is a clone on every worker in which `make install` has run and JAX for TPUs is installed.
# All workers must see the workdir: it is on Filestore or NFS, or in a bucket that is mounted by Cloud
# Storage FUSE.  The bucket needs hierarchical namespace, because a checkpoint is completed by renaming
# its folder, which other buckets don't do atomically.  It must be chosen when a bucket is created:
#
#   gcloud storage buckets create gs://BUCKET --location=REGION --uniform-bucket-level-access --enable-hierarchical-namespace
#
# This script calls launch/tpu_worker.sh on every worker, which checks the bucket, and restarts what
# was ended by its watchdog (75), was killed, or lost a peer (128 or more).
set -euo pipefail

name= zone= project= folder=lumiere script=train.py dry=
while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --folder=*) folder=${1#*=} ;;
    --script=*) script=${1#*=} ;;
    --dry_run) dry=1 ;;
    --) shift; break ;;
    *) echo "error: $1 is unknown; allowed are --dry_run, --name, --zone, --project, --folder, --script, and the script's arguments after --" >&2; exit 2 ;;
  esac
  shift
done
[[ $name && $zone ]] || { echo 'error: --name and --zone are needed' >&2; exit 2; }
[[ $script =~ ^(train|sample|evaluate)\.py$ ]] || { echo "error: got --script=$script; allowed are train.py, sample.py and evaluate.py" >&2; exit 2; }
(($#)) || { echo "error: the arguments of $script are needed, after --" >&2; exit 2; }

command=(gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all)
[[ $project ]] && command+=(--project="$project")
command+=(--command="cd ${folder@Q} && exec launch/tpu_worker.sh $script ${*@Q}")
if [[ $dry ]]; then
  echo "${command[@]@Q}"
else
  exec "${command[@]}"
fi
