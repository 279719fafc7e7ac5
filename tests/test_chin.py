"""The chin's metrics against loops over their definition."""
import numpy as np
import pytest

from speech2lip_jax.metrics.chin import chin_distance, chin_follows


def test_the_chin_s_distance_is_that_from_the_nose_s_base():
  landmarks = np.zeros((2, 478, 3))
  landmarks[:, 2] = (10, 20, 5)
  landmarks[:, 152] = (13, 24, -9), (10, 50, 5)
  assert chin_distance(landmarks).tolist() == [5, 30]


def test_following_is_correlation_and_slope_within_runs():
  rng = np.random.default_rng(0)
  opening, chin = rng.uniform(0, 0.2, 90), rng.uniform(50, 60, 90)
  runs = [np.arange(30), np.arange(30, 80), np.arange(80, 90)]  # the last is below a second
  total, products, squares, count = 0.0, 0.0, 0.0, 0
  for rows in runs[:2]:
    mean_o, mean_c = sum(opening[rows]) / len(rows), sum(chin[rows]) / len(rows)
    oc = sum((opening[i] - mean_o) * (chin[i] - mean_c) for i in rows)
    oo, cc = sum((opening[i] - mean_o)**2 for i in rows), sum((chin[i] - mean_c)**2 for i in rows)
    total += len(rows) * oc / (oo * cc)**0.5
    products, squares, count = products + oc, squares + oo, count + len(rows)
  corr, slope = chin_follows(chin, {'own': opening}, runs, 25)['own']
  assert corr == pytest.approx(total / count) and slope == pytest.approx(products / squares)


def test_an_old_opening_that_is_like_the_new_one_by_chance_has_a_correlation_but_no_slope():
  times = np.arange(100)
  new = 0.1 + 0.05 * np.sin(times / 3)
  old = 0.5 * new + 0.02 * np.cos(times / 5)
  dubbed = chin_follows(70 + 40 * new, {'new': new, 'old': old}, [times], 25)
  assert dubbed['new'] == pytest.approx((1, 40)) and dubbed['old'][0] > 0.5 and dubbed['old'][1] == pytest.approx(0, abs=1e-9)
  leaked = chin_follows(70 + 10 * new + 30 * old, {'new': new, 'old': old}, [times], 25)
  assert (leaked['new'][1], leaked['old'][1]) == pytest.approx((10, 30))


def test_neither_where_the_head_stands_nor_frames_without_a_face_count():
  times = np.arange(120)
  opening = 0.1 + 0.05 * np.sin(times / 3)
  chin = np.where(times < 60, 70, 90) + 40 * opening
  chin[10:20] = opening[70] = np.nan
  runs = [times[:60], times[60:]]
  assert chin_follows(chin, {'own': opening}, runs, 25)['own'] == pytest.approx((1, 40))
  still = np.full(120, 70.0)
  assert chin_follows(still, {'own': opening}, runs, 25)['own'] == pytest.approx((0, 0)), 'a still chin follows nothing'
  assert np.isnan(chin_follows(chin, {'own': np.zeros(120)}, runs, 25)['own']).all()
  assert np.isnan(chin_follows(np.full(120, np.nan), {'own': opening}, runs, 25)['own']).all()
