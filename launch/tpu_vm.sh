#!/usr/bin/env bash
# Trains on a slice of Cloud TPU VMs, one process on each of its workers, which find each other.
#
#   launch/tpu_vm.sh [--dry_run] --name=TPU --zone=ZONE [--project=PROJECT] [--folder=lumiere] -- ARGUMENTS OF train.py
#
# --folder is that of a clone on every worker, where `make install` has run, and the TPU's JAX is
# installed.  The workdir has to be one that all workers see: of Filestore or NFS, or of a bucket that
# Cloud Storage FUSE has mounted.  The bucket needs hierarchical namespace, or else folders are not
# renamed at once, which makes a checkpoint whole; it is given when a bucket is made:
#
#   gcloud storage buckets create gs://BUCKET --location=REGION --uniform-bucket-level-access --enable-hierarchical-namespace
#
# launch/tpu_worker.sh, which this calls on every worker, looks at that, and starts what a watchdog
# ended (75), was killed or lost a peer (128 and more) again.
set -euo pipefail

name= zone= project= folder=lumiere dry=
while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --folder=*) folder=${1#*=} ;;
    --dry_run) dry=1 ;;
    --) shift; break ;;
    *) echo "error: $1 is unknown; allowed are --dry_run, --name, --zone, --project, --folder, and train.py's arguments after --" >&2; exit 2 ;;
  esac
  shift
done
[[ $name && $zone ]] || { echo 'error: --name and --zone are needed' >&2; exit 2; }
(($#)) || { echo "error: train.py's arguments are needed, after --" >&2; exit 2; }

command=(gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all)
[[ $project ]] && command+=(--project="$project")
command+=(--command="cd ${folder@Q} && exec launch/tpu_worker.sh ${*@Q}")
if [[ $dry ]]; then
  echo "${command[@]@Q}"
else
  exec "${command[@]}"
fi
