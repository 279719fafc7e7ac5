"""Parity of SyncNet with the released program: embeddings, their cosine, the losses of a fitting and an unfitting pair."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from speech2lip_jax.models import syncnet
from speech2lip_jax.released import torch_weights
from tests import goldens, syncnet_weights


@functools.cache
def _variables():
  return torch_weights.syncnet_from_torch(syncnet_weights.state())


@functools.cache
def _jitted(method):
  return jax.jit(lambda variables, array: syncnet.SyncNet().apply(variables, array, method=method))


def _embed(method, array):
  """Embeddings [2, 512]: every call has a batch of two, so that each network is compiled once."""
  return np.asarray(_jitted(method)(_variables(), array))


def _mel_windows():
  return goldens.load('syncnet')['mel'][:, 0].transpose(0, 2, 1)


@functools.cache
def _cosines():
  """Cosines of the golden windows of faces, [1, 3, 5, 96, 96] RGB each, with the first mel window: {'pos': [1], 'neg': [1]}."""
  golden = goldens.load('syncnet')
  rgb_windows = np.concatenate([golden['rgb_pos'], golden['rgb_neg']]).transpose(0, 2, 3, 4, 1)
  face = _embed('embed_face', syncnet.lower_half_window(jnp.asarray(rgb_windows)))
  cosines = (face * _embed('embed_mel', _mel_windows())[:1]).sum(-1)
  return {'pos': cosines[:1], 'neg': cosines[1:]}


def test_syncnet_weights_rebuilt_from_their_rule_have_the_golden_checksums():
  checksums = goldens.load('syncnet_checksums')
  state = syncnet_weights.state()
  names = {name.removeprefix('check.') for name in checksums}
  assert names == {name for name in state if not name.endswith('num_batches_tracked')}
  for name in names:
    array = state[name].astype(np.float64)
    np.testing.assert_allclose([array.sum(), np.abs(array).sum()], checksums[f'check.{name}'], rtol=1e-6, atol=1e-5, err_msg=name)


def test_face_embeddings_match_the_golden():
  golden = goldens.load('syncnet')
  out = _embed('embed_face', golden['face'].transpose(0, 2, 3, 1))
  np.testing.assert_allclose(out, golden['face_emb'], rtol=0, atol=goldens.CONV_ATOL)
  np.testing.assert_allclose(np.linalg.norm(out, axis=-1), 1, atol=1e-5)


def test_mel_embeddings_match_the_golden():
  out = _embed('embed_mel', _mel_windows())
  np.testing.assert_allclose(out, goldens.load('syncnet')['audio_emb'], rtol=0, atol=goldens.CONV_ATOL)


@pytest.mark.parametrize('kind', ['pos', 'neg'])
def test_cosine_of_a_window_of_faces_and_speech_matches_the_golden(kind):
  np.testing.assert_allclose(_cosines()[kind], goldens.load('syncnet')[f'cos_{kind}'], rtol=0, atol=goldens.CONV_ATOL)


def test_binary_cross_entropy_of_the_cosines_matches_the_golden():
  golden = goldens.load('syncnet')
  losses = {'pos': -np.log(_cosines()['pos']).mean(), 'neg': -np.log1p(-_cosines()['neg']).mean()}
  losses['total'] = losses['pos'] + losses['neg']
  for kind, loss in losses.items():
    np.testing.assert_allclose(loss, golden[f'loss_{kind}'], rtol=0, atol=1e-3, err_msg=kind)


def test_lower_half_window_stacks_the_frames_as_blue_green_red():
  rgb_windows = np.random.default_rng(0).random((2, 5, 96, 96, 3), np.float32)
  face = syncnet.lower_half_window(jnp.asarray(rgb_windows))
  assert face.shape == (2, 48, 96, 15)
  np.testing.assert_array_equal(face[1, 7, 11, 3 * 2 + 0], rgb_windows[1, 2, 48 + 7, 11, 2])
  np.testing.assert_array_equal(face[1, 7, 11, 3 * 4 + 2], rgb_windows[1, 4, 48 + 7, 11, 0])


def test_syncnet_names_a_wrong_shape():
  with pytest.raises(ValueError, match=r'mel windows \[B, 16, 80\], got \(2, 80, 16\)'):
    _embed('embed_mel', np.zeros((2, 80, 16), np.float32))
  with pytest.raises(ValueError, match=r'faces \[B, 48, 96, 15\], got \(1, 96, 96, 15\)'):
    _embed('embed_face', np.zeros((1, 96, 96, 15), np.float32))
