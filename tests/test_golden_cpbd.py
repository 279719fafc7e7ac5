"""CPBD beside the implementation that the field quotes, on pictures that scikit-image ships."""
import re

import numpy as np
import pytest
import skimage.data
from skimage import feature
from skimage.filters import gaussian

from speech2lip_jax.metrics.cpbd import canny, cpbd, edge_widths
from tests import goldens

CPBD_ATOL = 0.01  # what is meant by agreement; measured: 1e-15


def picture(name):
  """The picture that a golden's name describes: [H, W] uint8, or None where its data are not installed."""
  base, *changes = name.split('|')
  image = getattr(skimage.data, base)()
  for change in changes:
    if blurred := re.fullmatch(r'gaussian_sigma_(.+)', change):
      image = np.clip(np.round(gaussian(image.astype(float), float(blurred[1]), preserve_range=True)), 0, 255).astype(np.uint8)
    else:
      top, bottom, left, right = map(int, re.fullmatch(r'crop_rows_(\d+)_(\d+)_cols_(\d+)_(\d+)', change).groups())
      image = image[top:bottom, left:right]
  return image


def test_golden_cpbd_is_that_of_the_public_implementation():
  expected = goldens.load_json('cpbd')
  differences = {name: abs(cpbd(picture(name)) - value) for name, value in expected.items()}
  assert max(differences.values()) <= CPBD_ATOL, differences


def test_canny_edges_are_those_of_scikit_image():
  rng = np.random.default_rng(0)
  pictures = [picture(name) for name in ('camera', 'coins', 'text|gaussian_sigma_2.0')]
  pictures += [rng.integers(0, 256, (64, 150)), rng.integers(0, 2, (70, 90)), np.tile(np.arange(64), (66, 1)), np.full((64, 64), 7)]
  for grey in pictures:
    np.testing.assert_array_equal(canny(grey.astype(float)), feature.canny(grey.astype(float)))


def test_blur_lowers_cpbd_and_a_picture_below_a_block_has_none():
  image = skimage.data.camera()[200:328, 200:328]
  blurred = np.round(gaussian(image.astype(float), 2, preserve_range=True)).astype(np.uint8)
  assert cpbd(blurred) < cpbd(image) - 0.1
  assert np.isnan(cpbd(image[:63]))
  assert cpbd(np.full((64, 64), 7, np.uint8)) == 0


@pytest.mark.parametrize('rise', [2, 3, 6, 9])
@pytest.mark.parametrize('sign', [1, -1])
def test_an_edge_is_as_wide_as_its_ramp(rise, sign):
  grey = np.tile(100.0 + sign * np.clip(np.arange(40) - 15, 0, rise), (5, 1))
  edges = np.zeros(grey.shape, bool)
  edges[2, 15 + rise // 2] = True
  widths = edge_widths(grey, edges)
  assert widths[edges] == rise and widths[~edges].max() == 0
