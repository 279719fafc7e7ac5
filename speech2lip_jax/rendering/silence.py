"""The mouth in silence: the subject's own closed mouth, taken from training frames.

Its audio embedding is the mean of what the audio network gives for those frames. The lip field does not paint exactly their mouth
from it, so the residual between the true closed mouth and what the field renders is added. Between speech and silence the
embeddings are interpolated, so that the mouth moves; interpolated pictures would show it twice.
"""
from typing import NamedTuple

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.metrics.opening import lip_opening

_CLOSED_SHARE, _ALIKE_SHARE, _FEWEST = 0.05, 0.2, 8


class RestingMouth(NamedTuple):
  """audio_embedding: [num_features]. residual: [h, w, 3], the true closed mouth minus what the lip field renders from it."""
  audio_embedding: np.ndarray
  residual: np.ndarray


class Mouths(NamedTuple):
  """What n mouths are rendered from.

  audio_embedding: [n, num_features] float32. rest: [n] float32 0 … 1, the share of `residual` [h, w, 3] that is added.
  """
  audio_embedding: np.ndarray
  rest: np.ndarray
  residual: np.ndarray


def close_mouth(audio_embedding: np.ndarray, activity: np.ndarray, resting: RestingMouth) -> Mouths:
  """The mouths of `audio_embedding` [n, num_features] where `activity` [n] is 1, the resting mouth where it is 0, between where
  it is between."""
  share = activity[:, None]
  mixed = share * audio_embedding + (1 - share) * resting.audio_embedding
  return Mouths(mixed.astype(np.float32), (1 - activity).astype(np.float32), resting.residual)


def closed_frames(subject: Subject, frame_ids: np.ndarray) -> np.ndarray:
  """Those of the frames that show the usual closed mouth: [k] ids in ascending order.

  Of the twentieth with the smallest opening, the fifth that looks most like the middle one of them: lips that are pressed or
  bitten are closed too, and a mean over both kinds shows neither.

  Raises:
    InputError: the subject has no landmarks, as one imported without a landmark model.
  """
  opening = lip_opening(np.asarray(subject.landmarks[frame_ids]))
  if not np.isfinite(opening).all():
    raise InputError(f'{subject.folder}/landmarks.npy: has no landmarks to tell closed mouths by; '
                     'train with --config.silence.close=False')
  closed = np.sort(frame_ids[np.argsort(opening, kind='stable')[:max(_FEWEST, round(_CLOSED_SHARE * len(frame_ids)))]])
  pictures = subject.rgb_lip_canonical[closed].reshape(len(closed), -1).astype(np.float32)
  squares = np.square(pictures).sum(1)
  distance = squares[:, None] + squares - 2 * pictures @ pictures.T
  middle = np.argmin(np.sqrt(np.maximum(distance, 0)).sum(1))
  alike = np.argsort(distance[middle], kind='stable')[:max(_FEWEST, round(_ALIKE_SHARE * len(closed)))]
  return np.sort(closed[alike])
