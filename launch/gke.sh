#!/usr/bin/env bash
# Trains on Google Kubernetes Engine, as a JobSet: one process on each host of TPUs, or each node of GPUs.
#
#   launch/gke.sh [--dry_run] --name=NAME --image=IMAGE --tpu=tpu-v5p-slice:4x4x4 --hosts=16 [--slices=2] [--chips=4] [--claim=CLAIM] [--restarts=100] -- ARGUMENTS OF train.py
#   launch/gke.sh [--dry_run] --name=NAME --image=IMAGE --gpu=nvidia-h200-141gb --hosts=2 [--rdma=rdma-0,rdma-1] [--chips=8] [--claim=CLAIM] [--restarts=100] -- ARGUMENTS OF train.py
#
# --hosts are of a slice.  Each slice of TPUs has a node pool to itself.  Nodes of GPUs speak to each
# other by the network of their host or, where --rdma names the RDMA networks of the cluster (A3 Ultra,
# A4), by those, with NCCL's plugin gIB.
#
# --claim is a PersistentVolumeClaim that all hosts can write, mounted at /workdir: of Filestore or NFS,
# or of a Cloud Storage bucket with hierarchical namespace.  Others do not rename folders at once, which
# makes a checkpoint whole.
#
# Whatever ends a host restarts all of them from the latest checkpoint, up to --restarts times: a node
# that is gone, an eviction (a run has 120 s, and saves), a watchdog (75), a signal (128 and more).  Any
# other exit status, as 2 for a mistake of yours, ends the JobSet, since it would only come again.
# JobSet 0.6 or newer has to be in the cluster.
set -euo pipefail

name= image= tpu= gpu= hosts= chips= slices=1 rdma= restarts=100 claim=lumiere dry=
while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --tpu=*) tpu=${1#*=} ;;
    --gpu=*) gpu=${1#*=} ;;
    --hosts=*) hosts=${1#*=} ;;
    --slices=*) slices=${1#*=} ;;
    --chips=*) chips=${1#*=} ;;
    --rdma=*) rdma=${1#*=} ;;
    --claim=*) claim=${1#*=} ;;
    --restarts=*) restarts=${1#*=} ;;
    --dry_run) dry=1 ;;
    --) shift; break ;;
    *) echo "error: $1 is unknown; allowed are --dry_run, --name, --image, --tpu, --gpu, --hosts, --slices, --chips, --rdma, --claim, --restarts, and train.py's arguments after --" >&2; exit 2 ;;
  esac
  shift
