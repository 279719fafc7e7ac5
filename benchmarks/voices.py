"""Other voices, made from a recording by signal processing: what is said and when stay as they are. NumPy, SciPy, librosa.

A voice is an excitation (the pulses and the noise of the throat) under an envelope (the resonances of the mouth, the formants).
`convert` parts them in short spectra: the envelope is the iterated cepstral one (Röbel and Rodet 2005), the excitation the rest.
The excitation is moved in pitch by a phase vocoder, the envelope is stretched along frequency, and both are put together again,
each moment at its place. Everything is a function of the sound alone: noise has a fixed seed.

Sounds are [m] int16, 16 kHz, mono; what comes back is as long, in time to 5 ms, and as loud where the voice does not say
otherwise.
"""
from collections.abc import Callable

import librosa
import numpy as np
from scipy import signal

from speech2lip_jax.data import schema

RATE = schema.SAMPLE_RATE
N_FFT, WINDOW, HOP = 1024, 640, 160  # samples: 40 ms windows every 10 ms
PITCH_HZ = (60, 400)  # where it is looked for
ENVELOPE_ROUNDS = 12
FLOOR = 1e-3  # int16 steps: spectra of digital silence have a logarithm too
VOICED_BELOW_HZ, BLEND_HZ = 4000, 500  # above, the excitation is noise to the ear and is not moved
PHONE_HZ, PHONE_MU = (300, 3400), 255
SNR_DB, REVERBERATION_S, DIRECT_DB = 15, 0.5, 3
QUIET_DB = -20


def _spectrum(sound: np.ndarray) -> np.ndarray:
  return librosa.stft(sound, n_fft=N_FFT, win_length=WINDOW, hop_length=HOP)


def _sound(spectrum: np.ndarray, length: int) -> np.ndarray:
  return librosa.istft(spectrum, n_fft=N_FFT, win_length=WINDOW, hop_length=HOP, length=length)


def pitch_of(sound: np.ndarray) -> float:
  """The usual pitch of a voice, Hz: the median over the louder half of the sound."""
  pitch = librosa.yin(sound, fmin=PITCH_HZ[0], fmax=PITCH_HZ[1], sr=RATE, frame_length=N_FFT, hop_length=HOP)
  level = librosa.feature.rms(y=sound, frame_length=N_FFT, hop_length=HOP)[0]
  return float(np.median(pitch[level >= np.median(level)]))


def log_envelope(magnitude: np.ndarray, pitch: float) -> np.ndarray:
  """The smooth curve over the peaks of the logarithm of spectra [bins, t]: [bins, t] float64, natural logarithm.

  pitch: Hz; the curve has no detail finer than twice that, so that the single harmonics of the voice stay out of it.
  """
  level = np.log(magnitude.astype(np.float64) + FLOOR)
  keep = round(RATE / (2 * pitch))
  lifter = np.zeros(N_FFT)
  lifter[:keep] = lifter[-keep + 1:] = 1
  target = level
  for _ in range(ENVELOPE_ROUNDS):
    smooth = np.fft.rfft(np.fft.irfft(target, axis=0) * lifter[:, None], axis=0).real
    target = np.maximum(level, smooth)
  return smooth


def change_voice(mono: np.ndarray, semitones: float = 0.0, formants: float = 1.0) -> np.ndarray:
  """The same words by a voice of another pitch (`semitones` higher) and another mouth (all formants times `formants`)."""
  sound = mono.astype(np.float64)
  spectrum = _spectrum(sound)
  pitch = pitch_of(sound)
  envelope = log_envelope(np.abs(spectrum), pitch)
  excitation = spectrum / np.exp(envelope)
  if semitones:
    moved = librosa.effects.pitch_shift(_sound(excitation, len(sound)), sr=RATE, n_steps=semitones, n_fft=N_FFT, hop_length=HOP)
    moved = _spectrum(moved)
    moved /= np.exp(log_envelope(np.abs(moved), pitch * 2 ** (semitones / 12)))
    above = np.clip((librosa.fft_frequencies(sr=RATE, n_fft=N_FFT) - VOICED_BELOW_HZ) / BLEND_HZ, 0, 1)[:, None]
    excitation = above * excitation + (1 - above) * moved
  bins = np.arange(len(envelope))
  place = np.minimum(bins / formants, bins[-1])
  below = np.minimum(place.astype(int), bins[-1] - 1)
  part = (place - below)[:, None]
  stretched = (1 - part) * envelope[below] + part * envelope[below + 1]
  return _as_loud(_sound(excitation * np.exp(stretched), len(sound)), sound)


def over_the_phone(mono: np.ndarray) -> np.ndarray:
  """300 to 3400 Hz, 8 bits by the µ-law."""
  sound = mono.astype(np.float64)
  band = signal.sosfiltfilt(signal.butter(4, PHONE_HZ, 'bandpass', fs=RATE, output='sos'), sound)
  codes = librosa.mu_compress(np.clip(band / max(np.abs(band).max(), 1), -1, 1), mu=PHONE_MU)
  return _as_loud(librosa.mu_expand(codes, mu=PHONE_MU), sound)


def pink_noise(num_samples: int) -> np.ndarray:
  """[num_samples] float64 of standard deviation 1, as much power in every octave."""
  spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(num_samples))
  noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 10)), num_samples)
  return noise / noise.std()


def in_noise(mono: np.ndarray) -> np.ndarray:
  """Pink noise 15 dB below the sound's mean power."""
  sound = mono.astype(np.float64)
  return _samples(sound + np.sqrt(np.square(sound).mean()) * 10 ** (-SNR_DB / 20) * pink_noise(len(sound)))


def in_a_room(mono: np.ndarray) -> np.ndarray:
  """Reverberation that falls by 60 dB in half a second, 3 dB below the direct sound, which stays at its time."""
  sound = mono.astype(np.float64)
  times = np.arange(round(REVERBERATION_S * RATE)) / RATE
  echoes = np.random.default_rng(0).standard_normal(len(times)) * 10 ** (-3 * times / REVERBERATION_S)
  echoes[:round(0.002 * RATE)] = 0  # the nearest wall
  echoes *= 10 ** (-DIRECT_DB / 20) / np.sqrt(np.square(echoes).sum())
  return _as_loud(sound + signal.fftconvolve(sound, echoes)[:len(sound)], sound)


def quiet(mono: np.ndarray) -> np.ndarray:
  """20 dB quieter."""
  return _samples(mono * 10 ** (QUIET_DB / 20))


def _as_loud(sound: np.ndarray, original: np.ndarray) -> np.ndarray:
  power = np.square(sound).mean()
  return _samples(sound * np.sqrt(np.square(original).mean() / power) if power else sound)


def _samples(sound: np.ndarray) -> np.ndarray:
  return np.clip(np.round(sound), -32768, 32767).astype(np.int16)


def _changed(semitones: float, formants: float) -> Callable[[np.ndarray], np.ndarray]:
  return lambda mono: change_voice(mono, semitones, formants)


CONVERSIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    'formants × 0.85': _changed(0, 0.85),
    'formants × 1.15': _changed(0, 1.15),
    '4 semitones lower': _changed(-4, 1),
    '4 semitones higher': _changed(4, 1),
    'deep (6 lower, formants × 0.85)': _changed(-6, 0.85),
    'child (8 higher, formants × 1.2)': _changed(8, 1.2),
    'telephone': over_the_phone,
    'noise, 15 dB': in_noise,
    'reverberation, 0.5 s': in_a_room,
    '20 dB quieter': quiet,
}
