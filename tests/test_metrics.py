"""Metrics against closed forms, loops over their definitions, and scikit-image."""
import numpy as np
import pytest
from skimage import metrics as skimage_metrics

from speech2lip_jax.metrics import image, mouth_points, seam
from speech2lip_jax.preprocess.canonical import INNER_LIPS, OUTER_LIPS
from speech2lip_jax.report.held_out import nearest_windows


def pair(seed=0, top=20, left=13, size=(48, 61)):
  rng = np.random.default_rng(seed)
  reference = rng.integers(0, 256, (*size, 3), np.uint8)
  changed = reference.copy()
  changed[top:top + 9, left:left + 17] = rng.integers(0, 256, (min(9, size[0] - top), min(17, size[1] - left), 3))
  return changed, reference


def test_psnr_of_a_known_error():
  reference = np.full((10, 10, 3), 100, np.uint8)
  assert image.psnr(reference + np.uint8(5), reference) == pytest.approx(10 * np.log10(255**2 / 25))
  mask = np.zeros((10, 10), bool)
  mask[:2] = True
  changed = reference.copy()
  changed[:2] += 10
  assert image.psnr(changed, reference, mask) == pytest.approx(10 * np.log10(255**2 / 100))
  assert image.psnr(changed, reference, ~mask) == image.PSNR_OF_IDENTICAL
  noisy, reference = pair()
  assert image.psnr(noisy, reference) == pytest.approx(skimage_metrics.peak_signal_noise_ratio(reference, noisy), abs=1e-9)


@pytest.mark.parametrize('corner', [(20, 13), (0, 0), (39, 44), (3, 40)])
def test_ssim_of_a_touched_window_is_that_of_the_whole_picture(corner):
  changed, reference = pair(top=corner[0], left=corner[1])
  expected = skimage_metrics.structural_similarity(changed, reference, channel_axis=-1, gaussian_weights=True, sigma=1.5,
                                                   use_sample_covariance=False, data_range=255)
  whole, _ = image.ssim(changed, reference)
  assert whole == pytest.approx(expected, abs=1e-9)


def test_ssim_over_a_mask_looks_at_the_mask_alone():
  changed, reference = pair()
  near, far = np.zeros((2, 48, 61), bool)
  near[22:26, 16:25] = far[:5, :5] = True
  assert image.ssim(changed, reference, near)[1] < 0.5
  assert image.ssim(changed, reference, far)[1] == 1


def test_ssim_of_every_pixel_is_scikit_image_s():
  rng = np.random.default_rng(0)
  reference = rng.integers(0, 256, (23, 37, 3), np.uint8)
  changed = np.clip(reference + rng.normal(0, 40, reference.shape), 0, 255).astype(np.uint8)
  _, expected = skimage_metrics.structural_similarity(changed, reference, channel_axis=-1, gaussian_weights=True, sigma=1.5,
                                                      use_sample_covariance=False, data_range=255, full=True)
  np.testing.assert_allclose(image.ssim_map(changed, reference), expected.mean(-1), atol=1e-9)


@pytest.mark.parametrize('rows,columns,expected', [
    ((100, 120), (90, 140), (slice(78, 142), slice(83, 147))), ((100, 170), (90, 140), (slice(71, 199), slice(83, 147))),
    ((0, 9), (190, 200), (slice(0, 64), slice(136, 200)))])
def test_whole_blocks_lie_about_the_mask_and_in_the_picture(rows, columns, expected):
  mask = np.zeros((200, 200), bool)
  mask[slice(*rows), slice(*columns)] = True
  assert image.blocks_around(mask, 64) == expected


def test_a_picture_below_a_block_is_taken_whole():
  mask = np.zeros((50, 200), bool)
  mask[20:30, 100:110] = True
  assert image.blocks_around(mask, 64) == (slice(0, 50), slice(73, 137))


def test_lmd_is_the_distance_of_centred_mouths():
  rng = np.random.default_rng(0)
  ours, true = rng.uniform(0, 100, (2, 4, 20, 2))
  expected = []
  for a, b in zip(ours, true, strict=True):
    total = 0.0
    for i in range(20):
      x = (a[i, 0] - sum(a[:, 0]) / 20) - (b[i, 0] - sum(b[:, 0]) / 20)
      y = (a[i, 1] - sum(a[:, 1]) / 20) - (b[i, 1] - sum(b[:, 1]) / 20)
      total += (x * x + y * y)**0.5
    expected.append(total / 20)
  assert mouth_points.lmd(ours, true) == pytest.approx(np.mean(expected))
  assert mouth_points.lmd(true + [3, -7], true) == pytest.approx(0), 'where the mouth is does not count'
  ours[1] = np.nan  # no face
  assert mouth_points.lmd(ours, true) == pytest.approx(np.mean(np.delete(expected, 1)))
  assert np.isnan(mouth_points.lmd(np.full_like(true, np.nan), true))


def test_mouth_points_are_ordered_as_the_68_points_are():
  landmarks = np.zeros((478, 3))
  landmarks[mouth_points.MEDIAPIPE_POINTS, 0] = np.arange(20)
  np.testing.assert_array_equal(mouth_points.mouth_points(landmarks)[:, 0], np.arange(20))
  outer, inner = np.split(mouth_points.MEDIAPIPE_POINTS, [12])
  assert set(outer) <= set(OUTER_LIPS) and set(inner) <= set(INNER_LIPS)
  around = [int(np.flatnonzero(OUTER_LIPS == point)[0]) for point in outer]
  assert around == sorted(around), 'from the corner along the upper lip and back along the lower'


def test_jitter_is_the_acceleration_within_runs():
  times = np.arange(30.0)
  points = np.broadcast_to((0.5 * 3 * times**2)[:, None, None] * [1, 0], (30, 20, 2)).copy()
  points[15:] += 1000  # a cut
  runs = [np.arange(15), np.arange(15, 30)]
  assert mouth_points.jitter(points, runs) == pytest.approx(3)
  assert mouth_points.jitter(points, [np.arange(30)]) > 30
  points[4] = np.nan
  assert mouth_points.jitter(points, runs) == pytest.approx(3)
  assert np.isnan(mouth_points.jitter(points, [np.arange(2)]))


def test_a_seam_is_the_step_that_the_truth_has_not():
  reference = np.tile(np.arange(0, 120, 3, dtype=np.uint8)[:, None, None], (1, 40, 3))  # 3 levels a row, none across
  region = np.zeros((40, 40), bool)
  region[10:20, 5:35] = True
  assert seam.seam(reference, reference, region) == (0, 1)
  brighter = reference.copy()
  brighter[region] += 9
  levels, ratio = seam.seam(brighter, reference, region)
  steps = [12] * 30 + [abs(9 - 3)] * 30 + [9] * 20  # into the region from above, from below, from the sides
  assert levels == pytest.approx(9) and ratio == pytest.approx(np.mean(steps) / (3 * 60 / 80))
  assert np.isnan(seam.seam(brighter, reference, np.ones((40, 40), bool))).all()
  assert seam.largest_change(brighter, reference, ~region) == 0 and seam.largest_change(brighter, reference, region) == 9


def test_nearest_windows_are_those_of_a_full_sort():
  rng = np.random.default_rng(0)
  queries, references = rng.standard_normal((9, 4, 5)).astype(np.float32), rng.standard_normal((50, 4, 5)).astype(np.float32)
  distances = np.square(queries[:, None] - references[None]).sum((2, 3))
  np.testing.assert_array_equal(nearest_windows(queries, references, 6, chunk=4), distances.argsort(1)[:, :6])
