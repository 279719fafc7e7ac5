"""Experts at judging: they look at finished frames one by one, keep a small view of each, and score the views at the end.

Two kinds (`sync_expert`): an expert of the subject's own lips, which reads the canonical lip box out of the frame, and SyncNet,
which looks at the lower half of the face. Scores are SyncNet's, by `metrics.sync`. The jaw around the lips is the true frame's
and gives the speech away, so that SyncNet flatters every mouth: it is here for comparison with others' numbers.
"""
import os
import pathlib
from collections.abc import Iterable
from typing import Any, Protocol

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import dataset, schema
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.data.mel import mel_crop
from speech2lip_jax.gamem.subject import lip_points
from speech2lip_jax.metrics import sync
from speech2lip_jax.metrics.names import SYNC_METRICS
from speech2lip_jax.models.syncnet import SyncNet
from speech2lip_jax.ops import sampling
from speech2lip_jax.sync import expert as sync_expert
from speech2lip_jax.sync import scores as sync_scores
from speech2lip_jax.sync import syncnet_expert

SPLINE_REACH = 16  # pixels, beyond which a cubic spline's prefilter weighs less than 1e-9
CHUNK = 32  # windows at once
FACE_SIZE = syncnet_expert.FACE_SIZE


class Judge(Protocol):
  """Judges videos of the same frames, one after another."""

  def view(self, row: int, rgb: np.ndarray) -> np.ndarray:
    """What is kept of frame `row` [H, W, 3] uint8."""

  def scores(self, views: list[np.ndarray]) -> dict[str, float]:
    """`SYNC_METRICS` and sync_within_one of the views of all rows; nan where every run is too short."""


class LipJudge:
  """By an expert of the subject's own lips (`speech2lip expert`)."""

  def __init__(self, expert: sync_expert.Expert, subject: Subject, frame_ids: np.ndarray):
    self._expert, self._subject, self._ids = expert, subject, frame_ids
    meta, poses, points = subject.meta, subject.observed_from_canonical[frame_ids], lip_points(subject)
    extents = [(places.min((0, 1)), places.max((0, 1))) for places in (np.asarray(points(pose)) for pose in poses)]
    low, high = np.moveaxis(np.array(extents), 1, 0)
    # A crop that holds every frame's lips, with room for the spline's prefilter to forget the crop's border.
    width, height = (int(min(extent + 2 * SPLINE_REACH, size)) for extent, size in
                     zip(np.ceil((high - low).max(0)), (meta.width, meta.height), strict=True))
    self._corners = np.clip(np.floor(low) - SPLINE_REACH, 0, (meta.width - width, meta.height - height)).astype(int)
    self._size, self._poses = (height, width), poses
    self._read = jax.jit(lambda crop, corner, pose: sampling.sample_image(
        sampling.spline_coefficients(crop / 255.0), points(pose) - corner, 'bspline', 'border'))

  def view(self, row: int, rgb: np.ndarray) -> np.ndarray:
    """The canonical lips in the frame, [h, w, 3] uint8."""
    left, top = self._corners[row]
    crop = rgb[top:top + self._size[0], left:left + self._size[1]]
    lips = jax.device_get(self._read(crop, self._corners[row].astype(np.float32), self._poses[row]))
    return np.round(np.clip(lips, 0, 1) * 255).astype(np.uint8)

  def scores(self, views: list[np.ndarray]) -> dict[str, float]:
    """See `Judge`."""
    activity = sync_scores.subject_activity(self._subject, self._ids)
    scores = sync_scores.score_lips(self._expert, self._subject, self._ids, np.stack(views), activity).metrics()
    return {name: scores[name] for name in (*SYNC_METRICS, 'sync_within_one')}


