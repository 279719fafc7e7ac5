"""Meaning of camera, warp and composition: closed forms, round trips, scipy, gradients at singular points."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from speech2lip_jax.gamem import compose, mapping
from speech2lip_jax.ops import camera, sampling
from speech2lip_jax.ops.boxes import LipBox
from speech2lip_jax.released import warp as released_warp

_HEIGHT, _WIDTH = 96, 88
_FOCAL = 1.5 * _WIDTH
_BOX = LipBox(top=54, left=30, height=20, width=28)


def _depth():
  """A curved face with a nose, 3 units away; steep at the cheeks."""
  ys, xs = np.mgrid[:_HEIGHT, :_WIDTH].astype(np.float32)
  radius = np.hypot((xs - _WIDTH / 2) / (0.32 * _WIDTH), (ys - _HEIGHT / 2) / (0.42 * _HEIGHT))
  nose = np.exp(-((xs - _WIDTH / 2)**2 + (ys - _HEIGHT / 2)**2) / (2 * (0.06 * _WIDTH)**2))
  return (3 + 0.35 * np.minimum(radius, 1.6)**2 - 0.2 * nose).astype(np.float32)


def _turn(degrees, translation=(0.05, -0.03, 0.1)):
  """Yaw about the head's middle, 3.6 units away."""
  c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
  rotation, middle = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), np.array([0, 0, 3.6])
  return np.asarray(camera.rigid(jnp.float32(rotation), jnp.float32(middle - rotation @ middle + translation)))


def _pixels():
  return np.stack(np.meshgrid(np.arange(_WIDTH), np.arange(_HEIGHT)), axis=-1).astype(np.float32)


def _image():
  """A smooth colourful image, 0..1."""
  rng = np.random.default_rng(0)
  image = np.stack([ndimage.gaussian_filter(rng.normal(size=(_HEIGHT, _WIDTH)), 2.5) for _ in range(3)], axis=-1)
  return np.clip(0.5 + 2 * image, 0, 1).astype(np.float32)


def test_rigid_inverse_undoes_the_transform():
  transform = _turn(14)
  np.testing.assert_allclose(camera.invert_rigid(transform) @ transform, np.eye(4), atol=1e-6)


def test_projecting_undoes_unprojecting_and_agrees_with_the_camera_matrix():
  points = camera.unproject(_pixels(), _depth(), _FOCAL, _HEIGHT, _WIDTH)
  pixels, z = camera.project(points, _FOCAL, _HEIGHT, _WIDTH)
  np.testing.assert_allclose(pixels, _pixels(), atol=1e-4)
  np.testing.assert_allclose(z, _depth(), atol=1e-6)
  by_matrix = np.asarray(points, np.float64) @ np.asarray(camera.intrinsics(_FOCAL, _HEIGHT, _WIDTH), np.float64).T
  np.testing.assert_allclose(by_matrix[..., :2] / by_matrix[..., 2:], _pixels(), atol=1e-4)


def test_the_same_pose_gives_identity_coordinates_both_ways():
  pixels, _ = mapping.observed_coords(_depth(), jnp.eye(4), _FOCAL)
  np.testing.assert_allclose(pixels, _pixels(), atol=1e-4)
  np.testing.assert_allclose(mapping.canonical_coords(_pixels(), _depth(), jnp.eye(4), _FOCAL), _pixels(), atol=1e-4)


@pytest.mark.parametrize('degrees', [-14, -5, 5, 14])
def test_c2o_undoes_o2c_within_a_hundredth_of_a_pixel_in_the_lip_region(degrees):
  pixels, _ = mapping.observed_coords(_depth(), _turn(degrees), _FOCAL)
  coords = mapping.canonical_coords(pixels, _depth(), _turn(degrees), _FOCAL)
  lips = (slice(_BOX.top, _BOX.top + _BOX.height), slice(_BOX.left, _BOX.left + _BOX.width))
  assert np.linalg.norm(coords - _pixels(), axis=-1)[lips].max() < 0.01