done
fail() { echo "error: $1" >&2; exit 2; }
[[ $name && $image && $hosts ]] || fail '--name, --image and --hosts are needed'
[[ ($tpu && ! $gpu) || ($gpu && ! $tpu) ]] || fail 'one of --tpu=KIND:TOPOLOGY and --gpu=KIND is needed'
(($#)) || fail "train.py's arguments are needed, after --"
[[ $tpu ]] && : "${chips:=4}" || : "${chips:=8}"
label='^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$'  # a pod's name adds to it, and has 63 letters at most
[[ ! $tpu || $tpu =~ ^[a-z0-9-]+:[0-9]+(x[0-9]+){1,2}$ ]] || fail "got --tpu=$tpu; allowed is KIND:TOPOLOGY, as in tpu-v5p-slice:4x4x4"
[[ $name =~ $label ]] || fail "got --name=$name; allowed are up to 40 of a-z, 0-9 and -"
[[ $claim =~ $label ]] || fail "got --claim=$claim; allowed are up to 40 of a-z, 0-9 and -"
[[ $image =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] || fail "got --image=$image; it is no name of an image"
[[ $gpu =~ ^[a-z0-9-]*$ ]] || fail "got --gpu=$gpu; allowed is a kind of GKE, as nvidia-h200-141gb"
[[ $rdma =~ ^([a-z0-9-]+(,[a-z0-9-]+)*)?$ ]] || fail "got --rdma=$rdma; allowed are names of networks, as in rdma-0,rdma-1"
for number in hosts slices chips restarts; do
  [[ ${!number} =~ ^[1-9][0-9]{0,4}$ ]] || fail "got --$number=${!number}; allowed is a number of 1 or more"
done
if [[ $tpu ]]; then
  [[ ! $rdma ]] || fail '--rdma is of GPUs'
  topology=${tpu#*:} all=$((${topology//x/ * }))
  ((slices == 1 || hosts > 1)) || fail '--slices are of several hosts each'
  ((all == hosts * chips)) || fail "got --hosts=$hosts of $chips chips; a slice of $topology has $all chips"
else
  ((slices == 1)) || fail '--slices are of TPUs'
fi

# Kubernetes puts its own values for $(NAME), and one dollar for two.
arguments=${*@Q} arguments=${arguments//'$'/'$$'}
begin= network= pod_annotations= env= mounts= volumes=
if [[ $tpu ]]; then
  kind=google.com/tpu
  # The ports of libtpu, of its metrics, of JAX's coordinator, and of that between slices.
  ports='8471 8431 8482'
  annotations="
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool"
  selector="cloud.google.com/gke-tpu-accelerator: ${tpu%%:*}
              cloud.google.com/gke-tpu-topology: $topology"
  # The webhook of GKE says in the environment who is who, in a slice and among slices.
  ((slices == 1)) || ports+=' 8080' network=host
else
  kind=nvidia.com/gpu ports=1234 annotations=
  selector="cloud.google.com/gke-accelerator: $gpu"
  arguments+=" --coordinator=$name-train-0-0.$name:1234 --num_processes=$hosts --process_id=\$JOB_COMPLETION_INDEX"
  [[ $rdma ]] || network=host
fi
if [[ $network ]]; then
  network='
            hostNetwork: true
            dnsPolicy: ClusterFirstWithHostNet'
fi
if [[ $rdma ]]; then
  interfaces='{"interfaceName":"eth0","network":"default"}' i=2
  for each in ${rdma//,/ }; do
    interfaces+=",{\"interfaceName\":\"eth$i\",\"network\":\"$each\"}"
    i=$((i + 1))
  done
  pod_annotations="
          metadata:
            annotations:
              networking.gke.io/default-interface: eth0
              networking.gke.io/interfaces: '[$interfaces]'"
  begin='source /usr/local/gib/scripts/set_nccl_env.sh
                '
  env='
              env:
              - name: LD_LIBRARY_PATH
                value: /usr/local/nvidia/lib64:/usr/local/gib/lib64'
  mounts='
              - name: nvidia
                mountPath: /usr/local/nvidia
              - name: gib
                mountPath: /usr/local/gib'
  volumes='
            - name: nvidia
              hostPath:
                path: /home/kubernetes/bin/nvidia
            - name: gib
              hostPath:
                path: /home/kubernetes/bin/gib'
fi
yaml=$(cat <<END
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name$annotations
spec:
  failurePolicy:
    maxRestarts: $restarts
    rules:
    - name: only_again
      action: FailJobSet
      onJobFailureReasons: [PodFailurePolicy]
  network:
    enableDNSHostnames: true
  replicatedJobs:
  - name: train
    replicas: $slices
    template:
      spec:
        parallelism: $hosts
        completions: $hosts
        completionMode: Indexed
        backoffLimit: 0
        podFailurePolicy:
          rules:
          - action: FailJob
            onExitCodes:
              containerName: train
              operator: In
              values: [$(seq -s, 1 74),$(seq -s, 76 127),130]
        template:$pod_annotations
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 120$network
            nodeSelector:
              $selector
            tolerations:
            - key: $kind
              operator: Exists
              effect: NoSchedule
            containers:
            - name: train
              image: $image
              ports:$(printf '\n              - containerPort: %s' $ports)
              command: [bash, -c]
              args:
              - |
                ${begin}trap 'stopped=1; kill -TERM \$run' TERM
                .venv/bin/python train.py $arguments &
                run=\$!
                wait \$run; status=\$?
                if [[ \$stopped ]]; then wait \$run; status=\$?; fi
                # Else a host that was evicted, and saved, would count as one that is done.
                if [[ \$stopped && \$status == 0 ]]; then status=143; fi
                exit \$status$env
              resources:
                limits:
                  $kind: $chips
              volumeMounts:
              - name: workdir
                mountPath: /workdir
              - name: shared-memory
                mountPath: /dev/shm$mounts
            volumes:
            - name: workdir
              persistentVolumeClaim:
                claimName: $claim
            - name: shared-memory
              emptyDir:
                medium: Memory$volumes
END
)
if [[ $dry ]]; then
  echo "$yaml"
else
  kubectl apply -f - <<<"$yaml"
fi
