"""Where the lip field is asked: on the lip image's grid or directly at C2O; and the decoder that stands in for it."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speech2lip_jax.configs import smoke
from speech2lip_jax.data import dataset
from speech2lip_jax.gamem.subject import subject_constants
from speech2lip_jax.models import lip_field
from speech2lip_jax.models.build import build_model
from speech2lip_jax.workdir import state as workdir_state
from tests.toy_subject import rotation, write_toy_subject


@pytest.fixture(scope='module')
def subject(tmp_path_factory):
  return dataset.load_subject(write_toy_subject(tmp_path_factory.mktemp('sampling') / 'toy', size=32, clip_frames=(30,)))


def toy_config(subject, **changes):
  """configs/smoke.py with changes such as compose__sampling='direct'."""
  config = smoke.get_config().unlock()
  config.data.path = str(subject.folder)
  for name, value in changes.items():
    section, field = name.split('__')
    config[section][field] = value
  return config.lock()


class Toy:
  """A model on the toy subject with a field far from 0, and a frame at a pose."""

  def __init__(self, subject, **changes):
    config = toy_config(subject, **changes)
    self.model, self.constants = build_model(subject, config), subject_constants(subject, np.arange(20))
    shapes = jax.eval_shape(lambda constants: workdir_state.create_variables(self.model, constants, config), self.constants)
    rng = np.random.default_rng(0)
    random = lambda shape: (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]) or 1)).astype(np.float32)
    self.variables = jax.tree.map(lambda x: random(x.shape), shapes)
    self.variables['params']['canonical_depth'] = jax.tree.map(np.zeros_like, self.variables['params']['canonical_depth'])
    num_beside = (config.linear.num_components if config.linear.share else 0) + (config.linear.amplitude > 0)
    self.audio_embedding = jax.random.normal(jax.random.key(1), (1, config.audio.num_features + num_beside))
    self.frames = subject.frames[:1] / np.float32(255)

  def composed(self, variables, pose, constants, residual=None):
    """`render` without Blend-Net."""
    return self.model.apply(variables, self.audio_embedding, jnp.zeros(1, jnp.int32), self.frames, pose, constants,
                            residual=residual, method='render')[0]


def head_turned(yaw, pitch):
  pose = np.eye(4, dtype=np.float32)
  pose[:3, :3] = rotation(yaw, pitch)
  pose[:3, 3] = np.array([0, 0, 3.2]) - pose[:3, :3] @ np.array([0, 0, 3.2])
  return pose[None]


@pytest.fixture(scope='module')
def grid(subject):
  return Toy(subject)


@pytest.fixture(scope='module')
def direct(subject):
  return Toy(subject, compose__sampling='direct')


def test_at_the_canonical_pose_the_field_asked_directly_gives_what_is_painted(subject, grid, direct):
  box = subject.meta.lip_box
  residual = 0.1 * np.random.default_rng(0).normal(size=(1, box.height, box.width, 3)).astype(np.float32)
  painted, asked = (jax.jit(toy.composed)(toy.variables, head_turned(0.0, 0.0), toy.constants, residual) for toy in (grid, direct))
  np.testing.assert_allclose(asked.merged, painted.merged, atol=2e-3)  # C2O leaves a pixel's centre by rounding; the field is steep
  assert np.abs(painted.merged - painted.observed).max() > 0.1


def test_at_another_pose_the_field_asked_directly_is_no_resampled_image(grid, direct):
  painted, asked = (jax.jit(toy.composed)(toy.variables, head_turned(0.1, 0.05), toy.constants) for toy in (grid, direct))
  difference = np.abs(np.asarray(asked.merged - painted.merged))
  np.testing.assert_array_equal(asked.mask_mouth, painted.mask_mouth)
  assert difference[~np.asarray(painted.mask_mouth)].max() == 0
  assert difference.max() > 1e-3


def test_the_frame_alone_teaches_every_weight_of_a_field_that_is_asked_directly(direct):
  def loss(params, pose, constants):
    composition = direct.composed(direct.variables | {'params': params}, pose, constants)
    return jnp.mean(jnp.square(composition.merged - composition.observed))
  gradients = jax.jit(jax.grad(loss))(direct.variables['params'], head_turned(0.1, 0.05), direct.constants)
  for path, gradient in jax.tree.leaves_with_path(gradients['lip_field']):
    assert np.isfinite(gradient).all() and np.any(gradient), jax.tree_util.keystr(path)


def test_the_decoder_is_painted_with_and_carried_like_the_field(subject):
  toy = Toy(subject, field__kind='decoder', field__detail_gain=1.0, linear__share=0.0, linear__amplitude=0.0)
  pixels = np.array([0, 7, 23])
  paint = lambda method, *arguments: toy.model.apply(
      toy.variables, toy.audio_embedding, jnp.zeros(1, jnp.int32), *arguments, method=method)
  whole, some = paint('paint', toy.constants), paint('field_pixels', pixels, toy.constants)
  np.testing.assert_array_equal(whole.reshape(1, -1, 3)[:, pixels], some)
  composition = jax.jit(toy.composed)(toy.variables, head_turned(0.1, 0.05), toy.constants)
  assert np.abs(composition.merged - composition.observed).max() > 0.1


def test_the_decoder_paints_lip_images_of_any_size_and_starts_near_black():
  size = (13, 9)
  rgb, variables = jax.jit(lip_field.LipDecoder(size, width=16).init_with_output)(jax.random.key(0), np.ones((2, 8), np.float32))
  assert rgb.shape == (2, *size, 3) and np.abs(rgb).max() < 0.1
  speech = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
  painted = np.asarray(lip_field.LipDecoder(size, width=16).apply(variables, speech))
  assert np.abs(painted[0] - painted[1]).max() > 0


def test_training_seconds_are_the_first_and_leave_validation_and_test_alone(subject):
  whole = dataset.split_frames(subject, toy_config(subject).data)
  short = dataset.split_frames(subject, toy_config(subject, data__max_train_seconds=0.4).data)
  np.testing.assert_array_equal(short.train, whole.train[:10])
  np.testing.assert_array_equal(short.val, whole.val)
  np.testing.assert_array_equal(short.test, whole.test)
  longer = dataset.split_frames(subject, toy_config(subject, data__max_train_seconds=1e6).data)
  np.testing.assert_array_equal(longer.train, whole.train)
