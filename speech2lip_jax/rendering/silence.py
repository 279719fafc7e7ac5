"""The mouth in silence: the subject's own closed mouth, taken from training frames.

Its speech code is what AudioNet hears in those frames; what the lip field paints too little of at that code is added as detail.
Between speech and silence the codes are mixed, so that the mouth moves, where mixed pictures alone would show it twice.
"""
from typing import NamedTuple

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.metrics.opening import lip_opening

_CLOSED_SHARE, _ALIKE_SHARE, _FEWEST = 0.05, 0.2, 8


class RestingMouth(NamedTuple):
  """code: [num_features]. detail: [h, w, 3], what the field paints too little of at that code."""
  code: np.ndarray
  detail: np.ndarray


class Codes(NamedTuple):
  """Mouths of n frames. speech: [n, num_features] codes to paint. rest: [n] 0 … 1, share of `detail` [h, w, 3] to be added."""
  speech: np.ndarray
  rest: np.ndarray
  detail: np.ndarray


def close_mouth(speech: np.ndarray, activity: np.ndarray, resting: RestingMouth) -> Codes:
  """Speech codes [n, num_features] where `activity` [n] is 1, the resting mouth where it is 0, and on the way between."""
  share = activity[:, None]
  return Codes((share * speech + (1 - share) * resting.code).astype(np.float32), (1 - activity).astype(np.float32), resting.detail)


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
