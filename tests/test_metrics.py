"""Picture metrics against closed forms and scikit-image."""
import numpy as np
import pytest
from skimage import metrics as skimage_metrics

from speech2lip_jax.evaluate import nearest_windows
from speech2lip_jax.metrics import image


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


def test_nearest_windows_are_those_of_a_full_sort():
  rng = np.random.default_rng(0)
  queries, references = rng.standard_normal((9, 4, 5)).astype(np.float32), rng.standard_normal((50, 4, 5)).astype(np.float32)
  distances = np.square(queries[:, None] - references[None]).sum((2, 3))
  np.testing.assert_array_equal(nearest_windows(queries, references, 6, chunk=4), distances.argsort(1)[:, :6])
