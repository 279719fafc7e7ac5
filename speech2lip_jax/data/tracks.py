"""Speech features as steps of a sound, and windows of them around video frames. NumPy."""
import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from speech2lip_jax.data.dataset import Subject, window_begins

CHUNK = 2048  # rows read at once


class FeatureWindows:
  """Windows of N frames, made when rows are asked for: `windows[rows]` → [b, T, C] float32. shape: (N, T, C)."""

  def __init__(self, make: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int, int]):
    self._make, self.shape = make, shape

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, rows: np.ndarray) -> np.ndarray:
    return self._make(np.asarray(rows))


class Speech(NamedTuple):
  """The features of all of a subject's frames, without the windows' overlap.

  steps: [K, M, C] float32, K renditions that training may hear; the first is what rendering hears. first: [N] int32; the window of
  frame n is steps[k, first[n]:first[n] + T].
  """
  steps: np.ndarray
  first: np.ndarray


@dataclasses.dataclass(frozen=True)
class Track:
  """Features of one sound. steps: [M, C]; the first and the last go on for ever. rate: steps a second. first: centre of step 0, in
  steps after the sound's start."""
  steps: np.ndarray
  rate: float
  first: float

  def begins(self, local_frames: np.ndarray, num_steps: int) -> np.ndarray:
    """[n] int64: the first step of the windows centred on frames [n]."""
    return window_begins(local_frames, num_steps, self.rate, self.first)

  def read(self, places: np.ndarray) -> np.ndarray:
    """[..., C] float32: the steps of places [...]."""
    return np.asarray(self.steps[np.clip(places, 0, len(self.steps) - 1)], np.float32)

  def windows(self, local_frames: np.ndarray, num_steps: int) -> np.ndarray:
    """[n, num_steps, C]."""
    return self.read(self.begins(local_frames, num_steps)[:, None] + np.arange(num_steps))

  def at(self, rate: float, first: float, count: int) -> np.ndarray:
    """[count, C] interpolated at `rate` steps a second, the first of them centred at first / rate s."""
    found = np.empty((count, self.steps.shape[1]), np.float32)
    for start in range(0, count, CHUNK):
      rows = np.arange(start, min(start + CHUNK, count))
      place = np.clip((first + rows) * (self.rate / rate) - self.first, 0, len(self.steps) - 1)
      low = np.minimum(place.astype(np.int64), max(len(self.steps) - 2, 0))
      share = (place - low)[:, None].astype(np.float32)
      found[rows] = (1 - share) * self.read(low) + share * self.read(low + 1)
    return found


@dataclasses.dataclass(frozen=True)
class Scale:
  """Mean and inverse standard deviation of each channel, [C] float32."""
  mean: np.ndarray
  inverse: np.ndarray

  @classmethod
  def of(cls, steps: np.ndarray, normalise: bool) -> 'Scale':
    """Of [..., C], read in pieces; nothing is changed without `normalise`. A constant channel keeps its size."""
    if not normalise:
      return cls(np.zeros(steps.shape[-1], np.float32), np.ones(steps.shape[-1], np.float32))
    count, total, square = 0, np.zeros(steps.shape[-1]), np.zeros(steps.shape[-1])
    for start in range(0, len(steps), CHUNK):
      rows = np.asarray(steps[start:start + CHUNK], np.float64).reshape(-1, steps.shape[-1])
      count, total, square = count + len(rows), total + rows.sum(0), square + np.square(rows).sum(0)
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    return cls(mean.astype(np.float32), (1 / np.where(std > 1e-5 * (1 + np.abs(mean)), std, 1)).astype(np.float32))

  def __call__(self, windows: np.ndarray) -> np.ndarray:
    return (windows - self.mean) * self.inverse


class StepFeatures:
  """What features in steps have in common. num_steps: T. num_channels: C. (With `sound_windows` the interface of all the classes
  here.)

  renditions: K lists of tracks, one for each clip of the subject. scale: what becomes of the steps when they are read.
  """

  def __init__(self, subject: Subject, num_steps: int, renditions: Sequence[list[Track]],
               scale: Callable[[np.ndarray], np.ndarray] = lambda steps: steps):
    self._subject, self._scale, self._renditions = subject, scale, renditions
    self._tracks = dict(zip(subject.meta.clips, renditions[0], strict=True))
    self.num_steps, self.num_channels = num_steps, renditions[0][0].steps.shape[-1]

  def subject_windows(self, frame_ids: np.ndarray) -> np.ndarray:
    """[n, T, C] float32 windows of frames of the subject."""
    frame_ids = np.asarray(frame_ids)
    windows = np.empty((len(frame_ids), self.num_steps, self.num_channels), np.float32)
    for clip, rows in self._subject.by_clip(frame_ids):
      windows[rows] = self._tracks[clip].windows(frame_ids[rows] - clip.start, self.num_steps)
    return self._scale(windows)

  def subject_speech(self) -> Speech:
    """Of all frames of the subject."""
    clips, first = self._subject.meta.clips, np.empty(self._subject.meta.num_frames, np.int32)
    parts: list[list[np.ndarray]] = [[] for _ in self._renditions]
    offset = 0
    for i, clip in enumerate(clips):
      begins = self._renditions[0][i].begins(np.arange(clip.num_frames), self.num_steps)
      first[clip.start:clip.stop] = offset + begins - begins[0]
      places = np.arange(begins[0], begins[-1] + self.num_steps)
      for part, rendition in zip(parts, self._renditions):
        part.append(self._scale(rendition[i].read(places)))
      offset += len(places)
    return Speech(np.stack([np.concatenate(part) for part in parts]), first)

  def windows_of(self, track: Track, num_frames: int) -> FeatureWindows:
    return FeatureWindows(lambda rows: self._scale(track.windows(rows, self.num_steps)),
                          (num_frames, self.num_steps, self.num_channels))
