"""Laying arrays out for pmap over this process's devices: one copy on each, or one slice on each."""
import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from speech2lip_jax.common.errors import InputError


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


def replicate(tree: Any) -> Any:
  """A copy of every array on each local device: [...] → [devices, ...], on the devices."""
  devices = jax.local_devices()
  sharding = jax.sharding.NamedSharding(jax.sharding.Mesh(np.array(devices), ('device',)), jax.sharding.PartitionSpec('device'))
  place = lambda x: jax.device_put(np.broadcast_to(np.asarray(x), (len(devices), *np.shape(x))), sharding)
  return jax.tree.map(place, tree)


def unreplicate(tree: Any) -> Any:
  """The first local copy of every replicated array, as NumPy."""
  return jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], tree)


def shard(tree: Any) -> Any:
  """Slices the first axis of every array over the local devices: [B, ...] → [devices, B / devices, ...]."""
  return jax.tree.map(lambda x: x.reshape(jax.local_device_count(), -1, *x.shape[1:]), tree)
