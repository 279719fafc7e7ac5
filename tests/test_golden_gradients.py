"""Parity with the released program: gradients through lip field, composition and Blend-Net, and one Adam step.

A gradient jumps where a ReLU or a max-pool changes sides. With batch statistics a few of Blend-Net's millions of
activations lie within a float32 rounding of that, so two correct programs disagree there; in set A float64 is as far
from the golden as float32 is: 2.6e-3 of the largest entry in `train.g.post_fusion_unet.inc.*`. The jumps are measured,
by rounding-sized noise on Blend-Net's input, and added to the tolerance: 1e-3 stays 1e-3 wherever the gradient is
smooth.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from speech2lip_jax.models import audio_net, blend_net, lip_field
from speech2lip_jax.released import torch_weights
from tests import goldens
from tests.test_golden_geometry import merge_golden

_BLEND_PREFIX = 'post_fusion_unet.'
_ROUNDING = 3e-7  # Of images in 0..1: a few float32 roundings.
_NUM_DRAWS = 32
_TABLES = {'audio_net': torch_weights.audio_net_entries(), 'lip_field': torch_weights.lip_field_entries(),
           'blend_net': torch_weights.blend_net_entries(_BLEND_PREFIX)}


@functools.cache
def _results(mode):
  """Losses and images, gradients, their jumps under rounding, parameters after an Adam step; 'eval' or 'train'."""
  golden = goldens.load('gradients')
  weights = goldens.weights('field_params')
  audio_variables, field_variables = torch_weights.speech_part_from_torch(weights)
  blend_variables = torch_weights.blend_net_from_torch(goldens.weights('blendnet_params'))
  params = {'audio_net': audio_variables['params'], 'lip_field': field_variables['params'],
            'blend_net': blend_variables['params']}
  field = lip_field.LipField(width=weights['fc_uv.weight'].shape[0], use_time=True)
  size = tuple(golden['hw'].astype(int).tolist())

  def loss(params, noise):
    audio = audio_net.AudioNet().apply({'params': params['audio_net']}, golden['audio'])
    paint = lambda coords: field.apply({'params': params['lip_field']}, coords, audio, golden['index'][None])
    lip = lip_field.local_ensemble(paint, lip_field.pixel_coords(*size)[None], size, golden['rand_value'])
    lip = lip.reshape(1, *size, 3)
    _, merged = merge_golden(golden, rgb_lip=lip[0])
    recon, _ = blend_net.BlendNet(residual=False, align_corners=True).apply(
        {'params': params['blend_net'], 'batch_stats': blend_variables['batch_stats']}, merged[None] + noise,
        train=mode == 'train', mutable=['batch_stats'])
    loss_lip = jnp.mean(jnp.square(lip - golden['target_lip']))
    loss_face = jnp.mean(jnp.square(recon - golden['rgb_gt']))
    return loss_lip + loss_face, {'loss_lip': loss_lip, 'loss_face': loss_face, 'lip': lip, 'recon': recon}

  step = jax.jit(jax.value_and_grad(loss, has_aux=True))
  (_, outputs), gradients = step(params, np.zeros_like(golden['rgb_gt']))
  jumps = jax.tree.map(np.zeros_like, gradients)
  if mode == 'train':
    for seed in range(_NUM_DRAWS):
      noise = np.random.default_rng(seed).normal(size=golden['rgb_gt'].shape).astype(np.float32)
      _, moved = step(params, _ROUNDING * noise)
      jumps = jax.tree.map(lambda jump, a, b: np.maximum(jump, np.abs(a - b).max()), jumps, moved, gradients)
  optimizer = optax.adam(1e-4)
  updates, _ = optimizer.update(gradients, optimizer.init(params))
  return outputs, gradients, jumps, optax.apply_updates(params, updates)


def _arrays(prefix):
  """(torch name, golden array in our layout, path of (network, …)) of every golden array under `prefix`."""
  golden = goldens.load('gradients')
  entries = {entry.torch_name: (network, entry) for network, table in _TABLES.items() for entry in table}
  for key, array in golden.items():
    if key.startswith(prefix):
      network, entry = entries[key.removeprefix(prefix)]
      yield key, torch_weights.from_torch(entry, array), (network, *entry.path[1:])


@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_losses_and_images_match_the_golden(mode):
  outputs, _, _, _ = _results(mode)
  golden = goldens.load('gradients')
  for name, tolerance in (('loss_lip', goldens.FIELD_ATOL), ('lip', goldens.FIELD_ATOL),
                          ('loss_face', goldens.CONV_ATOL), ('recon', goldens.CONV_ATOL)):
    np.testing.assert_allclose(outputs[name], golden[f'{mode}.{name}'], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_every_gradient_matches_the_golden(mode):
  _, gradients, jumps, _ = _results(mode)
  compared = 0
  for key, expected, path in _arrays(f'{mode}.g.'):
    actual, jump = (functools.reduce(lambda tree, name: tree[name], path, tree) for tree in (gradients, jumps))
    goldens.assert_gradient_close(actual, expected, key, jump.max())
    compared += 1
  assert compared > 0


def test_parameters_after_one_adam_step_match_the_golden():
  _, _, _, after = _results('eval')
  for key, expected, path in _arrays('eval.adam1.'):
    actual = functools.reduce(lambda tree, name: tree[name], path, after)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=goldens.FIELD_ATOL, err_msg=key)
