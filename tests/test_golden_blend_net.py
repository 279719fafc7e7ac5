"""Parity with the released program: Blend-Net, its running statistics, and the recon of the whole composition."""
import functools

import jax
import numpy as np
import pytest

from speech2lip_jax.models import blend_net
from speech2lip_jax.released import torch_weights
from tests import goldens


@functools.cache
def _network():
  variables = torch_weights.blend_net_from_torch(goldens.weights('blendnet_params'))
  network = blend_net.BlendNet(residual=False, align_corners=True)
  return (jax.jit(functools.partial(network.apply, variables)),
          jax.jit(functools.partial(network.apply, variables, train=True, mutable=['batch_stats'])))


def _nhwc(array):
  return array.transpose(0, 2, 3, 1)


def _close(actual, expected, name=''):
  np.testing.assert_allclose(actual, expected, rtol=0, atol=goldens.CONV_ATOL, err_msg=name)


@pytest.mark.parametrize('case', ['a', 'b'])
def test_blend_net_with_running_statistics_matches_the_golden(case):
  golden = goldens.load('blendnet')
  _close(_network()[0](_nhwc(golden[f'{case}_in'])), _nhwc(golden[f'{case}_eval']))


@pytest.mark.parametrize('case', ['a', 'b', 'two'])
def test_blend_net_with_batch_statistics_and_the_statistics_after_match_the_golden(case):
  golden = goldens.load('blendnet')
  out, updated = _network()[1](_nhwc(golden[f'{case}_in']))
  _close(out, _nhwc(golden[f'{case}_train']))
  compared = 0
  for entry in torch_weights.blend_net_entries():
    if entry.path[0] == 'batch_stats':
      value = functools.reduce(lambda tree, key: tree[key], entry.path, updated)
      _close(value, golden[f'{case}_after.{entry.torch_name}'], entry.torch_name)
      compared += 1
  assert compared == sum(key.startswith(f'{case}_after.') and 'running' in key for key in golden)


@pytest.mark.parametrize('rule', ['may', 'default', 'obama2', 'may_noexpand'])
def test_recon_of_the_merged_image_matches_the_golden(rule):
  golden = goldens.load('merge')
  _close(_network()[0](golden[f'{rule}.merged']), golden[f'{rule}.recon'])


def test_recon_of_the_image_with_black_holes_matches_the_golden():
  golden = goldens.load('merge_blackaug')
  _close(_network()[0](golden['merged']), golden['recon'])
