#!/usr/bin/env bash
# Trains or samples on Google Kubernetes Engine as a JobSet, with one process on each TPU host or GPU node.
#
#   launch/gke.sh [--dry_run] --name=NAME --image=IMAGE --tpu=tpu-v5p-slice:4x4x4 --hosts=16 [--slices=2] [--chips=4] [--claim=CLAIM] [--restarts=100] [--script=train.py] -- ARGUMENTS OF THE SCRIPT
#   launch/gke.sh [--dry_run] --name=NAME --image=IMAGE --gpu=nvidia-h200-141gb --hosts=2 [--rdma=rdma-0,rdma-1] [--chips=8] [--claim=CLAIM] [--restarts=100] [--script=train.py] -- ARGUMENTS OF THE SCRIPT
#
# --script is train.py, sample.py or evaluate.py; the last two make each video on all hosts together.
# --hosts is the number of hosts in a slice.  Each TPU slice needs its own node pool.  GPU nodes
# communicate through their host network or, if --rdma names the RDMA networks of the cluster (A3
# Ultra, A4), through those, with NCCL's plugin gIB.
#
# --claim is a PersistentVolumeClaim that all hosts can write to, mounted at /workdir.  It must be of
# Filestore, NFS, or a Cloud Storage bucket with hierarchical namespace, because a checkpoint is
# completed by renaming its folder, which other buckets don't do atomically.
#
# If a host fails, all of them restart from the latest checkpoint, up to --restarts times.  Failures
# are a lost node, an eviction (the run has 120 s to save), the watchdog (status 75), and a signal (128
# or more).  Any other exit status, such as 2 for a user's mistake, ends the JobSet, since it would
# occur again.  The cluster needs JobSet 0.6 or newer.
set -euo pipefail

name= image= tpu= gpu= hosts= chips= slices=1 rdma= restarts=100 claim=lumiere script=train.py dry=
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
    --script=*) script=${1#*=} ;;
    --restarts=*) restarts=${1#*=} ;;
    --dry_run) dry=1 ;;
    --) shift; break ;;
    *) echo "error: $1 is unknown; allowed are --dry_run, --name, --image, --tpu, --gpu, --hosts, --slices, --chips, --rdma, --claim, --restarts, --script, and the script's arguments after --" >&2; exit 2 ;;
  esac
  shift
done
fail() { echo "error: $1" >&2; exit 2; }
[[ $name && $image && $hosts ]] || fail '--name, --image and --hosts are needed'
[[ ($tpu && ! $gpu) || ($gpu && ! $tpu) ]] || fail 'one of --tpu=KIND:TOPOLOGY and --gpu=KIND is needed'
[[ $script =~ ^(train|sample|evaluate)\.py$ ]] || fail "got --script=$script; allowed are train.py, sample.py and evaluate.py"
(($#)) || fail "the arguments of $script are needed, after --"
[[ $tpu ]] && : "${chips:=4}" || : "${chips:=8}"
label='^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$'  # the name of a pod is longer, and has at most 63 letters
[[ ! $tpu || $tpu =~ ^[a-z0-9-]+:[0-9]+(x[0-9]+){1,2}$ ]] || fail "got --tpu=$tpu; allowed is KIND:TOPOLOGY, as in tpu-v5p-slice:4x4x4"
[[ $name =~ $label ]] || fail "got --name=$name; allowed are up to 40 of a-z, 0-9 and -"
[[ $claim =~ $label ]] || fail "got --claim=$claim; allowed are up to 40 of a-z, 0-9 and -"
[[ $image =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] || fail "got --image=$image; it is not the name of an image"
[[ $gpu =~ ^[a-z0-9-]*$ ]] || fail "got --gpu=$gpu; allowed is an accelerator of GKE, such as nvidia-h200-141gb"
[[ $rdma =~ ^([a-z0-9-]+(,[a-z0-9-]+)*)?$ ]] || fail "got --rdma=$rdma; allowed are names of networks, as in rdma-0,rdma-1"
for number in hosts slices chips restarts; do
  [[ ${!number} =~ ^[1-9][0-9]{0,4}$ ]] || fail "got --$number=${!number}; allowed is a number of 1 or more"
done
if [[ $tpu ]]; then
  [[ ! $rdma ]] || fail '--rdma is for GPUs'
  topology=${tpu#*:} all=$((${topology//x/ * }))
  ((slices == 1 || hosts > 1)) || fail '--slices needs --hosts of 2 or more'
  ((all == hosts * chips)) || fail "got --hosts=$hosts with --chips=$chips; a slice of $topology has $all chips"
else
  ((slices == 1)) || fail '--slices is for TPUs'
fi

# Kubernetes expands $(NAME), and turns two dollars into one.
arguments=${*@Q} arguments=${arguments//'$'/'$$'}
begin= network= pod_annotations= env= mounts= volumes=
if [[ $tpu ]]; then
  kind=google.com/tpu
  # The ports of libtpu, its metrics, JAX's coordinator, and the coordinator between slices.
  ports='8471 8431 8482'
  annotations="
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool"
  selector="cloud.google.com/gke-tpu-accelerator: ${tpu%%:*}
              cloud.google.com/gke-tpu-topology: $topology"
  # A webhook of GKE sets environment variables that identify each process and slice.
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
                .venv/bin/python $script $arguments &
                run=\$!
                wait \$run; status=\$?
                if [[ \$stopped ]]; then wait \$run; status=\$?; fi
                # Otherwise a host that saved on its eviction would count as finished.
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
