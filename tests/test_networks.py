"""Meaning of the networks: batches, sizes, devices, and the conversion's guards."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.models import audio_net, blend_net, lip_field
from speech2lip_jax.models.initial_weights import drawn_as_pytorch
from speech2lip_jax.released import torch_weights
from tests import goldens


@pytest.mark.parametrize('num_steps, num_convs', [(16, 4), (32, 5), (64, 6)])
def test_audio_net_adds_a_convolution_for_every_doubling_of_the_window(num_steps, num_convs):
  network = audio_net.AudioNet(num_features=48)
  out, variables = jax.jit(network.init_with_output)(jax.random.key(0), jnp.ones((3, num_steps, 80)))
  assert out.shape == (3, 48)
  assert sum(name.startswith('conv_') for name in variables['params']) == num_convs


@pytest.mark.parametrize('num_steps', [8, 24])
def test_audio_net_refuses_windows_that_do_not_halve_to_one_step(num_steps):
  with pytest.raises(ValueError, match=f'{num_steps} steps'):
    audio_net.AudioNet().init(jax.random.key(0), jnp.ones((1, num_steps, 29)))


def _field_inputs(batch=3):
  rng = np.random.default_rng(0)
  return (rng.uniform(size=(batch, 50, 2)).astype(np.float32), rng.normal(size=(batch, 64)).astype(np.float32),
          np.array([3, 800, 5000])[:batch])


def test_lip_field_and_ensemble_of_a_batch_equal_their_samples():
  coords, audio, index = _field_inputs()
  field = lip_field.LipField(width=32, use_time=True)
  variables = jax.jit(field.init)(jax.random.key(0), coords, audio, index)

  @jax.jit
  def paint(coords, audio, index, rand):
    rgb = field.apply(variables, coords, audio, index)
    at = lambda places: field.apply(variables, places, audio, index)
    return rgb, lip_field.local_ensemble(at, coords, (24, 36), rand)

  rands = jnp.array([0.0, 0.3, 0.9])
  batch = paint(coords, audio, index, rands)
  for i in range(3):
    for got, alone in zip(batch, paint(coords[i:i + 1], audio[i:i + 1], index[i:i + 1], rands[i])):
      np.testing.assert_allclose(got[i], alone[0], atol=2e-5)


def test_lip_field_without_time_has_no_time_parameters_and_needs_no_index():
  coords, audio, _ = _field_inputs()
  rgb, variables = lip_field.LipField(width=32).init_with_output(jax.random.key(0), coords, audio)
  assert rgb.shape == (3, 50, 3)
  assert not any(name.startswith('time') for name in variables['params'])


def test_ensemble_weights_sum_to_one_even_where_all_four_points_fall_on_a_corner():
  coords = np.float32([[[0, 0], [1, 1], [0.5, 0.5], [0, 1]]])
  constant = lip_field.local_ensemble(lambda places: jnp.full((*places.shape[:2], 3), 0.7), coords, (24, 36), 0.5)
  np.testing.assert_allclose(constant, 0.7, rtol=1e-6)


def test_parameter_counts_are_those_of_the_released_program():
  count = lambda variables: sum(array.size for array in jax.tree.leaves(variables['params']))
  field = jax.eval_shape(lip_field.LipField(use_time=True).init, jax.random.key(0), *_field_inputs())
  blend = jax.eval_shape(blend_net.BlendNet().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  assert (count(field), count(blend)) == (658_691, 1_036_035)


def test_pytorchs_first_weights_are_uniform_by_the_number_of_inputs_biases_too():
  params = jax.eval_shape(blend_net.BlendNet(residual=False).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))['params']
  params = jax.tree.map(lambda like: jnp.full(like.shape, 2.0), params)
  params |= {'dense': {'kernel': jnp.zeros((100, 64)), 'bias': jnp.zeros(64)}, 'correction': jnp.ones(3)}
  drawn = drawn_as_pytorch(params, jax.random.key(1))
  assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, params)
  for array, bound in ((drawn['inc']['conv_1']['kernel'], 1 / 24), (drawn['dense']['kernel'], 0.1), (drawn['dense']['bias'], 0.1)):
    assert 0.9 * bound < np.abs(array).max() <= bound
    np.testing.assert_allclose(np.std(array), bound / np.sqrt(3), rtol=0.2)
  kept = lambda tree: (tree['inc']['norm_0'], tree['correction'])
  jax.tree.map(np.testing.assert_array_equal, kept(drawn), kept(params))
  assert not np.array_equal(drawn['down_1']['conv_1']['kernel'], drawn['down_2']['conv_0']['kernel']), 'each layer has its own'


def test_residual_blend_net_starts_as_the_identity_and_learns():
  image = jax.random.uniform(jax.random.key(1), (2, 14, 9, 3))
  network = blend_net.BlendNet(residual=True)
  out, variables = jax.jit(network.init_with_output)(jax.random.key(0), image)
  np.testing.assert_array_equal(out, image)
  loss = lambda params: jnp.mean(jnp.square(network.apply(variables | {'params': params}, image)))
  gradient = jax.jit(jax.grad(loss))(variables['params'])
  assert np.abs(gradient['out']['kernel']).max() > 0


def test_blend_net_with_running_statistics_treats_every_sample_alone():
  images = jax.random.uniform(jax.random.key(1), (3, 16, 20, 3))
  network = blend_net.BlendNet(residual=False)
  variables = jax.jit(network.init)(jax.random.key(0), images)
  apply = jax.jit(network.apply)
  alone = jnp.concatenate([apply(variables, image[None]) for image in images])
  np.testing.assert_allclose(apply(variables, images), alone, atol=goldens.CONV_ATOL)


def test_upsampling_is_linear_interpolation_that_keeps_both_ends():
  x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
  up = np.asarray(blend_net.upsample(x, align_corners=True))
  rows, columns = np.linspace(0, 4, 10), np.linspace(0, 6, 14)
  expected = np.apply_along_axis(lambda line: np.interp(rows, np.arange(5), line), 1, x)
  expected = np.apply_along_axis(lambda line: np.interp(columns, np.arange(7), line), 2, expected)
  np.testing.assert_allclose(up, expected, atol=1e-5)
  assert blend_net.upsample(x[:, :1, :1], align_corners=True).shape == (2, 2, 2, 3)


def test_upsampling_without_kept_ends_is_that_of_pixel_centres():
  x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
  np.testing.assert_allclose(blend_net.upsample(x, align_corners=False), jax.image.resize(x, (2, 10, 14, 3), 'linear'), atol=1e-5)


def test_blend_net_on_a_window_gives_the_whole_frames_picture_inside_its_receptive_margin():
  frame = jax.random.uniform(jax.random.key(1), (1, 96, 112, 3))
  network = blend_net.BlendNet(width=16, residual=False)
  variables = jax.jit(network.init)(jax.random.key(0), frame)
  apply, margin = jax.jit(network.apply), blend_net.RECEPTIVE_MARGIN
  top, left, height, width = 8, 12, 72, 80  # corners on the grid of the pooling
  whole = apply(variables, frame)[:, top:top + height, left:left + width]
  window = apply(variables, frame[:, top:top + height, left:left + width])
  inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
  np.testing.assert_allclose(window[inner], whole[inner], atol=1e-5)
  assert np.abs(window - whole).max() > 1e-3  # at the rim it sees another surrounding


def test_pooling_gives_each_block_one_gradient_and_the_first_of_equals_takes_it():
  x = jnp.array([[1.0, 1.0, 5.0], [1.0, 1.0, 6.0]]).reshape(1, 2, 3, 1)
  np.testing.assert_array_equal(blend_net.max_pool(x), np.ones((1, 1, 1, 1)))
  gradient = jax.grad(lambda x: jnp.sum(blend_net.max_pool(x)))(x)
  np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize('devices', [2, 8])
def test_batch_norm_over_devices_equals_one_device_with_the_whole_batch(devices):
  x = 3 + np.random.default_rng(0).normal(size=(8, 6, 5, 4)).astype(np.float32)
  target = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
  alone, across = blend_net.BatchNorm(), blend_net.BatchNorm(axis_name='devices')
  variables = across.init(jax.random.key(0), x, True)

  def step(module, variables, x, target):
    def loss(params, x):
      out, updated = module.apply(variables | {'params': params}, x, True, mutable=['batch_stats'])
      return jnp.mean(jnp.square(out - target)), (out, updated)
    gradients, (out, updated) = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables['params'], x)
    return gradients, out, updated

  (by_params, by_x), out, updated = step(alone, variables, x, target)
  split = lambda array: array.reshape(devices, -1, *array.shape[1:])

  def device_step(variables, x, target):
    (by_params, by_x), out, updated = step(across, variables, x, target)
    return (jax.lax.pmean(by_params, 'devices'), by_x / devices), out, updated

  replicated = jax.tree.map(lambda array: jnp.stack([array] * devices), variables)
  parallel_step = jax.pmap(device_step, axis_name='devices')
  (by_params_n, by_x_n), out_n, updated_n = parallel_step(replicated, split(x), split(target))
  np.testing.assert_allclose(out_n.reshape(x.shape), out, atol=1e-5)
  np.testing.assert_allclose(by_x_n.reshape(x.shape), by_x, atol=1e-7)
  for one, many in zip(jax.tree.leaves((by_params, updated)), jax.tree.leaves((by_params_n, updated_n))):
    for device in many:
      np.testing.assert_allclose(device, one, rtol=1e-5, atol=1e-6)


def test_gradients_of_batch_norm_are_finite_on_a_constant_image():
  module = blend_net.BatchNorm()
  x = jnp.full((1, 4, 4, 2), 0.3)
  variables = module.init(jax.random.key(0), x, True)
  gradient = jax.grad(lambda x: jnp.sum(module.apply(variables, x, True, mutable=['batch_stats'])[0]**2))(x)
  assert np.isfinite(gradient).all()


def _blend_state():
  """A torch state dict of Blend-Net's names with random arrays of few channels."""
  sizes = {1: (3,), 2: (3, 2), 4: (3, 2, 1, 1)}
  return {entry.torch_name: np.ones(sizes[len(entry.axes)], np.float32) for entry in torch_weights.blend_net_entries()}


