"""What Kubernetes and JobSet take of the fields that `launch/gke.sh` writes.

From the types of JobSet v1alpha2 (api/jobset/v1alpha2/jobset_types.go, release 0.10) and the API
reference of Kubernetes 1.31: Job v1 batch, Pod v1 core.  A `!` is behind what is required.
"""

import re
from collections.abc import Iterator

LABEL = re.compile(r'[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?')
KEY = re.compile(r'([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?')
PATH = re.compile(r'/.+')
PORT = range(1, 2**16)
COUNT = range(2**31)
EXIT = range(1, 256)  # 0 is not allowed in a rule

_CONTAINER = {
  'name!': LABEL,
  'image!': str,
  'command': [str],
  'args': [str],
  'env': [{'name!': re.compile(r'[A-Za-z_]\w*'), 'value': str}],
  'ports': [{'containerPort!': PORT}],
  'resources': {'limits': {KEY: COUNT}},
  'volumeMounts': [{'name!': LABEL, 'mountPath!': PATH}],
}
_POD = {
  'restartPolicy': ('Always', 'OnFailure', 'Never'),
  'terminationGracePeriodSeconds': COUNT,
  'hostNetwork': bool,
  'dnsPolicy': ('ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'),
  'nodeSelector': {KEY: re.compile(r'[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?')},
  'tolerations': [
    {
      'key': KEY,
      'operator': ('Exists', 'Equal'),
      'value': str,
      'effect': ('NoSchedule', 'PreferNoSchedule', 'NoExecute'),
    }
  ],
  'containers!': [_CONTAINER],
  'volumes': [
    {
      'name!': LABEL,
      'persistentVolumeClaim': {'claimName!': str},
      'emptyDir': {'medium': ('', 'Memory')},
      'hostPath': {'path!': PATH},
    }
  ],
}
_METADATA = {'annotations': {KEY: str}}
_JOB = {
  'parallelism': COUNT,
  'completions': COUNT,
  'completionMode': ('NonIndexed', 'Indexed'),
  'backoffLimit': COUNT,
  'podFailurePolicy': {
    'rules!': [
      {
        'action!': ('FailJob', 'FailIndex', 'Ignore', 'Count'),
        'onExitCodes': {
          'containerName': LABEL,
          'operator!': ('In', 'NotIn'),
          'values!': [EXIT],
        },
      }
    ]
  },
  'template!': {'metadata': _METADATA, 'spec!': _POD},
}
JOB_SET = {
  'apiVersion!': ('jobset.x-k8s.io/v1alpha2',),
  'kind!': ('JobSet',),
  'metadata!': {'name!': LABEL} | _METADATA,
  'spec!': {
    'failurePolicy': {
      'maxRestarts': COUNT,
      'rules': [
        {
          'name!': re.compile(r'[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?'),
          'action!': ('FailJobSet', 'RestartJobSet', 'RestartJobSetAndIgnoreMaxRestarts'),
          'onJobFailureReasons': [
            (
              'BackoffLimitExceeded',
              'DeadlineExceeded',
              'FailedIndexes',
              'MaxFailedIndexesExceeded',
              'PodFailurePolicy',
            )
          ],
        }
      ],
    },
    'network': {'enableDNSHostnames': bool},
    'replicatedJobs!': [
      {'name!': LABEL, 'replicas': COUNT, 'template!': {'spec!': _JOB}},
    ],
  },
}


def problems(value, schema=JOB_SET, path='') -> Iterator[str]:
  """What is not as the schema says: a type, one of some words or numbers, a whole match of an
  expression, a list of one kind, or fields by name."""
  if isinstance(schema, dict) and isinstance(value, dict):
    yield from _problems_of_fields(value, schema, path)
  elif isinstance(schema, list) and isinstance(value, list):
    for i, each in enumerate(value):
      yield from problems(each, schema[0], f'{path}[{i}]')
  elif isinstance(schema, type):
    if type(value) is not schema:
      yield f'{path} is {value!r}, no {schema.__name__}'
  elif isinstance(schema, re.Pattern):
    if not (isinstance(value, str) and schema.fullmatch(value)):
      yield f'{path} is {value!r}'
  elif isinstance(schema, range):
    if type(value) is not int or value not in schema:
      yield f'{path} is {value!r}'
  elif not isinstance(schema, tuple) or value not in schema:
    yield f'{path} is {value!r}'


def _problems_of_fields(value, schema, path):
  (key, *_) = schema
  if isinstance(key, re.Pattern):  # any names
    for name, each in value.items():
      yield from problems(name, key, f'a key of {path}')
      yield from problems(each, schema[key], f'{path}.{name}')
    return
  known = {name.removesuffix('!'): each for name, each in schema.items()}
  for name in schema:
    if name.endswith('!') and name[:-1] not in value:
      yield f'{path} lacks {name[:-1]}'
  for name, each in value.items():
    if name in known:
      yield from problems(each, known[name], f'{path}.{name}')
    else:
      yield f'{path} has no field {name}'
