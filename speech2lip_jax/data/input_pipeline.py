"""Batches for the training step: which frames go into step s is a function of (seed, s) alone, so resuming is exact.

What is small of every frame, its speech and its lips, lies on the device from the start (`Resident`); a batch names frames and
brings what is large. Every process takes its own slice of the global batch; a loader thread keeps `prefetch` batches ready.
"""
import functools
import queue
import threading
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np

from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.data.features import SpeechFeatures
from speech2lip_jax.data.tracks import Speech


class Resident(NamedTuple):
  """What steps read of all N frames of a subject. speech: `tracks.Speech`. rgb_lip_canonical: [N, h, w, 3] uint8."""
  speech: Speech
  rgb_lip_canonical: np.ndarray


class Frames(NamedTuple):
  """Frames to be composed. B: frames.

  rgb_face_observed: [B, H, W, 3] uint8. observed_from_canonical: [B, 4, 4] float32.
  """
  rgb_face_observed: np.ndarray
  observed_from_canonical: np.ndarray


class SyncWindows(NamedTuple):
  """Speech for the windows of 5 consecutive frames that come before a batch's others. V: windows; E: length of an embedding.

  speech: [V, 1 + K, E] float32, the expert's embeddings of a window's own speech and of K other times of its clip. frames:
  `Frames` of the 5·V frames and face_box: [5·V, 4] float32 (top, left, bottom, right) pixels, for an expert that looks at faces;
  None otherwise.
  """
  speech: np.ndarray
  frames: Frames | None
  face_box: np.ndarray | None


class Perceived(NamedTuple):
  """Frames whose whole lips are looked at by a perceptual network. P: of this process.

  sample_id: [P] int32, position among those of the step (seeds each one's noise). frame_id: [P] int32. weight: [P] float32, of each
  one in the mean over all devices; 0 of those that only fill a device's share.
  """
  sample_id: np.ndarray
  frame_id: np.ndarray
  weight: np.ndarray


class Batch(NamedTuple):
  """One process's share of a step, device after device. B: frames; `composed_rows` are composed.

  seed: [B] int32, config.seed in every row: as a value, so that runs of all seeds have one compiled step.
  sample_id: [B] int32, position in the global batch (seeds each frame's noise). frame_id: [B] int32.
  frames: `Frames` or None.
  sync: `SyncWindows` or None; with it every device's share begins with whole windows.
  perceived: `Perceived` or None.
  """
  seed: np.ndarray
  sample_id: np.ndarray
  frame_id: np.ndarray
  frames: Frames | None
  sync: SyncWindows | None
  perceived: Perceived | None = None

  @property
  def num_window_frames(self) -> int:
    """How many frames at the beginning of a device's share lie in windows."""
    return 0 if self.sync is None else schema.SYNC_FRAMES * len(self.sync.speech)


def composed_rows(share: int, num_window_frames: int, blend_every: int) -> np.ndarray:
  """Which frames of a device's share are composed: every blend_every-th one behind those of the windows."""
  return np.arange(num_window_frames, share, blend_every)


@functools.lru_cache(maxsize=2)
def _order_of_epoch(num_frames: int, seed: int, epoch: int) -> np.ndarray:
  return np.random.default_rng((seed, epoch)).permutation(num_frames)


def frame_ids_of_step(frame_ids: np.ndarray, seed: int, step: int, batch_size: int) -> np.ndarray:
  """The global batch of a step, [batch_size]: shuffled passes over `frame_ids`, one after another without gaps."""
  num_frames = len(frame_ids)
  positions = np.arange(step * batch_size, (step + 1) * batch_size)
  epochs = positions // num_frames
  picked = np.empty(batch_size, frame_ids.dtype)
  for epoch in np.unique(epochs):
    rows = epochs == epoch
    picked[rows] = frame_ids[_order_of_epoch(num_frames, seed, int(epoch))[positions[rows] % num_frames]]
  return picked


def make_resident(subject: Subject, features: SpeechFeatures) -> Resident:
  """`Resident` of a subject: about 10 kB a frame with a lip box of 40×50, 33 kB with one of 80×120."""
  return Resident(features.subject_speech(), np.ascontiguousarray(subject.rgb_lip_canonical))


def make_frames(subject: Subject, poses: np.ndarray, frame_ids: np.ndarray) -> Frames:
  """Reads frames and their observed_from_canonical (rows of `poses` [N, 4, 4])."""
  return Frames(np.ascontiguousarray(subject.frames[frame_ids]), poses[frame_ids])


