"""Every process of every slice that the documents name gets as far as its first batch.

The set-up of `train.py` is walked on devices that are not there: their mesh, the rows that each
process brings, its loader, its evaluation batch, and what it puts on which device.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import t2i
from core.sharding import filled, make_mesh, over_batch, put_batch, require_batch, rows
from data.pipeline import batches
from tests.chips import devices_of
from tests.conftest import ROOT
from training.samples import videos_at_once
from training.validation import evaluation_rows

DOCUMENTS = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md'), *(ROOT / 'launch').iterdir()]
_NAME = re.compile(r'\b(?:tpu-)?((?:\d+x)?v\d\w*)(?:-slice)?:(\d+(?:x\d+)+)')
NAMED = {':'.join(parts) for path in DOCUMENTS for parts in _NAME.findall(path.read_text('utf-8'))}
# Of every generation, and several slices.
ALSO = {
  'v4:2x2x4', 'v4:4x4x4', 'v5e:4x4', 'v5e:2x4', 'v5p:2x2x2', 'v6e:4x4', 'v6e:16x16', 'v7x:2x2x2',
  'v7x:4x4x4', '2xv5p:2x2x2', '4xv6e:4x4',
}  # fmt: skip
MESHES = {
  'default': (('data', -1), ('fsdp', 1)),
  'paper': (('data', 1), ('fsdp', -1)),
  'shared by 2': (('data', 1), ('fsdp', -1), ('time', 2)),
  'shared by 8': (('data', -1), ('time', 8)),
}


def meshes():
  """Pairs of a slice and the axes of a mesh that it has room for."""
  for name in sorted(NAMED | ALSO):
    slices, count = int((re.match(r'(\d+)x', name) or ['', '1'])[1]), len(devices_of(name))
    for kind, axes in MESHES.items():
      sizes = dict(axes)
      if slices > 1 and sizes['data'] == 1:
        axes = (('data', slices), *axes[1:])
      if count // sizes.get('time', 1) >= slices:
        yield pytest.param(name, axes, id=f'{name} {kind}')


class Numbers:
  """Clips whose only pixel is their number."""

  def __len__(self):
    return 4096

  def __getitem__(self, i):
    return {'video': np.full((1, 1, 1, 3), i % 251, np.uint8), 'caption': str(i)}


def encode(captions):
  return np.array([[[float(c)]] for c in captions], np.float32), np.ones((len(captions), 1), bool)


@pytest.fixture
def as_process(monkeypatch):
  """Makes this process one of many; `as_process.put` has what it would put on each device."""

  def put(shape, sharding, of_device):
    indices = sharding.devices_indices_map(shape).items()
    mine = {d.id: i for d, i in indices if d.process_index == as_process.number}
    as_process.put = {d: (i[0].indices(shape[0]), of_device(i)) for d, i in mine.items()}
    return jnp.zeros(())

  def as_process(number):
    as_process.number = number

  monkeypatch.setattr(jax, 'process_index', lambda: as_process.number)
  monkeypatch.setattr(jax, 'make_array_from_callback', put)
  return as_process


def first(batch, seed, mine=None):
  data = batches(Numbers(), encode, batch=batch, seed=seed, rows=mine, shuffle=False)
  try:
    return next(data)
  finally:
    data.close()


@pytest.mark.parametrize(('name', 'axes'), list(meshes()))
def test_every_process_puts_the_rows_of_its_devices_on_them(as_process, name, axes):
  devices = devices_of(name)
  mesh, config = make_mesh(axes, devices), t2i.get_config('tiny')
  config.mesh = axes
  n = mesh.size // mesh.shape['time']
  clips, trained, on = config.evaluate_batch, 2 * n, {}
  require_batch(trained, mesh)
  assert videos_at_once(config, mesh) % n == 0
  whole, fixed = first(trained, 0), first(clips, 1)
  for process in sorted({d.process_index for d in devices}):
    as_process(process)
    mine, few = rows(trained, mesh), evaluation_rows(clips, mesh)
    assert len(mine) == len(set(mine))
    put = []
    for batch in (first(trained, 0, mine), first(clips, 1, few)):
      put_batch({'text': batch['text']}, mesh)
      put.append(as_process.put)
    for device in put[0]:
      assert device not in on
      on[device] = put[0][device], put[1][device]
  assert on.keys() == {d.id for d in devices}

  size = filled(clips, mesh)
  for batch, count, which in ((whole, trained, 0), (fixed, size, 1)):
    want = batch['text'][np.arange(count) % len(batch['text'])]
    indices = over_batch(mesh).devices_indices_map((count,))
    for device, (index,) in indices.items():
      (start, stop, step), got = on[device.id][which]
      assert range(start, stop, step) == range(*index.indices(count))
      np.testing.assert_array_equal(got, want[index])


def test_a_process_of_the_paper_has_rows_that_do_not_follow_each_other(as_process):
  mesh = make_mesh(MESHES['paper'], devices_of('v5p:4x4x8'))
  as_process(0)
  assert rows(128, mesh) == [0, 8, 32, 40]
  assert rows(256, mesh) == [0, 1, 16, 17, 64, 65, 80, 81]


def test_all_slices_of_the_documents_are_walked():
  assert {'v5p:4x4x8', 'v5p:2x2x1', 'v5p:2x2x4', 'v6e:16x16', '2xv5p:4x4x8'} <= NAMED