class FaceJudge:
  """By SyncNet."""

  def __init__(self, expert: syncnet_expert.SyncNetExpert, runs: list[np.ndarray], speech: np.ndarray, boxes: np.ndarray):
    """runs: rows of consecutive frames each. speech: [n, 512], the embedding of the 5 frames from each row on (`embed_mel`).
    boxes: [n, 4] float (top, left, bottom, right) pixels of each row's face; nan where there is none."""
    self._runs, self._speech, self._boxes = runs, speech, boxes
    whole = jnp.tile(jnp.array([0, 0, FACE_SIZE, FACE_SIZE], jnp.float32), (CHUNK * schema.SYNC_FRAMES, 1))
    self._embed = jax.jit(lambda faces: expert.embed_faces(faces / 255.0, whole))

  def view(self, row: int, rgb: np.ndarray) -> np.ndarray:
    """The face, [96, 96, 3] uint8; black where there is none."""
    if not np.isfinite(self._boxes[row]).all():
      return np.zeros((FACE_SIZE, FACE_SIZE, 3), np.uint8)
    top, left, bottom, right = self._boxes[row]
    across, down = FACE_SIZE / (right - left), FACE_SIZE / (bottom - top)
    # Pixel centres at integers; the box's edges become the picture's.
    matrix = np.array([[across, 0, (0.5 - left) * across - 0.5], [0, down, (0.5 - top) * down - 0.5]])
    return cv2.warpAffine(rgb, matrix, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

  def scores(self, views: list[np.ndarray]) -> dict[str, float]:
    """See `Judge`."""
    distances, accuracies = [np.zeros((0, 2 * sync.MAX_OFFSET + 1), np.float32)], []
    for rows in self._runs:
      starts = rows[:max(len(rows) - schema.SYNC_FRAMES + 1, 0)]
      if not len(starts):
        continue
      parts = []
      for start in range(0, len(starts), CHUNK):
        firsts = starts[np.minimum(np.arange(start, start + CHUNK), len(starts) - 1)]
        windows = np.stack([views[row] for first in firsts for row in range(first, first + schema.SYNC_FRAMES)])
        parts.append(jax.device_get(self._embed(windows)))
      mouth = np.concatenate(parts)[:len(starts)]
      distances.append(sync.offset_distances(mouth, self._speech[starts]))
      accuracies.append(sync.window_accuracy(mouth, self._speech[starts]))
    known = [(value, count) for value, count in accuracies if count]
    acc5 = np.average([value for value, _ in known], weights=[count for _, count in known]) if known else np.nan
    seconds = np.concatenate(distances)
    return sync.confidences(seconds) | {'sync_acc5': float(acc5), 'sync_within_one': sync.within_one(seconds)}


def embed_mel(expert: syncnet_expert.SyncNetExpert, mel: np.ndarray, num_frames: int) -> np.ndarray:
  """SyncNet's embedding of the sound of the 5 frames from each of `num_frames` on, [n, 512]; mel: [T, 80] of `data.mel`."""
  embed = jax.jit(lambda mel: SyncNet().apply(expert.variables, mel, method='embed_mel'))
  windows = np.stack([mel_crop(mel, frame, schema.SYNC_MEL_STEPS) for frame in range(num_frames)])
  padded = np.pad(windows, [(0, -num_frames % 64), (0, 0), (0, 0)])
  return np.concatenate([np.asarray(embed(padded[i:i + 64])) for i in range(0, len(padded), 64)])[:num_frames]


def judge_of_subject(folder: os.PathLike | str, subject: Subject, frame_ids: np.ndarray,
                     trained_against: Iterable[os.PathLike | str] = ()) -> tuple[Judge, dict[str, Any]]:
  """The expert in a folder as judge of a subject's frames, and what it is, for the record.

  Args:
    folder: of speech2lip expert, or of convert --kind syncnet.
    subject, frame_ids: what is judged.
    trained_against: folders of the experts that the model was trained against.

  Raises:
    InputError: no expert is there, it does not fit, or it is the one that the model was trained against.
  """
  expert, folder = sync_expert.open_expert(folder, subject), pathlib.Path(folder)
  for other in trained_against:
    weights = pathlib.Path(other, 'weights.npz')
    if weights.is_file() and weights.read_bytes() == (folder / 'weights.npz').read_bytes():
      raise InputError(f'--judge={folder}: the model was trained against this very expert, so it cannot judge; train another: '
                       'speech2lip expert --recipe.data.part=odd --recipe.seed=1')
  if isinstance(expert, sync_expert.Expert):
    return LipJudge(expert, subject, frame_ids), describe(folder)
  speech = expert.embed_speech(subject, frame_ids)
  boxes = syncnet_expert.face_boxes(subject)[frame_ids]
  return FaceJudge(expert, dataset.runs_of(subject, frame_ids), speech, boxes), describe(folder)


def describe(folder: os.PathLike | str) -> dict[str, Any]:
  """Name and kind of an expert; of one of our own also the subject, the part of its clips and the seed that it was trained with."""
  folder = pathlib.Path(folder)
  facts = syncnet_expert.read_facts(folder, 'make the expert again')
  record = {'name': folder.resolve().name, 'kind': facts['kind']}
  if facts['kind'] == 'own':
    recipe = facts.get('config', {})
    record |= {'subject': facts.get('subject'), 'part': recipe.get('data', {}).get('part'), 'seed': recipe.get('seed')}
  return record