class SyncSampler:
  """Picks the windows of a step and the speech to hold against them."""

  def __init__(self, speech: np.ndarray, runs: list[np.ndarray], num_windows: int, num_negatives: int, max_shift: int, seed: int):
    """speech: [N, E], row n the embedding of the 5 frames from n on. runs: the first frames [n] that may be used, a run for
    each stretch of consecutive ones; speech is compared within a run. max_shift: frames."""
    self.num_windows, self._speech, self._num_negatives, self._max_shift = num_windows, speech, num_negatives, max_shift
    self._firsts = np.concatenate(runs)
    self._begin = np.concatenate([np.full(len(run), run[0]) for run in runs])
    self._end = np.concatenate([np.full(len(run), run[-1]) for run in runs])
    self._seed = seed

  def windows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
    """First frames [V] of a step's windows over all devices, and their speech [V, 1 + K, E]."""
    random = np.random.default_rng((self._seed, step, 1))  # 1: another stream than the order of the frames
    rows = random.choice(len(self._firsts), self.num_windows)
    first = self._firsts[rows]
    shift = random.integers(2, self._max_shift + 1, (len(rows), self._num_negatives)) * random.choice([-1, 1], (len(rows), 1))
    begin, end = self._begin[rows, None], self._end[rows, None]
    other = first[:, None] + shift
    other = np.where((other < begin) | (other > end), first[:, None] - shift, other)
    other = np.clip(other, begin, end)  # a run shorter than the shift: `sync.loss` lets near speech count less
    return first, self._speech[np.concatenate([first[:, None], other], 1)]


class TrainBatches:
  """Makes the batch of any step for one process of `num_processes`."""

  def __init__(self, subject: Subject, frame_ids: np.ndarray, *, seed: int, batch_size: int, blend_every: int,
               sync: SyncSampler | None = None, face_box: np.ndarray | None = None, num_perceived: int = 0,
               num_devices: int | None = None, process: int = 0, num_processes: int = 1):
    """sync: where the windows of `batch(with_sync=True)` come from. face_box: [N, 4], for an expert that looks at faces.
    num_perceived: frames of `batch(with_perceived=True)`. num_devices: of all processes; one each if not given."""
    self._subject, self._frame_ids, self._seed = subject, frame_ids, seed
    self._batch_size, self._blend_every, self._sync, self._face_box = batch_size, blend_every, sync, face_box
    self._num_perceived = num_perceived
    self._num_devices, self._process, self._num_processes = num_devices or num_processes, process, num_processes
    self._poses = subject.observed_from_canonical

  def _share(self, count: int) -> slice:
    """This process's part of `count` things that are laid out device after device."""
    share = count // self._num_processes
    return slice(self._process * share, (self._process + 1) * share)

  def batch(self, step: int, with_frames: bool, with_sync: bool = False, with_perceived: bool = False) -> Batch:
    """The batch of a step; `with_frames` adds the frames to compose, `with_sync` puts windows before its batch_size frames.

    with_perceived: adds frames for the perceptual network, drawn anew.

    A frame's sample id depends neither on the devices nor on the windows.
    """
    ids = frame_ids_of_step(self._frame_ids, self._seed, step, self._batch_size)
    num_window_frames, sync = 0, None
    if with_sync:
      assert self._sync is not None, 'with_sync needs a SyncSampler'
      first, speech = self._sync.windows(step)
      num_window_frames = schema.SYNC_FRAMES * len(first)
      window_ids = (first[:, None] + np.arange(schema.SYNC_FRAMES)).reshape(-1)
      ids = np.concatenate([ids, window_ids])
      mine = window_ids[self._share(num_window_frames)]
      faces = (make_frames(self._subject, self._poses, mine), self._face_box[mine]) if self._face_box is not None else (None, None)
      sync = SyncWindows(speech[self._share(len(first))], *faces)
    of_singles, of_windows = np.split(np.arange(len(ids)), [self._batch_size])
    by_device = np.concatenate([part.reshape(self._num_devices, -1) for part in (of_windows, of_singles)], 1)
    share = by_device.shape[1]
    sample_id = by_device.reshape(-1)[self._share(len(ids))]
    ids = ids[sample_id]
    rows = composed_rows(share, num_window_frames // self._num_devices, self._blend_every)
    composed = ids.reshape(-1, share)[:, rows].reshape(-1)
    return Batch(
        seed=np.full(len(ids), self._seed, np.int32),
        sample_id=sample_id.astype(np.int32),
        frame_id=ids.astype(np.int32),
        frames=make_frames(self._subject, self._poses, composed) if with_frames else None,
        sync=sync,
        perceived=self._perceived(step) if with_perceived else None)

  def _perceived(self, step: int) -> Perceived:
    random = np.random.default_rng((self._seed, step, 2))  # 2: another stream than the order of the frames and the windows
    count, filled = self._num_perceived, -(-self._num_perceived // self._num_devices) * self._num_devices
    frame_id = np.resize(random.choice(self._frame_ids, count), filled).astype(np.int32)
    sample_id = np.arange(filled, dtype=np.int32)
    mine = self._share(filled)
    return Perceived(sample_id[mine], frame_id[mine], np.where(sample_id < count, filled / count, 0).astype(np.float32)[mine])


def prefetch(make: Callable[[int], Any], items: range, ahead: int) -> Generator[Any, None, None]:
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
