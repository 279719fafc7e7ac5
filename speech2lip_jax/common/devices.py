"""The devices that JAX found: what they are, and laying arrays out for pmap over those of this process."""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from speech2lip_jax.common.cores import cores
from speech2lip_jax.common.errors import InputError

CUDA_13_DRIVER = 580  # the first NVIDIA driver for CUDA 13


def _counted(count: int, what: str) -> str:
  return f'{count} {what}{"" if count == 1 else "s" if not what.endswith("s") else "es"}'


def described() -> str:
  """The processes and devices of this run: '2 processes, 16 × NVIDIA H100', or '1 process, 1 CPU device (2 cores)'."""
  devices = jax.devices()
  processes = _counted(jax.process_count(), 'process')
  if devices[0].platform != 'cpu':
    return f'{processes}, {len(devices)} × {devices[0].device_kind}'
  return f'{processes}, {_counted(len(devices), "CPU device")} ({_counted(cores(), "core")})'


def nvidia_driver(root: str = '/') -> int | None:
  """The major version of the NVIDIA driver, 0 where there is a card but no telling, or None without one."""
  version = pathlib.Path(root, 'proc/driver/nvidia/version')
  if version.is_file() and (found := re.search(r'\b(\d{3,})\.\d+', version.read_text())):
    return int(found[1])
  if program := shutil.which('nvidia-smi'):
    try:
      told = subprocess.run([program, '--query-gpu=driver_version', '--format=csv,noheader'], capture_output=True, text=True,
                            timeout=10, check=True).stdout
      return int(told.split('.')[0])
    except (OSError, subprocess.SubprocessError, ValueError):
      pass  # it is installed where there is no card or driver, too
  return 0 if pathlib.Path(root, 'dev/nvidia0').exists() else None


def missing_plugin(root: str = '/') -> str | None:
  """One line on an accelerator that this machine has and JAX, which runs on the CPU, does not use; None if there is none."""
  if jax.default_backend() != 'cpu' or 'cpu' in os.environ.get('JAX_PLATFORMS', '').split(','):
    return None  # the CPU may be asked for
  driver = nvidia_driver(root)
  if driver is not None:
    device, extra = 'an NVIDIA GPU', 'cuda13' if driver >= CUDA_13_DRIVER else 'cuda12'
  elif pathlib.Path(root, 'dev/accel0').exists() or any(name in os.environ for name in ('TPU_WORKER_ID', 'TPU_ACCELERATOR_TYPE')):
    device, extra = 'a TPU', 'tpu'
  else:
    return None
  return (f"warning: this machine has {device}, but JAX runs on the CPU: its plugin is missing or of another version; pip install "
          f"'speech2lip_jax[{extra}]', or in a checkout pip install -e '.[{extra}]'")


def announce() -> None:
  """Says on standard error, in the first process, what this run computes on, and which accelerator lies idle."""
  if jax.process_index() == 0:
    print('\n'.join(filter(None, [f'running on {described()}', missing_plugin()])), file=sys.stderr)


@contextlib.contextmanager
def memory_explained(remedy: str) -> Iterator[None]:
  """Where a device runs out of memory inside, it is told in one line with the remedy.

  Raises:
    InputError: a device's memory did not suffice.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error) and 'Out of memory' not in str(error):
      raise
    device = jax.local_devices()[0]
    raise InputError(f'{device.device_kind}: out of memory; {remedy}') from error


def most_sharing(counts: Iterable[int], num_devices: int, num_processes: int = 1) -> int:
  """The most of `num_devices`, as many in each process, by which all counts divide; 0 where the processes alone are too many."""
  counts = list(counts)
  return next((share for share in range(num_devices, 0, -num_processes) if not any(count % share for count in counts)), 0)


def first_of_each_process(count: int) -> list[jax.Device]:
  """`count` devices, as many of each process, in the order that pmap lays arrays out."""
  share = count // jax.process_count()
  return [device for process in range(jax.process_count()) for device in jax.local_devices(process_index=process)[:share]]


def connect(devices: Sequence[jax.Device]) -> None:
  """A first operation of all those devices together. CPU devices wait 30 s for each other in it, and without end in later ones."""
  share = len(devices) // jax.process_count()
  jax.block_until_ready(jax.pmap(lambda x: jax.lax.psum(x, 'device'), 'device', devices=devices)(np.ones(share, np.float32)))


def replicate(tree: Any, devices: Sequence[jax.Device] | None = None) -> Any:
  """A copy of every array on each local device: [...] → [devices, ...], on the devices.

  devices: those of `first_of_each_process`, where not all are used.
  """
  devices = jax.local_devices() if devices is None else [device for device in devices if device in jax.local_devices()]
  sharding = jax.sharding.NamedSharding(jax.sharding.Mesh(np.array(devices), ('device',)), jax.sharding.PartitionSpec('device'))
  place = lambda x: jax.device_put(np.broadcast_to(np.asarray(x), (len(devices), *np.shape(x))), sharding)
  return jax.tree.map(place, tree)


def unreplicate(tree: Any) -> Any:
  """The first local copy of every replicated array, as NumPy."""
  return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)


def shard(tree: Any, num_devices: int | None = None) -> Any:
  """Slices the first axis of every array over local devices, all if not given: [B, ...] → [devices, B / devices, ...]."""
  count = num_devices or jax.local_device_count()
  return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), tree)
