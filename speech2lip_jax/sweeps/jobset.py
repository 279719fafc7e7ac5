"""A sweep's trials as an indexed JobSet of Kubernetes: one pod a trial, written as a manifest for `kubectl apply`."""
import re
import shlex
from collections.abc import Sequence
from typing import Any

import yaml

GRACE_S = 60  # s that a pod has to write a checkpoint before it is killed

# For a POSIX shell. As a container's first process it would keep SIGTERM from training.
# A wait that the signal ends does not give the child's status, which the next one gives, even where the child has ended meanwhile.
_SCRIPT = """run() {
  [ "$asked" ] && return 143
  "$@" & child=$!
  wait $child; code=$?
  while [ "$again" ] && [ $code -gt 128 ]; do again=; wait $child; code=$?; done
  return $code
}
trap 'asked=1; again=1; kill -TERM $child' TERM
case "$JOB_COMPLETION_INDEX" in
%s
esac
"""


def script(jobs: Sequence[list[list[str]]]) -> str:
  """What every pod runs: the commands of the trial of its index, each after the one before it has succeeded."""
  together = lambda argvs: ' && '.join(f'run {shlex.join(argv)}' for argv in argvs)
  return _SCRIPT % '\n'.join(f'  {i}) {together(argvs)} ;;' for i, argvs in enumerate(jobs))


def manifest(name: str, jobs: Sequence[list[list[str]]], at_once: int, image: str, claim: str, mount: str, gpus: int) -> str:
  """The YAML of a JobSet.

  A pod that is evicted or fails is started anew up to three times, and its trial goes on from its newest checkpoint.

  Args:
    name: of the sweep; made a DNS label.
    jobs: the commands of each trial.
    at_once: pods at one time.
    image: of the containers, with this package in it.
    claim: the PersistentVolumeClaim of the disk that holds subject and workdir, readable and writable by many pods.
    mount: where that disk is, in the pods as in the commands.
    gpus: of each pod; 0: none.
  """
  label = re.sub(r'[^a-z0-9-]+', '-', name.lower()).strip('-')[:40] or 'sweep'
  container: dict[str, Any] = {
      'name': 'trial', 'image': image, 'command': ['sh', '-c', script(jobs)],
      'volumeMounts': [{'name': 'disk', 'mountPath': mount}]}
  if gpus:
    container['resources'] = {'limits': {'nvidia.com/gpu': gpus}}
  pod = {'restartPolicy': 'Never', 'terminationGracePeriodSeconds': GRACE_S, 'containers': [container],
         'volumes': [{'name': 'disk', 'persistentVolumeClaim': {'claimName': claim}}]}
  job = {'completionMode': 'Indexed', 'completions': len(jobs), 'parallelism': min(at_once, len(jobs)),
         'backoffLimitPerIndex': 3, 'maxFailedIndexes': len(jobs), 'template': {'spec': pod}}
  jobset = {'apiVersion': 'jobset.x-k8s.io/v1alpha2', 'kind': 'JobSet', 'metadata': {'name': label},
            'spec': {'replicatedJobs': [{'name': 'trials', 'replicas': 1, 'template': {'spec': job}}]}}
  return yaml.safe_dump(jobset, sort_keys=False, width=1000)
