"""Perceptual training: what the network is shown, and that it never judges itself."""
import jax
import numpy as np
import pytest

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.configs import default
from speech2lip_jax.models import lpips
from speech2lip_jax.report import held_out
from speech2lip_jax.training import losses


def test_lips_are_enlarged_at_another_place_and_size_each_and_the_true_ones_alike():
  random = np.random.default_rng(0)
  rgb = np.broadcast_to(random.random((1, 12, 17, 3)), (6, 12, 17, 3)).astype(np.float32)
  true = 1 - rgb
  keys = jax.random.split(jax.random.key(0), 6)
  shown, shown_true = jax.jit(losses.enlarged, static_argnums=4)(keys, rgb, true, (12, 17), (36, 51))
  assert shown.shape == shown_true.shape == (6, 36, 51, 3)
  np.testing.assert_allclose(shown + shown_true, 1, atol=1e-5, err_msg='a kernel whose weights sum to 1 keeps the sum of both')
  distances = [np.abs(shown[i] - shown[j]).mean() for i in range(6) for j in range(i)]
  assert min(distances) > 0.01, 'two are shown in the same way'


def test_what_is_cropped_lies_inside_the_lips():
  """From beyond the border, where an enlargement reads nothing, comes nothing: one colour stays that colour."""
  rgb = np.full((32, 20, 30, 3), 0.25, np.float32)
  shown, _ = jax.jit(losses.enlarged, static_argnums=4)(jax.random.split(jax.random.key(1), 32), rgb, rgb, (20, 30), (40, 56))
  np.testing.assert_allclose(shown, 0.25, atol=1e-5)


def test_the_network_that_a_run_was_trained_by_does_not_judge_it(tmp_path):
  config, own = default.get_config(), lpips.load_lpips(lpips.OWN)
  path, other = str(tmp_path / 'alex.npz'), str(tmp_path / 'other.npz')
  lpips.save_lpips(path, 'st_alex', own.variables)
  lpips.save_lpips(other, 'alex', own.variables)  # LPIPS v0.1 has weights of the same shapes
  with pytest.raises(InputError, match=r'is ST-LPIPS \(AlexNet\), by which this run was trained'):
    held_out.check_not_trained_by(config, path)
  held_out.check_not_trained_by(config, other)
  held_out.check_not_trained_by(config, None)
  config.loss.lip_perceptual_weight = 0.0
  held_out.check_not_trained_by(config, path)
