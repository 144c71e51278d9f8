#!/usr/bin/env bash
# Trains on Google Kubernetes Engine, as a JobSet: one process on each host of TPUs, or each node of GPUs.
#
#   launch/gke.sh [--dry_run] --name=NAME --image=IMAGE --tpu=tpu-v5p-slice:4x4x4 --hosts=16 [--chips=4] [--claim=CLAIM] -- ARGUMENTS OF train.py
#   launch/gke.sh [--dry_run] --name=NAME --image=IMAGE --gpu=nvidia-h100-80gb --hosts=2 [--chips=8] [--claim=CLAIM] -- ARGUMENTS OF train.py
#
# --claim is a PersistentVolumeClaim that all hosts can write, mounted at /workdir.  A host that goes
# away restarts all of them, from the latest checkpoint.  On eviction a run has 120 s, and saves.
set -euo pipefail

name= image= tpu= gpu= hosts= chips= claim=lumiere dry=
while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --tpu=*) tpu=${1#*=} ;;
    --gpu=*) gpu=${1#*=} ;;
    --hosts=*) hosts=${1#*=} ;;
    --chips=*) chips=${1#*=} ;;
    --claim=*) claim=${1#*=} ;;
    --dry_run) dry=1 ;;
    --) shift; break ;;
    *) echo "error: $1 is unknown; allowed are --dry_run, --name, --image, --tpu, --gpu, --hosts, --chips, --claim, and train.py's arguments after --" >&2; exit 2 ;;
  esac
  shift
done
[[ $name && $image && $hosts ]] || { echo 'error: --name, --image and --hosts are needed' >&2; exit 2; }
[[ ($tpu && ! $gpu) || ($gpu && ! $tpu) ]] || { echo 'error: one of --tpu=KIND:TOPOLOGY and --gpu=KIND is needed' >&2; exit 2; }
[[ ! $tpu || $tpu == *:* ]] || { echo "error: got --tpu=$tpu; allowed is KIND:TOPOLOGY, as in tpu-v5p-slice:4x4x4" >&2; exit 2; }
(($#)) || { echo "error: train.py's arguments are needed, after --" >&2; exit 2; }

arguments=${*@Q}
if [[ $tpu ]]; then
  resource=google.com/tpu chips=${chips:-4}
  selector="cloud.google.com/gke-tpu-accelerator: ${tpu%%:*}
              cloud.google.com/gke-tpu-topology: ${tpu#*:}"
else
  resource=nvidia.com/gpu chips=${chips:-8}
  selector="cloud.google.com/gke-accelerator: $gpu"
  # Of TPUs the environment tells who is who; of GPUs the JobSet's names do.
  arguments+=" --coordinator=$name-train-0-0.$name:1234 --num_processes=$hosts --process_id=\$JOB_COMPLETION_INDEX"
fi
yaml=$(cat <<END
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
spec:
  failurePolicy:
    maxRestarts: 1000
  network:
    enableDNSHostnames: true
  replicatedJobs:
  - name: train
    replicas: 1
    template:
      spec:
        parallelism: $hosts
        completions: $hosts
        completionMode: Indexed
        backoffLimit: 0
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 120
            nodeSelector:
              $selector
            containers:
            - name: train
              image: $image
              ports:
              - containerPort: 1234
              - containerPort: 8471
              command: [bash, -c]
              args:
              - |
                exec .venv/bin/python train.py $arguments
              resources:
                limits:
                  $resource: $chips
              volumeMounts:
              - name: workdir
                mountPath: /workdir
              - name: shared-memory
                mountPath: /dev/shm
            volumes:
            - name: workdir
              persistentVolumeClaim:
                claimName: $claim
            - name: shared-memory
              emptyDir:
                medium: Memory
END
)
if [[ $dry ]]; then
  echo "$yaml"
else
  kubectl apply -f - <<<"$yaml"
fi
