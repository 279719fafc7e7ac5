"""SyncNet's weights in the golden files: 16.4 million, made from a rule instead of stored."""
import functools

import numpy as np

from tests import goldens


@functools.cache
def state() -> dict[str, np.ndarray]:
  """The torch state dict {name: float32 array}.

  Each tensor is offset + scale · (random integers −levels … levels), drawn by NumPy's legacy generator, whose stream is
  fixed. The running statistics are stored, and overlay it.
  """
  weights = {}
  for rule in goldens.load_json('syncnet_params'):
    levels = rule['levels']
    drawn = np.random.RandomState(rule['seed']).randint(-levels, levels + 1, size=rule['shape'])  # noqa: NPY002
    weights[rule['name']] = np.asarray(rule['offset'] + rule['scale'] * drawn, np.float32)
  return weights | goldens.weights('syncnet_bn_stats')