@pytest.mark.parametrize('degrees', [0, 9])
def test_a_larger_canonical_image_is_the_same_camera_with_more_pixels(degrees):
  scale, size = 1.5, (round(1.5 * _HEIGHT), round(1.5 * _WIDTH))
  place = (np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), -1).astype(np.float32) + 0.5) / scale - 0.5
  depth = sampling.sample_image(_depth()[..., None], place, outside='border')[..., 0]
  pixels, z = mapping.observed_coords(depth, _turn(degrees), _FOCAL, scale)
  coarse, z_coarse = mapping.observed_coords(_depth(), _turn(degrees), _FOCAL)
  middle = (slice(12, -12), slice(12, -12))
  read = sampling.sample_image(jnp.concatenate([pixels, z[..., None]], -1), mapping.canonical_pixels(_pixels(), scale))
  np.testing.assert_allclose(read[middle], np.concatenate([coarse, z_coarse[..., None]], -1)[middle], atol=0.02)
  back = mapping.canonical_coords(pixels, depth, _turn(degrees), _FOCAL, scale=scale)
  extent = lambda start, length: slice(round(scale * start), round(scale * (start + length)))
  rows, columns = extent(_BOX.top, _BOX.height), extent(_BOX.left, _BOX.width)
  expected = mapping.canonical_pixels(place, scale)
  assert np.linalg.norm(back - expected, axis=-1)[rows, columns].max() < 0.01


def test_gradient_of_c2o_is_that_of_the_inverse_map():
  depth, points = _depth(), np.float32([[40.3, 60.2], [50.7, 66.1]])
  weights = np.float32([[1, 2], [3, 4]])
  read = lambda depth, pose: jnp.sum(mapping.canonical_coords(points, depth, pose, _FOCAL) * weights)
  direction = np.float32(np.sin(_pixels()[..., 0] / 9))
  along = jnp.vdot(jax.grad(read)(depth, _turn(8)), direction)
  step = 2e-3
  numeric = (read(depth + step * direction, _turn(8)) - read(depth - step * direction, _turn(8))) / (2 * step)
  np.testing.assert_allclose(along, numeric, rtol=0.02)


@pytest.mark.parametrize('outside, mode', [('zero', 'grid-constant'), ('border', 'nearest')])
def test_bilinear_sampling_agrees_with_scipy_inside_and_outside(outside, mode):
  image = _image()
  coords = np.random.default_rng(1).uniform(-6, 100, (500, 2)).astype(np.float32)
  place = coords[:, ::-1].T
  expected = np.stack([ndimage.map_coordinates(image[..., c], place, order=1, mode=mode) for c in range(3)], -1)
  np.testing.assert_allclose(sampling.sample_image(image, coords, outside=outside), expected, atol=2e-5)


def test_bicubic_sampling_is_exact_at_pixel_centres_and_on_quadratics():
  np.testing.assert_allclose(sampling.sample_image(_image(), _pixels(), 'bicubic', 'border'), _image(), atol=1e-6)
  x, y = _pixels()[..., 0] / 50, _pixels()[..., 1] / 50
  coords = np.random.default_rng(2).uniform(2, 80, (200, 2)).astype(np.float32)
  u, v = coords[:, 0] / 50, coords[:, 1] / 50
  read = sampling.sample_image((x**2 - x * y + 2 * y)[..., None], coords, 'bicubic')
  np.testing.assert_allclose(read[:, 0], u**2 - u * v + 2 * v, atol=1e-5)


def test_spline_sampling_is_exact_at_pixel_centres_and_agrees_with_scipy_inside():
  coefficients = sampling.spline_coefficients(_image())
  np.testing.assert_allclose(sampling.sample_image(coefficients, _pixels(), 'bspline', 'border'), _image(), atol=1e-6)
  coords = np.random.default_rng(3).uniform(12, 72, (300, 2)).astype(np.float32)
  expected = np.stack([ndimage.map_coordinates(_image()[..., c], coords[:, ::-1].T, order=3) for c in range(3)], -1)
  np.testing.assert_allclose(sampling.sample_image(coefficients, coords, 'bspline', 'border'), expected, atol=1e-5)


