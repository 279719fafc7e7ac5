"""Parity with the released program: its whole training step, before the sync loss and with it.

Gradients jump where a ReLU or a bilinear cell changes sides: `tests.test_golden_gradients` says why, and how the jump is
measured. Here the noise is on the frame, the canonical face (3e-7) and the pose (5e-6: a few roundings of a distance of 7).
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speech2lip_jax.configs import reference as reference_config
from speech2lip_jax.ops import camera
from speech2lip_jax.released import step as released_step
from speech2lip_jax.released import torch_weights
from speech2lip_jax.released import warp as released_warp
from tests import goldens, syncnet_weights

_BLEND_PREFIX = 'post_fusion_unet.'
_IMAGE_ROUNDING, _POSE_ROUNDING = 3e-7, 5e-6
_NUM_DRAWS = 2
_TABLES = {'audio_net': torch_weights.audio_net_entries(), 'lip_field': torch_weights.lip_field_entries(),
           'blend_net': torch_weights.blend_net_entries(_BLEND_PREFIX)}
_LOSS_RTOL = 1e-4


def _sample_and_window():
  golden = {name.removeprefix('in.'): array for name, array in goldens.load('train_step').items() if name.startswith('in.')}
  observed = released_warp.observed_from_head_of_tracker(golden['euler'][0], golden['trans'][0])
  canonical = released_warp.observed_from_head_of_tracker(golden['canonical_euler'][0], golden['canonical_trans'][0])
  # In float32, as the program computes it: a pixel of the depth's gradient lies on a kink, where a rounding of the pose decides.
  pose = np.array(jnp.matmul(observed, camera.invert_rigid(canonical), precision='highest'))
  sample = released_step.Sample(
      rgb_lip_canonical=golden['rgb'][0], rgb_face_observed=golden['rgb_face_ori'][0],
      rgb_face_canonical=golden['rgb_face_zero'][0], mask_lip=golden['mask_lip_canonical'][0], grid=golden['coord'][0],
      mask_head=golden['mask_head_3DMM_canonical'][0], mask_face=golden['mask_face_3DMM_canonical'][0],
      audio_feat=golden['audio'][0], frame_id=golden['index'][0], num_frames=golden['total_frame'][0],
      lip_top_left=np.array([golden['lip_lefttop_y'][0], golden['lip_lefttop_x'][0]], np.int32),
      observed_from_canonical=pose, focal=goldens.load('warping')['focal'])
  window = released_step.SyncWindow(
      audio_feat=golden['audio_window'][0], grid=golden['coord_window'][0], mel=golden['mel'][0, 0].T,
      face_box=golden['canonical_face_bbox'][0, :4].astype(np.int32),
      rgb_negative=golden['rgb_window_neg'][0].transpose(1, 2, 3, 0))
  return sample, window


def _moved(sample, seed):
  """The sample with noise of the size of roundings."""
  rng = np.random.default_rng(seed)
  noisy = lambda array, size: (array + size * rng.normal(size=array.shape)).astype(np.float32)
  pose = sample.observed_from_canonical.copy()
  pose[:3, 3] = noisy(pose[:3, 3], _POSE_ROUNDING)
  return sample._replace(rgb_face_observed=noisy(sample.rgb_face_observed, _IMAGE_ROUNDING), observed_from_canonical=pose,
                         rgb_face_canonical=noisy(sample.rgb_face_canonical, _IMAGE_ROUNDING))


@functools.cache
def _results(phase):
  """State, terms, gradients, their jumps under rounding (of "pre" alone), and batch statistics after; 'pre' or 'sync'."""
  golden = goldens.load('train_step')
  weights = goldens.weights('field_params')
  config = reference_config.get_config().unlock()
  config.field.width = weights['fc_uv.weight'].shape[0]
  audio_net, lip_field = torch_weights.speech_part_from_torch(weights)
  blend_net = torch_weights.blend_net_from_torch(goldens.weights('blendnet_params'))
  params = {'audio_net': audio_net['params'], 'lip_field': lip_field['params'], 'blend_net': blend_net['params'],
            'depth_canonical': golden['in.depth']}
  judges = released_step.Judges(torch_weights.lpips_from_torch(goldens.weights('lpips')),
                            torch_weights.syncnet_from_torch(syncnet_weights.state()))
  optimizer, step = released_step.make_step(config.lock())
  state = released_step.State(params, blend_net['batch_stats'], optimizer.init(params))
  sample, window = _sample_and_window()
  window = window if phase == 'sync' else None
  after, terms, gradients = step(state, judges, sample, window, golden['rand_value'])
  jumps = jax.tree.map(np.zeros_like, gradients)
  for seed in range(_NUM_DRAWS if phase == 'pre' else 0):
    _, _, moved = step(state, judges, _moved(sample, seed), window, golden['rand_value'])
    jumps = jax.tree.map(lambda jump, a, b: np.maximum(jump, np.abs(a - b)), jumps, moved, gradients)
  return state, terms, gradients, jumps, after.batch_stats


def _arrays(prefix):
  """(key, golden array in our layout, path of (network, …)) of every golden array under `prefix`."""
  entries = {entry.torch_name: (network, entry) for network, table in _TABLES.items() for entry in table}
  for key, array in goldens.load('train_step').items():
    name = key.removeprefix(prefix)
    if name == key:
      continue
    if name == 'canonical_depth_head':
      yield key, array, ('depth_canonical',)
    else:
      network, entry = entries[name]
      yield key, torch_weights.from_torch(entry, array), (network, *entry.path[1:])


def _at(tree, path):
  return functools.reduce(lambda branch, name: branch[name], path, tree)


@pytest.mark.parametrize('phase', ['pre', 'sync'])
def test_every_loss_of_the_step_matches_the_golden(phase):
  golden = goldens.load('train_step')
  _, terms, _, _, _ = _results(phase)
  for name, term in (terms | {'': terms['total']}).items():
    if name != 'total':
      key = f'{phase}.loss_{name}'.removesuffix('_')
      atol = goldens.FIELD_ATOL if name == 'canonical_depth_photo' else 0  # a warp's tolerance
      np.testing.assert_allclose(term, golden[key], rtol=_LOSS_RTOL, atol=atol, err_msg=key)


@pytest.mark.parametrize('phase', ['pre', 'sync'])
def test_every_gradient_of_the_step_matches_the_golden(phase):
  _, _, gradients, _, _ = _results(phase)
  _, _, _, jumps, _ = _results('pre')  # what jumps is in both steps: Blend-Net of one frame, and the depth
  compared = 0
  for key, expected, path in _arrays(f'{phase}.g.'):
    actual, jump = _at(gradients, path), _at(jumps, path)
    goldens.assert_gradient_close(actual, expected, key, jump.max())
    compared += 1
  assert compared > 0


@pytest.mark.parametrize('phase', ['pre', 'sync'])
def test_batch_statistics_after_the_step_match_the_golden(phase):
  """Of one forward pass before the sync loss, of six with it. Set A has those of six under both names, the same to the last
  bit, as if one array of running statistics had been kept and written after both steps."""
  golden = goldens.load('train_step')
  compared = 0
  for key, expected, path in _arrays(f'{phase}.after.'):
    is_of_six = np.array_equal(expected, golden[f'sync.{key.partition(".")[2]}'])
    *_, after = _results('sync' if is_of_six else 'pre')
    np.testing.assert_allclose(_at(after, path[1:]), expected, rtol=goldens.CONV_ATOL, atol=goldens.CONV_ATOL, err_msg=key)
    compared += 1
  assert compared > 0


def test_the_first_pass_moves_the_batch_statistics_less_than_all_six():
  before, *_, after_one = _results('pre')
  *_, after_six = _results('sync')
  distance = lambda after: sum(np.abs(a - b).sum() for a, b in
                               zip(jax.tree.leaves(after), jax.tree.leaves(before.batch_stats), strict=True))
  assert 0 < distance(after_one) < distance(after_six)


def test_a_frozen_blend_net_gets_no_gradient_and_adam_moves_everything_else():
  state, _, gradients, _, _ = _results('sync')
  assert not any(np.any(gradient) for gradient in jax.tree.leaves(gradients['blend_net']))
  assert all(np.any(gradient) for name in ('audio_net', 'lip_field') for gradient in jax.tree.leaves(gradients[name]))
  assert state.params.keys() == gradients.keys()


def test_a_crop_of_the_whole_picture_at_its_own_size_is_the_picture():
  image = np.random.default_rng(0).random((12, 12, 3)).astype(np.float32)
  np.testing.assert_allclose(released_step.resized_crop(image, np.array([0, 0, 12, 12]), 12), image, atol=1e-6)
  small = released_step.resized_crop(image, np.array([2, 4, 6, 8]), 2)
  np.testing.assert_allclose(small, image[4:8, 2:6].reshape(2, 2, 2, 2, 3).mean((1, 3)), atol=1e-6)
