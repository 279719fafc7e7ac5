"""Batches for the training step: which frames go into step s is a function of (seed, s) alone, so resuming is exact.

Every process takes its own slice of the global batch; a loader thread keeps `prefetch` batches ready.
"""
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from speech2lip_jax.data.dataset import Subject, subject_mel_windows


class Frames(NamedTuple):
  """Frames to be composed. B: frames.

  rgb_face_observed: [B, H, W, 3] uint8. observed_from_canonical: [B, 4, 4] float32.
  """
  rgb_face_observed: np.ndarray
  observed_from_canonical: np.ndarray


class Batch(NamedTuple):
  """One process's share of a step. B: frames; the frames to compose are every `blend_every`-th of them.

  sample_id: [B] int32, position in the global batch (seeds each frame's noise). frame_id: [B] int32.
  audio_feat: [B, T, 80] float32. rgb_lip_canonical: [B, h, w, 3] uint8. frames: `Frames` or None.
  """
  sample_id: np.ndarray
  frame_id: np.ndarray
  audio_feat: np.ndarray
  rgb_lip_canonical: np.ndarray
  frames: Frames | None


def frame_ids_of_step(frame_ids: np.ndarray, seed: int, step: int, batch_size: int) -> np.ndarray:
  """The global batch of a step, [batch_size]: shuffled passes over `frame_ids`, one after another without gaps."""
  num_frames = len(frame_ids)
  positions = np.arange(step * batch_size, (step + 1) * batch_size)
  epochs = positions // num_frames
  picked = np.empty(batch_size, frame_ids.dtype)
  for epoch in np.unique(epochs):
    order = np.random.default_rng((seed, epoch)).permutation(num_frames)
    rows = epochs == epoch
    picked[rows] = frame_ids[order[positions[rows] % num_frames]]
  return picked


def make_frames(subject: Subject, poses: np.ndarray, frame_ids: np.ndarray) -> Frames:
  """Reads frames and their observed_from_canonical (rows of `poses` [N, 4, 4])."""
  return Frames(np.ascontiguousarray(subject.frames[frame_ids]), poses[frame_ids])


class TrainBatches:
  """Makes the batch of any step for one process of `num_processes`."""

  def __init__(self, subject: Subject, frame_ids: np.ndarray, *, seed: int, batch_size: int, window_steps: int,
               blend_every: int, process: int = 0, num_processes: int = 1):
    self._subject, self._frame_ids, self._seed, self._batch_size = subject, frame_ids, seed, batch_size
    self._window_steps, self._blend_every = window_steps, blend_every
    share = batch_size // num_processes
    self._slice = slice(process * share, (process + 1) * share)
    self._poses = subject.observed_from_canonical

  def batch(self, step: int, with_frames: bool) -> Batch:
    """The batch of a step; `with_frames` adds the frames to compose."""
    ids = frame_ids_of_step(self._frame_ids, self._seed, step, self._batch_size)[self._slice]
    return Batch(
        sample_id=np.arange(self._slice.start, self._slice.stop, dtype=np.int32),
        frame_id=ids.astype(np.int32),
        audio_feat=subject_mel_windows(self._subject, ids, self._window_steps),
        rgb_lip_canonical=np.ascontiguousarray(self._subject.rgb_lip_canonical[ids]),
        frames=make_frames(self._subject, self._poses, ids[::self._blend_every]) if with_frames else None)


def prefetch(make: Callable[[int], Any], items: range, ahead: int) -> Iterator[Any]:
  """Yields make(i) for i in items, made by a thread up to `ahead` items early; its exceptions surface here."""
  ready: queue.Queue = queue.Queue(maxsize=ahead)
  stop = threading.Event()

  def put(item) -> bool:
    while not stop.is_set():
      try:
        ready.put(item, timeout=0.1)
        return True
      except queue.Full:
        continue
    return False

  def work():
    try:
      for item in items:
        if not put((make(item), None)):
          return
    except BaseException as error:  # noqa: BLE001  handed to the consumer, which raises it
      put((None, error))

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  try:
    for _ in items:
      value, error = ready.get()
      if error is not None:
        raise error
      yield value
  finally:
    stop.set()
    thread.join()
