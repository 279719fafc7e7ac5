"""The detail of real mouths, which painted ones get."""
import dataclasses

import jax
import numpy as np
import pytest

from speech2lip_jax.data import dataset
from speech2lip_jax.rendering import real_detail
from tests.toy_subject import write_toy_subject


@pytest.fixture(scope='module')
def subject(tmp_path_factory):
  """A toy subject whose lips are of one colour each, with a sharp pattern of its own on them."""
  subject = dataset.load_subject(write_toy_subject(tmp_path_factory.mktemp('detail') / 'toy', clip_frames=(40,)))
  random, shape = np.random.default_rng(0), subject.rgb_lip_canonical.shape
  colours = np.linspace(60, 190, shape[0])[:, None, None, None]
  return dataclasses.replace(subject, rgb_lip_canonical=np.uint8(np.broadcast_to(colours, shape) + random.integers(-40, 41, shape)))


def added(rgb_lip, detail):
  return np.asarray(jax.jit(real_detail.added)(rgb_lip, detail))


def test_blurred_lips_get_the_detail_of_the_mouth_that_they_look_like(subject):
  true = subject.rgb_lip_canonical[10:13] / np.float32(255)
  soft = np.asarray(real_detail._blurred(true))
  whole = added(soft, real_detail.open_detail(subject, np.arange(40), 1.0))
  detail = true - soft
  assert np.corrcoef(whole.ravel(), detail.ravel())[0, 1] > 0.95, 'their own soft pattern goes, the sharp one comes'
  half = added(soft, real_detail.open_detail(subject, np.arange(40), 0.5))
  np.testing.assert_allclose(half, whole / 2, atol=1e-6)


def test_real_lips_stay_as_they_are(subject):
  true = subject.rgb_lip_canonical[5:8] / np.float32(255)
  np.testing.assert_allclose(added(true, real_detail.open_detail(subject, np.arange(40), 1.0)), 0, atol=1e-6)


def test_only_training_frames_are_looked_through(subject):
  true = subject.rgb_lip_canonical[5:8] / np.float32(255)
  others = real_detail.open_detail(subject, np.arange(20, 40), 1.0)
  assert len(others.rgb_lip) == len(others.coarse) == 20
  assert np.abs(added(true, others)).max() > 0.05


def test_of_many_frames_some_are_looked_through(subject, monkeypatch):
  monkeypatch.setattr(real_detail, 'MOST_FRAMES', 7)
  assert len(real_detail.open_detail(subject, np.arange(40), 1.0).rgb_lip) == 7


def test_lips_of_one_colour_are_blurred_to_that_colour():
  rgb = np.full((1, 9, 30, 3), 0.25, np.float32)
  np.testing.assert_allclose(real_detail._blurred(rgb), 0.25, atol=1e-6)
