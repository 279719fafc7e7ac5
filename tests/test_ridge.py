"""Lips by regression from the sound, beside the mean of the nearest."""
import types

import numpy as np
import pytest

from speech2lip_jax.data import regression
from speech2lip_jax.data.dataset import Split
from speech2lip_jax.report import held_out, ridge

SPLIT = Split(np.arange(240), np.arange(240, 280), np.arange(280, 340))


def made_subject(monkeypatch, lips_of_windows):
  """A subject of random windows [340, 2, 6], whose lips [340, 4, 5, 3] a function of the flat windows gives, and the windows."""
  windows = np.random.default_rng(0).normal(size=(340, 2, 6)).astype(np.float32)
  lips = np.clip(0.5 + lips_of_windows(windows.reshape(340, -1)), 0, 1)
  monkeypatch.setattr(ridge, 'subject_mel_windows', lambda subject, ids, num_steps: windows[ids])
  return types.SimpleNamespace(rgb_lip_canonical=np.round(255 * lips).astype(np.uint8).reshape(340, 4, 5, 3)), windows


def errors(subject, windows):
  """Root mean square of each method on the test frames, by name."""
  rows, lips = np.arange(len(SPLIT.test)), subject.rgb_lip_canonical / np.float32(255)
  painted = {name: paint(rows) for name, paint in ridge.regressed_lips(subject, SPLIT, 2).items()}
  known = np.concatenate([SPLIT.train, SPLIT.val])
  nearest = known[held_out.nearest_windows(windows[SPLIT.test], windows[known], 8)]
  painted['nearest_8_mean'] = lips[nearest].mean(1)
  return {name: np.sqrt(np.square(made - lips[SPLIT.test]).mean()) for name, made in painted.items()}


def test_ridge_finds_what_is_linear(monkeypatch):
  matrix = np.random.default_rng(1).normal(size=(12, 60)) * 0.03
  error = errors(*made_subject(monkeypatch, lambda flat: flat @ matrix))
  assert error['ridge'] < 0.01 < 0.04 < error['nearest_8_mean']


def test_kernel_ridge_finds_what_is_not(monkeypatch):
  matrix = np.random.default_rng(1).normal(size=(12, 60)) * 0.06
  error = errors(*made_subject(monkeypatch, lambda flat: np.cos(flat) @ matrix))
  assert error['kernel_ridge'] < 0.8 * min(error['ridge'], error['nearest_8_mean'])


def test_no_regression_sees_the_lips_of_test_frames(monkeypatch):
  subject, _ = made_subject(monkeypatch, lambda flat: 0.1 * flat[:, :1] * np.ones(60))
  paint_all = lambda: [paint(np.arange(60)) for paint in ridge.regressed_lips(subject, SPLIT, 2).values()]
  before = paint_all()
  subject.rgb_lip_canonical[SPLIT.test] = 0
  np.testing.assert_array_equal(before, paint_all())
  subject.rgb_lip_canonical[SPLIT.val] = 0
  assert np.abs(np.subtract(before, paint_all())).max() > 0.01, 'the final fit is to validation frames too'


@pytest.mark.parametrize('method, settings', ridge.METHODS.values(), ids=ridge.METHODS)
def test_a_sound_without_any_change_gives_the_mean(method, settings):
  windows, coefficients = np.full((30, 8), -4, np.float32), np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
  for setting in settings:
    np.testing.assert_allclose(method(windows, coefficients)(windows[:2], *setting), [coefficients.mean(0)] * 2, atol=1e-4)


def test_components_are_those_of_the_frames():
  lips = np.random.default_rng(0).integers(0, 256, (12, 4, 5, 3), np.uint8)
  components = regression.LipComponents.of(lips, ridge.NUM_COMPONENTS)
  coefficients, distances = components.coefficients(lips, np.arange(12))
  np.testing.assert_allclose(components.axes.T @ components.axes, np.eye(11), atol=1e-5)
  np.testing.assert_allclose(components.painter(coefficients)(np.arange(12)), lips / 255, atol=1e-5)
  np.testing.assert_allclose(distances, 0, atol=1e-4)
