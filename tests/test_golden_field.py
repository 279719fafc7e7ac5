"""Parity with the released program: codes of place and time, AudioNet, lip field, continuous sampling."""
import functools

import jax
import numpy as np
import pytest

from speech2lip_jax.models import audio_net, lip_field
from speech2lip_jax.ops import encoding
from speech2lip_jax.released import torch_weights
from tests import goldens


def _models(name):
  """AudioNet and LipField as functions with the weights of golden file `name`."""
  weights = goldens.weights(name)
  audio_variables, field_variables = torch_weights.speech_part_from_torch(weights)
  field = lip_field.LipField(width=weights['fc_uv.weight'].shape[0], use_time=True)
  return (jax.jit(functools.partial(audio_net.AudioNet().apply, audio_variables)),
          jax.jit(functools.partial(field.apply, field_variables)))


def test_position_code_matches_the_golden():
  golden = goldens.load('embeddings')
  np.testing.assert_allclose(encoding.encode_position(golden['uv']), golden['uv_out'], rtol=0, atol=goldens.FIELD_ATOL)


def test_time_code_matches_the_golden_entry_by_entry():
  golden = goldens.load('embeddings')
  np.testing.assert_allclose(encoding.encode_time(golden['time']), golden['time_out'], rtol=0, atol=goldens.FIELD_ATOL)


def test_time_code_of_a_batch_begins_with_what_the_released_program_gives_the_whole_batch():
  golden = goldens.load('embeddings')
  code = encoding.encode_time(golden['time_multi_in'].ravel())
  np.testing.assert_allclose(code[0], golden['time_multi_out'], rtol=0, atol=goldens.FIELD_ATOL)


def test_audio_net_matches_the_golden():
  golden = goldens.load('audio_encoder')
  encode, _ = _models('field_params')
  np.testing.assert_allclose(encode(golden['audio']), golden['out'], rtol=0, atol=goldens.FIELD_ATOL)


@pytest.mark.parametrize('name, weights', [('lip_field', 'field_params'), ('lip_field_w256', 'lip_field_w256')])
def test_lip_field_matches_the_golden(name, weights):
  golden = goldens.load(name)
  encode, field = _models(weights)
  audio = encode(golden['audio'])
  np.testing.assert_allclose(audio, golden['audio_feat'], rtol=0, atol=goldens.FIELD_ATOL)
  rgb = field(golden['coords'][None], audio, golden['index'][None])
  np.testing.assert_allclose(rgb[0], golden['out'], rtol=0, atol=goldens.FIELD_ATOL)


def test_pixel_coords_are_the_goldens_coords():
  golden = goldens.load('lip_field')
  height, width = golden['hw'].astype(int)
  np.testing.assert_allclose(lip_field.pixel_coords(height, width), golden['coords'], rtol=0, atol=1e-7)


def test_local_ensemble_matches_the_golden_for_every_shift_in_one_batch():
  golden = goldens.load('local_ensemble')
  encode, field = _models('field_params')
  rands = golden['rand_values']
  repeat = lambda array: np.repeat(np.asarray(array)[None], len(rands), axis=0)
  audio, index = repeat(encode(golden['audio'])[0]), repeat(golden['index'])
  rgb = lip_field.local_ensemble(lambda coords: field(coords, audio, index), repeat(golden['coords']),
                                 tuple(golden['hw'].astype(int)), rands)
  for got, rand in zip(rgb, rands):
    np.testing.assert_allclose(got, golden[f'out_rand_{rand:g}'], rtol=0, atol=goldens.FIELD_ATOL)
