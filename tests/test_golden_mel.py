"""Parity with the released program: log-mel and the expert's windows."""
import numpy as np
import pytest

from speech2lip_jax.data import mel
from tests import goldens


@pytest.mark.parametrize('fmin', [55, 95])
def test_log_mel_matches_the_golden_for_both_filter_banks(fmin):
  golden = goldens.load('mel')
  np.testing.assert_allclose(mel.filter_bank(float(fmin), 7600.0), golden[f'basis_{fmin}'], rtol=0, atol=1e-7)
  features = mel.log_mel(golden['wav'], fmin=float(fmin))
  assert features.dtype == np.float32
  np.testing.assert_allclose(features.T, golden[f'mel_{fmin}'], rtol=0, atol=goldens.FIELD_ATOL)


def test_mel_crops_match_the_golden_and_stop_at_the_end():
  golden = goldens.load('mel')
  crops = golden['crops_95']
  for start, crop in zip(golden['crop_starts'].astype(int), crops):
    np.testing.assert_array_equal(mel.mel_crop(golden['mel_95'].T, start, crops.shape[1]), crop)
