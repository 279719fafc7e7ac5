"""Head depth is found again from how the head's pixels move."""
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from speech2lip_jax.configs import default
from speech2lip_jax.data.dataset import load_subject, split_frames
from speech2lip_jax.gamem import learn_depth
from speech2lip_jax.gamem.depth import CanonicalDepth, node_weights
from speech2lip_jax.gamem.module import gamem_of
from speech2lip_jax.gamem.subject import subject_constants, subject_geometry
from tests.toy_subject import write_toy_subject


@pytest.fixture(scope='module')
def scene(tmp_path_factory):
  """A toy subject whose depth outside the face is taken for 8 % too far."""
  config = default.get_config()
  subject = load_subject(write_toy_subject(tmp_path_factory.mktemp('toy') / 'subject', size=96, clip_frames=(120,)))
  split = split_frames(subject, config.data)
  true = subject_constants(subject, split.train)
  wrong = true._replace(depth_tracked=true.depth_tracked * (1 + 0.08 * true.outside_face))
  return subject, split, gamem_of(subject_geometry(subject, config), config), config, true, wrong


def _depth(nodes, constants, config):
  module = CanonicalDepth(config.depth.cell)
  return np.asarray(module.apply({'params': {'log_correction': jnp.asarray(nodes)}}, constants.depth_tracked,
                                 constants.outside_face))


def test_a_wrong_depth_outside_the_face_is_learned_and_the_face_is_kept(scene):
  subject, split, gamem, config, true, wrong = scene
  nodes = learn_depth.learn(gamem, subject, split.train, wrong, config.depth)
  learned = _depth(nodes, wrong, config)
  head = (true.mask_head_only > 0) & (true.outside_face > 0.5)
  error = lambda depth: np.abs(depth / true.depth_tracked - 1)[head].mean()
  assert error(learned) < 0.4 * error(wrong.depth_tracked)
  np.testing.assert_array_equal(learned[true.outside_face == 0], wrong.depth_tracked[true.outside_face == 0])
  held_out = (subject.frames[split.test], subject.observed_from_canonical[split.test])
  photometric = lambda depth: learn_depth.photometric_error(gamem, depth, wrong, *held_out)
  assert photometric(learned) < 0.7 * photometric(wrong.depth_tracked)


@pytest.mark.slow
def test_a_head_that_never_turns_keeps_its_tracked_depth(scene):
  subject, split, gamem, config, _, wrong = scene
  still = np.repeat(subject.observed_from_head[:1], len(subject.frames), axis=0)
  nodes = learn_depth.learn(gamem, dataclasses.replace(subject, observed_from_head=still), split.train, wrong,
                           config.depth)
  np.testing.assert_allclose(nodes, 0, atol=1e-6)


def test_frames_that_differ_most_come_first():
  poses = np.tile(np.eye(4), (50, 1, 1))
  turn = np.concatenate([np.zeros(40), np.linspace(-0.3, 0.3, 10)])
  poses[:, 0, 0], poses[:, 0, 2], poses[:, 2, 0], poses[:, 2, 2] = np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)
  poses[:, 2, 3] = 4
  assert set(learn_depth.varied_frames(poses, 2).tolist()) == {40, 49}


@pytest.mark.parametrize('size', [64, 96, 250])
def test_node_weights_share_every_pixel_among_the_nodes(size):
  weights = node_weights(size, 16)
  np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
  assert (weights >= 0).all() and (weights.sum(0) > 0).all()