def test_bicubic_border_continues_the_outermost_pixel_and_zero_ends():
  image, far = _image(), np.float32([[-1e9, 10], [np.inf, 10], [200, 10]])
  expected = image[10][[0, -1, -1]]
  np.testing.assert_allclose(sampling.sample_image(image, far, 'bicubic', 'border'), expected, atol=1e-6)
  assert not sampling.sample_image(image, far, 'bicubic', 'zero').any()


def test_grid_and_pixel_coordinates_are_inverse_to_each_other():
  grid = sampling.grid_from_pixels(_pixels(), _HEIGHT, _WIDTH)
  np.testing.assert_allclose(sampling.pixels_from_grid(grid, _HEIGHT, _WIDTH), _pixels(), atol=2e-5)


def test_unknown_border_rule_is_refused():
  with pytest.raises(ValueError, match="outside='reflect'"):
    sampling.sample_image(_image(), _pixels(), outside='reflect')


def _behind():
  return np.asarray(camera.rigid(jnp.diag(jnp.array([-1.0, 1.0, -1.0])), jnp.array([0.0, 0.0, 1.0])))


@pytest.mark.parametrize('depth, pose', [
    (np.zeros((_HEIGHT, _WIDTH)), np.eye(4)), (np.zeros((_HEIGHT, _WIDTH)), _turn(14)),
    (np.full((_HEIGHT, _WIDTH), np.inf), _turn(14)), (_depth(), _behind()), (_depth() * 1e-4, _turn(14, (0, 0, -3.6))),
    (np.random.default_rng(0).uniform(0, 10, (_HEIGHT, _WIDTH)), _turn(80)),
], ids=['zero depth', 'zero depth turned', 'points at infinity', 'behind the camera', 'at the camera', 'folded'])
def test_both_mappings_and_their_gradients_stay_finite(depth, pose):
  depth, pose, image = jnp.asarray(depth, jnp.float32), jnp.asarray(pose, jnp.float32), _image()
  points = np.concatenate([_pixels().reshape(-1, 2), np.float32([[-1e6, 1e6], [3e4, 0]])])

  def read(depth, pose):
    forward, _ = mapping.observed_coords(depth, pose, _FOCAL)
    inverse = mapping.canonical_coords(points, depth, pose, _FOCAL)
    read = [sampling.sample_image(image, coords, method, outside) for coords in (forward, inverse)
            for method in ('bilinear', 'bicubic') for outside in ('zero', 'border')]
    return sum(jnp.sum(colours) for colours in read), (forward, inverse)

  (value, coords), gradients = jax.jit(jax.value_and_grad(read, argnums=(0, 1), has_aux=True))(depth, pose)
  for array in jax.tree.leaves((value, coords, gradients)):
    assert np.isfinite(array).all()


def test_sampling_at_undefined_coordinates_gives_finite_colours_and_gradients():
  bad = jnp.array([[jnp.nan, 3.0], [jnp.inf, -jnp.inf], [1e30, -1e30]])
  for method in ('bilinear', 'bicubic'):
    for outside in ('zero', 'border'):
      read = lambda coords, *how: jnp.sum(sampling.sample_image(_image(), coords, *how))
      colours, gradient = jax.value_and_grad(read)(bad, method, outside)
      assert np.isfinite(colours) and np.isfinite(gradient).all()


