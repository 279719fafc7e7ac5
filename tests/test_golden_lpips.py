"""Parity of LPIPS and ST-LPIPS with the published programs: distance, the five layers' shares, gradient; and their corners."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speech2lip_jax.models import lpips
from speech2lip_jax.released import torch_weights
from tests import goldens

_DISTANCE_ATOL = 2e-5


@functools.cache
def _variables():
  return torch_weights.lpips_from_torch(goldens.weights('lpips'))


@jax.jit
def _distance_and_gradient(variables, rgb_0, rgb_1):
  """((sum of the distances, (distances [B], shares [B, 5])), gradient by rgb_0). The weights are arguments and not
  constants, which the compiler would turn round by itself, slowly."""
  def distance(rgb_0):
    total, per_layer = lpips.Lpips().apply(variables, rgb_0, rgb_1)
    return jnp.sum(total), (total, per_layer)

  return jax.value_and_grad(distance, has_aux=True)(rgb_0)


def _picture(name):
  """An input of the golden file, NCHW −1..1, as ours takes it: NHWC 0..1."""
  return goldens.load('lpips')[name].transpose(0, 2, 3, 1) * np.float32(0.5) + np.float32(0.5)


def _drawn(trunk):
  """Weights of a whole module of ST-LPIPS, drawn in the order of their names: nobody has to carry those of VGG, 59 MB."""
  random, state = np.random.default_rng(0), {}
  for name, shape in sorted((entry.torch_name, entry.shape) for entry in torch_weights.lpips_entries(trunk)):
    if name.endswith('.bias'):
      state[name] = np.float32(0.1) * random.standard_normal(shape, np.float32)
    elif name.startswith('lin'):
      state[name] = random.random(shape, np.float32)
    elif not name.startswith('scaling_layer'):
      state[name] = random.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
  blurs = {f'{layer}.filt': np.ones((64, 1, 3, 3), np.float32) for layer in ('net.slice1.1', 'net.slice2.4')}
  return state | blurs


def _compare_with_golden(network, name, atol, gradient_rtol):
  golden = goldens.load('st_lpips')
  first, second = golden['pictures'][:, None] / np.float32(255)
  @jax.jit
  def distances(variables, first):
    distance, per_layer = lpips.Lpips(network.trunk).apply(variables, first, second)
    return distance[0], per_layer[0]
  (distance, per_layer), gradient = jax.jit(jax.value_and_grad(distances, argnums=1, has_aux=True))(network.variables, first)
  np.testing.assert_allclose(distance, golden[f'{name}_distance'], rtol=0, atol=atol)
  np.testing.assert_allclose(per_layer, golden[f'{name}_per_layer'], rtol=0, atol=atol)
  expected = golden[f'{name}_gradient']
  np.testing.assert_allclose(gradient[0], expected, rtol=0, atol=gradient_rtol * np.abs(expected).max())


@pytest.mark.parametrize('trunk', ['st_alex', 'st_vgg'])
def test_st_lpips_and_its_gradient_match_the_golden_with_drawn_weights(trunk):
  """Pictures of 44×53, where halving meets odd and even sizes."""
  state = _drawn(trunk)
  assert torch_weights.lpips_trunk(state) == trunk
  network = lpips.Perceptual(trunk, torch_weights.lpips_from_torch(state))
  _compare_with_golden(network, f'{trunk}_drawn', 1e-6, goldens.GRADIENT_RTOL)


def test_the_packages_st_lpips_is_the_published_one_but_for_rounding():
  """Its weights are int8; the distance is .4 % below the published one."""
  network = lpips.load_lpips(lpips.OWN)
  assert network.title == 'ST-LPIPS (AlexNet)'
  _compare_with_golden(network, 'st_alex_own', 1e-3, 0.08)


@pytest.mark.parametrize('case', ['a', 'b'])
def test_lpips_and_its_gradient_match_the_golden(case):
  """In a batch whose other half compares a picture with itself: 0."""
  golden = goldens.load('lpips')
  first, second = _picture(f'{case}_in0'), _picture(f'{case}_in1')
  (_, (total, per_layer)), gradient = _distance_and_gradient(_variables(), np.concatenate([first, second]),
                                                                np.concatenate([second, second]))
  expected = 2 * golden[f'{case}_grad_in0'].transpose(0, 2, 3, 1)  # Ours is by values of 0..1, which lie twice as close.
  np.testing.assert_allclose(total, [golden[f'{case}_dist'].item(), 0], rtol=0, atol=_DISTANCE_ATOL)
  np.testing.assert_allclose(per_layer, [golden[f'{case}_per_layer'], np.zeros(5)], rtol=0, atol=_DISTANCE_ATOL)
  goldens.assert_gradient_close(gradient, np.concatenate([expected, 0 * expected]), f'{case}_grad_in0')


def test_gradient_of_lpips_is_finite_where_all_features_are_zero():
  """Kernels of 0 and biases below 0 leave no feature above 0 anywhere, where a vector's length has no derivative."""
  params = {name: layer if name == 'scale' else jax.tree.map(lambda array: -np.abs(array) if array.ndim == 1 else 0 * array, layer)
            for name, layer in _variables()['params'].items()}
  first, second = _picture('a_in0'), _picture('a_in1')
  (total, _), gradient = _distance_and_gradient({'params': params}, np.concatenate([first, second]),
                                                np.concatenate([second, second]))
  assert total == 0
  np.testing.assert_array_equal(gradient, 0)


def test_max_pool_takes_the_largest_and_sends_the_gradient_to_the_first_of_equals():
  x = np.random.default_rng(0).integers(0, 4, (2, 8, 7, 3)).astype(np.float32)
  pooled, gradient = jax.jit(lambda x: (lpips.max_pool(x), jax.grad(lambda x: (lpips.max_pool(x) ** 2).sum())(x)))(x)
  pooled = np.asarray(pooled)
  expected = np.zeros_like(x)
  for b, i, j, c in np.ndindex(pooled.shape):
    block = x[b, 2 * i:2 * i + 3, 2 * j:2 * j + 3, c]
    assert pooled[b, i, j, c] == block.max()
    row, column = np.unravel_index(block.argmax(), block.shape)
    expected[b, 2 * i + row, 2 * j + column, c] += 2 * block.max()
  assert pooled.shape == (2, 3, 3, 3)
  np.testing.assert_array_equal(gradient, expected)


def test_lpips_of_pictures_that_are_too_small_says_so():
  variables = _variables()
  with pytest.raises(ValueError, match='at least 31×31 pixels, got 30×64'):
    lpips.Lpips().apply(variables, *np.zeros((2, 1, 30, 64, 3), np.float32))
  with pytest.raises(ValueError, match='of one shape'):
    lpips.Lpips().apply(variables, np.zeros((1, 40, 64, 3)), np.zeros((1, 64, 64, 3)))
