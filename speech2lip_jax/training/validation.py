"""Validation during training."""
from collections.abc import Iterator

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data.dataset import evenly_spaced
from speech2lip_jax.metrics import image as image_metrics
from speech2lip_jax.rendering.predictor import Prediction, Predictor
from speech2lip_jax.training.rounding import Rounded
from speech2lip_jax.workdir.run import Run
from speech2lip_jax.workdir.state import TrainState

NUM_SAMPLES = 6  # test frames in a sample picture


class Validation:
  """Renders the validation frames with the averaged weights, and a strip of test frames to look at."""

  def __init__(self, run: Run, rounded: Rounded):
    """rounded: the run's; the states to be validated are in its shapes."""
    self._run, self._rounded, self._subject, self._features = run, rounded, run.subject, run.features
    self._val_ids = evenly_spaced(run.split.val, run.config.data.num_val_frames)
    self._sample_ids = evenly_spaced(run.split.test, NUM_SAMPLES)
    self._predictor: Predictor | None = None

  def _predictions(self, state: TrainState, ids: np.ndarray) -> Iterator[Prediction]:
    variables = {'params': state.ema_params, 'batch_stats': state.batch_stats}
    if self._predictor is None:
      train = self._run.config.train
      self._predictor = Predictor(self._rounded.model, variables, self._rounded.constants, self._subject,
                                  with_blend_net=train.blend_start_step < train.num_steps)
    self._predictor.set_variables(variables)
    return self._predictor.from_speech(ids, self._features.subject_windows(ids))

  def psnr_lip(self, state: TrainState) -> float:
    """Mean PSNR of the mouth's pixels over the validation frames that show any, dB.

    Raises:
      InputError: none does.
    """
    predictions = zip(self._val_ids, self._predictions(state, self._val_ids), strict=True)
    each = np.array([image_metrics.psnr(p.rgb_face, self._subject.frames[i], p.mask_mouth) for i, p in predictions])
    if np.isnan(each).all():
      raise InputError(f'{self._subject.folder}: none of {len(each)} validation frames shows the mouth; its poses or lip box are '
                       'wrong: run speech2lip preprocess again, into a new folder')
    return float(np.nanmean(each))

  def sample(self, state: TrainState) -> np.ndarray:
    """True test frames over rendered ones: [2·H, 6·W, 3] uint8."""
    rendered = [p.rgb_face for p in self._predictions(state, self._sample_ids)]
    return np.vstack([np.hstack(self._subject.frames[self._sample_ids]), np.hstack(rendered)])
