"""Where in a sound somebody speaks."""
import numpy as np
import pytest

from speech2lip_jax.common import media
from speech2lip_jax.data import voice_activity
from speech2lip_jax.synthetic import speech
from tests import shared

RATE = 16_000


def noise(seconds, decibels, seed=0):
  """Pink noise of that level relative to full scale, [n] float."""
  spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(seconds * RATE)))
  sound = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 10)), round(seconds * RATE))
  return sound / sound.std() * 10**(decibels / 20) * 32768


@pytest.fixture(scope='module')
def spoken():
  return speech.foreign_sound()[:4 * RATE].astype(np.float64)


def quiet_sounds():
  time = np.arange(6 * RATE) / RATE
  clicks = noise(6, -60)
  clicks[::RATE] += 20000
  hum = sum(600 / k * np.sin(2 * np.pi * 50 * k * time) for k in (1, 2, 3))
  return {'silence': 0 * time, 'room -60 dB': noise(6, -60), 'room -40 dB': noise(6, -40), 'hum': hum + noise(6, -60),
          'clicks': clicks}


@pytest.mark.parametrize('name', quiet_sounds())
def test_nobody_speaks_in(name):
  sound = np.clip(quiet_sounds()[name], -32768, 32767).astype(np.int16)
  assert not voice_activity.speech_frames(sound, 150).any()


@pytest.mark.parametrize('noise_below', [None, 10])
def test_speech_is_found_where_it_is(spoken, noise_below):
  sound = np.concatenate([np.zeros(2 * RATE), spoken, np.zeros(3 * RATE)])
  if noise_below:
    sound += noise(9, 20 * np.log10(spoken.std() / 32768) - noise_below)
  found = voice_activity.speech_frames(sound.astype(np.int16), 225)
  assert found[50:150].mean() > 0.7
  assert not found[:45].any() and not found[158:].any()


def test_the_mouth_may_move_before_and_after_speech_and_eases_in_between():
  spoken = np.zeros(60, bool)
  spoken[20:25] = spoken[31:36] = True
  activity = voice_activity.eased(spoken, lead=0.12, hold=0.08, ramp=0.2)
  assert (activity[17:27] == 1).all() and (activity[28:38] == 1).all(), 'a pause of a quarter of a second stays open'
  assert (np.diff(activity[10:18]) > 0).sum() == 6 and (np.diff(activity[37:44]) < 0).sum() == 6
  assert (activity[:12] == 0).all() and (activity[44:] == 0).all() and np.abs(np.diff(activity)).max() < 0.35
  assert (voice_activity.eased(np.zeros(9, bool), 0.1, 0.1, 0.1) == 0).all()
  assert voice_activity.eased(spoken, 0, 0, 0).tolist() == spoken.astype(float).tolist()


@pytest.mark.parametrize('num_samples', [1, 511, 512, 16_000])
def test_sounds_of_any_length(num_samples):
  num_frames = max(1, round(num_samples / 640))
  assert voice_activity.speech_activity(np.zeros(num_samples, np.int16), num_frames, 0.3, 0.2, 0.2).tolist() == [0] * num_frames


def test_sample_recordings_are_mostly_speech():
  sound, _ = media.read_sound(shared.path('audio/speech_en_60s.wav'), RATE, mono=True)
  assert 0.7 < voice_activity.speech_frames(sound[0], sound.shape[1] // 640).mean() < 0.98
