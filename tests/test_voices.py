"""The other voices of the benchmark of new speech: the same words at the same time."""
import librosa
import numpy as np
import pytest
from scipy import signal

from benchmarks import voices
from speech2lip_jax.synthetic import speech

LATE_BY = 0.005  # seconds


@pytest.fixture(scope='module')
def spoken():
  return speech.foreign_sound()[:2 * voices.RATE]


def lag(sound, original):
  """Seconds by which the sound's energy rises after the original's; it falls later in a room."""
  smooth = signal.butter(2, 30, fs=voices.RATE, output='sos')
  rises = [np.maximum(np.diff(signal.sosfiltfilt(smooth, np.abs(side.astype(np.float64)))), 0) for side in (sound, original)]
  product = signal.correlate(*rises, 'same')
  return (product.argmax() - len(sound) // 2) / voices.RATE


def usual_envelope(sound):
  """[bins, t] of the louder frames, each about its own mean."""
  magnitude = np.abs(voices._spectrum(sound.astype(np.float64)))
  return voices.log_envelope(magnitude, voices.pitch_of(sound.astype(np.float64))), np.square(magnitude).sum(0)


def formant_factor(sound, original):
  """The stretch of frequency under which the envelopes of the original look most like the sound's, from 150 to 3500 Hz."""
  (before, power), (after, _) = usual_envelope(original), usual_envelope(sound)
  loud = power > np.percentile(power, 60)
  bins, about_mean = np.arange(10, 225), lambda envelope: envelope - envelope.mean(0)
  alike = lambda factor: np.corrcoef(
      about_mean(before[np.round(bins / factor).astype(int)][:, loud]).ravel(), about_mean(after[bins][:, loud]).ravel())[0, 1]
  return max(np.arange(0.7, 1.35, 0.01), key=alike)


@pytest.mark.parametrize('name', voices.CONVERSIONS)
def test_another_voice_says_the_same_at_the_same_time(name, spoken):
  sound = voices.CONVERSIONS[name](spoken)
  assert sound.dtype == np.int16 and sound.shape == spoken.shape
  assert abs(lag(sound, spoken)) < LATE_BY
  assert not np.array_equal(sound, spoken)


@pytest.mark.parametrize('semitones, formants', [(-6, 0.85), (8, 1.2), (0, 1.15)])
def test_pitch_and_formants_move_by_their_factors(semitones, formants, spoken):
  sound = voices.change_voice(spoken, semitones, formants)
  pitch = lambda x: librosa.yin(x.astype(np.float64), fmin=60, fmax=400, sr=voices.RATE, frame_length=1024, hop_length=640)
  level = librosa.feature.rms(y=spoken.astype(np.float64), frame_length=1024, hop_length=640)[0]
  moved = np.median((pitch(sound) / pitch(spoken))[level > np.percentile(level, 60)])
  assert moved == pytest.approx(2 ** (semitones / 12), rel=0.03)
  assert formant_factor(sound, spoken) == pytest.approx(formants, abs=0.025)


@pytest.mark.parametrize('name', voices.CONVERSIONS)
def test_silence_stays_silence(name):
  assert not voices.CONVERSIONS[name](np.zeros(voices.RATE, np.int16)).any()