def test_pasting_a_frames_own_canonical_lips_returns_the_frame():
  """The oracle composition. The frame is read twice between its pixels (O2C, then C2O), and each bicubic read damps
  fine detail: with texture of 2.5 px and a turn of 8° 60 dB were measured here (bilinear reads: 43); the bound is
  55."""
  frame, depth, pose = _image(), _depth(), _turn(8)
  forward, _ = mapping.observed_coords(depth, pose, _FOCAL)
  canonical = sampling.sample_image(frame, forward, 'bicubic', 'border')
  lips = canonical[_BOX.top:_BOX.top + _BOX.height, _BOX.left:_BOX.left + _BOX.width]
  coords = mapping.canonical_coords(_pixels(), depth, pose, _FOCAL)
  merged = compose.merge_lips(compose.read_lips(lips, coords, _BOX), frame, coords, _BOX, 4.0)
  mask = compose.lip_mask(coords, (_BOX.height, _BOX.width), (_BOX.top, _BOX.left), 4.0)
  mouth = compose.mouth_region(coords, _BOX)
  assert (np.asarray(mask)[~np.asarray(mouth)] == 0).all() and np.asarray(mouth).sum() > 300 and mask.max() == 1
  np.testing.assert_array_equal(np.asarray(merged)[~np.asarray(mouth)], frame[~np.asarray(mouth)])
  error = np.mean(np.square(merged - frame)[np.asarray(mouth)])
  assert -10 * np.log10(error) > 55


def test_lip_mask_is_one_inside_zero_outside_and_smooth_between():
  x = np.linspace(_BOX.left - 3, _BOX.left + 12, 301)
  coords = np.stack([x, np.full_like(x, _BOX.top + 10)], -1).astype(np.float32)
  mask = np.asarray(compose.lip_mask(coords, (_BOX.height, _BOX.width), (_BOX.top, _BOX.left), 4.0))
  offset = coords[:, 0] - _BOX.left + 0.5
  assert (mask[offset <= 0] == 0).all() and (mask[offset >= 4] == 1).all()
  assert (np.diff(mask) >= 0).all() and np.diff(mask).max() < 0.02


def test_composition_of_a_batch_equals_its_samples():
  depth, frames = _depth(), np.stack([_image(), _image()[::-1]])
  poses = np.stack([_turn(5), _turn(-9)])
  lips = np.random.default_rng(3).uniform(size=(2, _BOX.height, _BOX.width, 3)).astype(np.float32)

  def compose_one(lips, frame, pose):
    coords = mapping.canonical_coords(_pixels(), depth, pose, _FOCAL)
    return compose.merge_lips(compose.read_lips(lips, coords, _BOX), frame, coords, _BOX, 3.0)

  batch = jax.jit(jax.vmap(compose_one))(lips, frames, poses)
  for merged, sample in zip(batch, zip(lips, frames, poses)):
    np.testing.assert_allclose(merged, compose_one(*sample), atol=2e-5)


@pytest.mark.parametrize('top, left', [(0, 0), (70, 60)])
def test_the_grown_lip_rectangle_is_clipped_at_the_image_border(top, left):
  lips = np.ones((24, 28, 3), np.float32)
  face, frame = np.full((_HEIGHT, _WIDTH, 3), 0.5, np.float32), np.zeros((_HEIGHT, _WIDTH, 3), np.float32)
  mask = np.zeros_like(face)
  grid = sampling.grid_from_pixels(_pixels(), _HEIGHT, _WIDTH)
  _, merged = released_warp.merge(lips, face, frame, mask, grid, (top, left), 0, 5)
  rows, columns = np.nonzero(np.asarray(merged)[..., 0] > 0.25)
  assert rows.min() == max(top - 5, 0) and rows.max() == min(top + 24 + 10, _HEIGHT) - 1
  assert columns.min() == max(left - 5, 0) and columns.max() == min(left + 28 + 5, _WIDTH) - 1


def test_fine_detail_is_what_a_blur_takes_and_none_of_it_is_in_a_slope():
  image = np.random.default_rng(0).random((2, 7, 9, 3)).astype(np.float32)
  taps = np.outer([1, 6, 1], [1, 6, 1]) / 64
  expected = image - ndimage.convolve(image, taps[None, :, :, None].astype(np.float32), mode='nearest')
  np.testing.assert_allclose(sampling.fine_detail(jnp.asarray(image)), expected, atol=1e-6)
  slope = np.mgrid[:7, :9].sum(0).astype(np.float32)[None, :, :, None]
  np.testing.assert_allclose(sampling.fine_detail(jnp.asarray(slope))[:, 1:-1, 1:-1], 0, atol=1e-5)
