"""Log-mel features: 80 bands, 80 steps a second, −4..4 (the scale of Wav2Lip's expert and of the released program)."""
import functools

import numpy as np

from speech2lip_jax.data.schema import FPS, MEL_STEPS_PER_SECOND, NUM_MEL_BANDS, SAMPLE_RATE

_WINDOW = 800
_HOP = SAMPLE_RATE // MEL_STEPS_PER_SECOND
_PRE_EMPHASIS = 0.97
_STEPS_AT_ONCE = 60 * MEL_STEPS_PER_SECOND
_LEAST_RANGE = 0.5  # of the steps' means, mel units of 12.5 dB, where there is speech


@functools.lru_cache(maxsize=8)
def filter_bank(fmin: float, fmax: float) -> np.ndarray:
  """Slaney mel filters [80, 401] float32, area-normalised; rows are bands from fmin to fmax Hz, columns STFT bins."""
  import librosa  # Slow to import, and needed for sound only.
  return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=_WINDOW, n_mels=NUM_MEL_BANDS, fmin=fmin, fmax=fmax)


def log_mel(wav: np.ndarray, fmin: float = 55.0, fmax: float = 7600.0) -> np.ndarray:
  """Log-mel of a whole signal; computed in float64, a minute at a time.

  Pre-emphasis, STFT (window and n_fft 800, hop 200, periodic Hann, centred, zeros around), magnitudes, mel filters,
  decibels less 20, and a linear map that takes −100 dB (magnitude 1e-4) to −4 and 0 dB (magnitude 10) to 4, clipped.

  Args:
    wav: [n] float32 −1..1 or int16, 16 kHz mono.
    fmin, fmax: band limits, Hz.

  Returns:
    [n // 200 + 1, 80] float32 −4..4; step k is centred on sample 200·k.
  """
  num_steps = len(wav) // _HOP + 1
  parts = [_log_mel_of(wav, start, min(start + _STEPS_AT_ONCE, num_steps), filter_bank(fmin, fmax))
           for start in range(0, num_steps, _STEPS_AT_ONCE)]
  return np.concatenate(parts)


def _log_mel_of(wav: np.ndarray, start: int, stop: int, filters: np.ndarray) -> np.ndarray:
  """Steps start … stop − 1 of `log_mel`."""
  import librosa  # Slow to import, and needed for sound only.
  first, last = start * _HOP - _WINDOW // 2, (stop - 1) * _HOP + _WINDOW // 2
  low, high = max(first - 1, 0), min(last, len(wav))  # the emphasis looks one sample back
  heard = wav[low:high] / 32768 if wav.dtype == np.int16 else wav[low:high].astype(np.float64)
  before = np.concatenate([np.zeros(1), heard[:-1]])[:len(heard)]
  emphasised = np.pad(heard - _PRE_EMPHASIS * before, (max(low - first, 0), last - high))[max(first - low, 0):]
  spectrum = librosa.stft(emphasised, n_fft=_WINDOW, hop_length=_HOP, win_length=_WINDOW, center=False)
  decibels = 20 * np.log10(np.maximum(1e-5, filters @ np.abs(spectrum))) - 20
  return np.clip(8 * (decibels + 100) / 100 - 4, -4, 4).T.astype(np.float32)


def mean_spectrum(mel: np.ndarray) -> tuple[np.ndarray, int]:
  """Mean of a recording's loud steps, band by band: what microphone, room and voice have in common.

  Loud: above 0.4 of the way from the 5th to the 95th percentile of the steps' means, and that far apart as speech is from pauses.

  mel: [M, 80] float32 −4 … 4.

  Returns:
    [80] float32, and how many steps are loud: 0 in even noise or silence, where the mean is 0.
  """
  loudness = mel.mean(1)
  low, high = np.percentile(loudness, (5, 95))
  if high - low < _LEAST_RANGE:
    return np.zeros(NUM_MEL_BANDS, np.float32), 0
  loud = mel[loudness >= low + 0.4 * (high - low)]
  return loud.mean(0), len(loud)


def band_frequencies(fmin: float = 55.0, fmax: float = 7600.0) -> np.ndarray:
  """Centres of the bands, Hz, [80] float32."""
  import librosa  # Slow to import, and needed for sound only.
  return librosa.mel_frequencies(NUM_MEL_BANDS + 2, fmin=fmin, fmax=fmax)[1:-1].astype(np.float32)


def mel_crop(mel: np.ndarray, start_frame: int, num_steps: int = 16) -> np.ndarray:
  """The mel steps [num_steps, 80] that begin with a video frame (the expert's window), or the last ones at the end.

  Args:
    mel: [T, 80] float32, T ≥ num_steps.
    start_frame: video frame id, 25 a second; the window begins at step ⌊80·start_frame/25⌋.
    num_steps: 16 are the 200 ms of five frames.
  """
  start = MEL_STEPS_PER_SECOND * start_frame // FPS
  return mel[min(start, len(mel) - num_steps):][:num_steps]
