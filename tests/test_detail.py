"""Detail, movement and closures of a mouth against loops over their definitions."""
import numpy as np
import pytest

from speech2lip_jax.metrics import detail, opening


def test_the_laplacian_is_that_of_every_pixel_of_the_mask():
  rng = np.random.default_rng(0)
  grey = rng.integers(0, 256, (12, 15))
  rgb = np.repeat(grey[..., None], 3, -1).astype(np.uint8)
  mask = np.zeros((12, 15), bool)
  mask[0, 3] = mask[5:8, 4:9] = mask[11, 14] = True  # a border and a corner too
  at = lambda y, x: int(grey[-y if y < 0 else 22 - y if y > 11 else y, -x if x < 0 else 28 - x if x > 14 else x])
  sizes = [abs(at(y - 1, x) + at(y + 1, x) + at(y, x - 1) + at(y, x + 1) - 4 * at(y, x)) for y, x in zip(*np.nonzero(mask))]
  assert detail.laplacian_levels(rgb, mask) == pytest.approx(sum(sizes) / len(sizes))


def test_blur_lowers_the_laplacian_and_brightness_does_not():
  sharp = np.zeros((20, 20, 3), np.uint8)
  sharp[:, ::4] = 100
  blurred = (sharp.astype(int) + np.roll(sharp, 1, 1) + np.roll(sharp, -1, 1)) // 3
  mask = np.zeros((20, 20), bool)
  mask[5:15, 5:15] = True
  levels = detail.laplacian_levels(sharp, mask)
  assert detail.laplacian_levels(blurred.astype(np.uint8), mask) < 0.5 * levels
  assert detail.laplacian_levels(sharp + np.uint8(50), mask) == levels


def test_change_is_the_mean_over_pixels_and_channels():
  rng = np.random.default_rng(0)
  ours, before = rng.integers(0, 256, (2, 5, 7, 3), np.uint8)
  sizes = [abs(int(a) - int(b)) for a, b in zip(ours.ravel(), before.ravel(), strict=True)]
  assert detail.change_levels(ours, before) == pytest.approx(sum(sizes) / len(sizes))


def test_no_step_leads_from_one_run_into_another():
  kept = detail.after_another(np.arange(9.0), [np.arange(2, 5), np.arange(5, 8)])
  np.testing.assert_array_equal(kept, [np.nan, np.nan, np.nan, 3, 4, np.nan, 6, 7, np.nan])


def test_a_ratio_is_of_means_over_the_frames_that_have_both():
  ours, truth = np.array([1, 3, np.nan, 50.0]), np.array([4, 0, 9, np.nan])
  assert detail.ratio_of_means(ours, truth) == pytest.approx((1 + 3) / (4 + 0))
  assert np.isnan(detail.ratio_of_means(ours, np.zeros(4))) and np.isnan(detail.ratio_of_means(ours, np.full(4, np.nan)))


def test_flicker_is_the_mean_difference_of_the_steps():
  ours, truth = np.array([np.nan, 0.2, 0.5, 0.1]), np.array([np.nan, 0.3, 0.3, 0.1])
  assert detail.flicker(ours, truth) == pytest.approx((0.1 + 0.2 + 0) / 3)
  assert detail.flicker(truth, truth) == 0 and np.isnan(detail.flicker(ours[:1], truth[:1]))


def test_the_threshold_lies_a_tenth_above_the_closed_mouth():
  opened = np.arange(101) / 1000  # its 90th percentile is .09
  assert opening.closed_threshold(opened, np.array([0.01, 0.03])) == pytest.approx(0.02 + 0.1 * (0.09 - 0.02))


def test_closures_are_counted_within_runs_and_may_be_a_frame_late():
  #                1st run: closures 1-2, 6, 9       | 2nd: 0
  truth = np.array([9, 0, 0, 9, 9, 9, 0, 9, 9, 0] + [0, 9, 9, 9]) / 10
  ours = np.array([9, 9, 9, 0, 9, 9, 9, 9, 0, 9] + [9, 9, 0, 0]) / 10  # one frame late; missed; one early; missed
  runs = [np.arange(10), np.arange(10, 14)]
  closed, made = 0, 0
  for rows in runs:
    closed += sum(ours[i] < 0.5 for i in rows)
    starts = [i for i in rows if truth[i] < 0.5 and (i == rows[0] or truth[i - 1] >= 0.5)]
    for i in starts:
      end = i
      while end + 1 in rows and truth[end + 1] < 0.5:
        end += 1
      made += any(ours[j] < 0.5 for j in range(i - 1, end + 2) if j in rows)
  found = opening.closures(ours, truth, runs, 0.5)
  assert found == pytest.approx({'closed_share': closed / 14, 'closed_ratio': closed / 5, 'closures_made': made / 4})
  assert made == 2
  assert opening.closures(truth, truth, runs, 0.5) == pytest.approx({'closed_share': 5 / 14, 'closed_ratio': 1, 'closures_made': 1})


def test_a_mouth_that_never_shuts_leaves_nothing_to_compare():
  found = opening.closures(np.full(9, 0.1), np.full(9, 0.2), [np.arange(9)], 0.05)
  assert found['closed_share'] == 0 and np.isnan(found['closed_ratio']) and np.isnan(found['closures_made'])
