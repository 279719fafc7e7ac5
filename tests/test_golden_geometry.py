"""Parity with the released program: poses, sampling, depth warp, composition."""
import jax
import numpy as np
import pytest

from speech2lip_jax.ops import camera, sampling
from speech2lip_jax.ops.poses import relative_pose
from speech2lip_jax.released import warp as released_warp
from speech2lip_jax.training import losses
from tests import goldens


def _close(actual, expected, name=''):
  np.testing.assert_allclose(actual, expected, rtol=0, atol=goldens.FIELD_ATOL, err_msg=name)


def test_tracker_poses_match_the_golden():
  golden = goldens.load('pose')
  _close(released_warp.rotation_from_euler(golden['euler']), golden['rot'])
  observed = released_warp.observed_from_head_of_tracker(golden['euler'], golden['trans'])
  canonical = released_warp.observed_from_head_of_tracker(golden['canonical_euler'], golden['canonical_trans'])
  _close(observed, golden['camera'])
  _close(canonical, golden['camera_canonical'])
  observed_from_canonical = relative_pose(observed, canonical)
  for name in ('rel_pose', 'can2obs'):
    _close(observed_from_canonical, golden[name], name)
  for name in ('rel_pose_inverse', 'obs2can'):
    _close(camera.invert_rigid(observed_from_canonical), golden[name], name)


@pytest.mark.parametrize('outside', ['zero', 'border'])
def test_bilinear_sampling_matches_the_golden_inside_and_outside_the_image(outside):
  golden = goldens.load('warping')
  image = golden['src'][0]
  coords = sampling.pixels_from_grid(golden['grid'][0], *image.shape[:2])
  expected = golden['grid_zeros' if outside == 'zero' else 'grid_border'][0].transpose(1, 2, 0)
  _close(sampling.sample_image(image, coords, outside=outside), expected)


@pytest.mark.parametrize('which', ['pose', 'inv'])
def test_reference_warp_and_its_depth_gradient_match_the_golden(which):
  golden = goldens.load('warping')
  transform, focal, image = golden[f'{which}.T'][0], golden['focal'], golden['src'][0]
  mask = golden['mask_head'][0] * (1 - golden['mask_face'][0])

  def loss(depth):
    warped = released_warp.warp(image, depth, transform, focal)
    return losses.masked_mean_squared_error(warped, golden['target'][0], mask), warped

  grid, z = released_warp.pixel_coords(golden['depth'], transform, focal)
  (value, warped), gradient = jax.value_and_grad(loss, has_aux=True)(golden['depth'])
  _close(grid, golden[f'{which}.pix_coords'][0], 'pix_coords')
  _close(z, golden[f'{which}.z'][0, 0], 'z')
  _close(warped, golden[f'{which}.warped'][0].transpose(1, 2, 0), 'warped')
  _close(value, golden[f'{which}.loss'], 'loss')
  goldens.assert_gradient_close(gradient, golden[f'{which}.grad_depth'], 'grad_depth')


def merge_golden(golden, offset_px=0, expand_divisor=5, rgb_lip=None, **augmentation):
  """`reference_merge` of the batch-1 arrays that merge.npz and gradients.npz share."""
  left, top = golden['lefttop_xy'].astype(int).tolist()
  return released_warp.merge(
      golden['rgb_lip'][0] if rgb_lip is None else rgb_lip, golden['rgb_face_canonical'][0], golden['rgb_gt'][0],
      golden['mask_lip'][0], golden['coord'][0], (top, left), offset_px, expand_divisor, **augmentation)


@pytest.mark.parametrize('rule, offset_px, expand_divisor', [
    ('may', 0, 5), ('obama2', 0, 12), ('default', -1, 5), ('may_noexpand', 0, None)])
def test_reference_merge_matches_the_golden_rule(rule, offset_px, expand_divisor):
  golden = goldens.load('merge')
  merged_canonical, merged = merge_golden(golden, offset_px, expand_divisor)
  _close(merged_canonical, golden[f'{rule}.merged_canonical'][0], 'merged_canonical')
  _close(merged, golden[f'{rule}.merged'][0], 'merged')


def test_reference_merge_with_black_holes_matches_the_golden():
  golden = goldens.load('merge_blackaug')
  merged_canonical, merged = merge_golden(
      goldens.load('merge'), noise=(golden['noise1'][0, 0], golden['noise2'][0, 0]),
      mask_face=golden['face_mask'][0].transpose(1, 2, 0))
  _close(merged_canonical, golden['merged_canonical'][0], 'merged_canonical')
  _close(merged, golden['merged'][0], 'merged')