def test_conversion_names_a_missing_weight():
  state = _blend_state()
  del state['outc.conv.bias']
  with pytest.raises(InputError, match='outc.conv.bias: missing'):
    torch_weights.blend_net_from_torch(state)


def test_conversion_names_an_unexpected_weight_and_leaves_out_the_dead_ones():
  state = _blend_state() | {'inc.double_conv.1.num_batches_tracked': np.zeros(())}
  assert set(torch_weights.blend_net_from_torch(state)) == {'params', 'batch_stats'}
  with pytest.raises(InputError, match='inc.extra.weight: unexpected'):
    torch_weights.blend_net_from_torch(state | {'inc.extra.weight': np.zeros(3)})


def test_conversion_names_a_weight_of_the_wrong_rank():
  with pytest.raises(InputError, match='outc.conv.weight: has shape'):
    torch_weights.blend_net_from_torch(_blend_state() | {'outc.conv.weight': np.zeros((3, 64))})


def test_converted_trees_have_exactly_the_shapes_of_fresh_ones():
  audio_variables, field_variables = torch_weights.speech_part_from_torch(goldens.weights('field_params'))
  blend_variables = torch_weights.blend_net_from_torch(goldens.weights('blendnet_params'))
  width = field_variables['params']['rgb']['kernel'].shape[0]
  field = lip_field.LipField(width=width, use_time=True)
  audio = goldens.load('audio_encoder')['audio']
  for converted, fresh in (
      (audio_variables, jax.eval_shape(audio_net.AudioNet().init, jax.random.key(0), audio)),
      (field_variables, jax.eval_shape(field.init, jax.random.key(0), *_field_inputs())),
      (blend_variables, jax.eval_shape(blend_net.BlendNet().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))))):
    assert jax.tree.map(np.shape, converted) == jax.tree.map(np.shape, dict(fresh))
