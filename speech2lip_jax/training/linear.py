"""Fits `models.linear_lips` to the training frames."""
from typing import Any

import numpy as np

from speech2lip_jax.data import regression
from speech2lip_jax.data.dataset import evenly_spaced
from speech2lip_jax.data.features import Speech
from speech2lip_jax.data.schema import NUM_MEL_BANDS
from speech2lip_jax.models.linear_lips import joined_steps
from speech2lip_jax.workdir.run import Run

MAX_ROWS = 8000  # windows, over all renditions: 5 minutes
MEL_NOISE_STD = 1.5  # the penalty is that of noise of this std on mel, and of the next on other channels
NOISE_STD = 0.35


def fit(run: Run, speech: Speech) -> dict[str, Any]:
  """Parameters of `LinearLips`: from the steps of a window to the main components of the lips, about their mean.

  Args:
    run: whose training frames are fitted.
    speech: `features.subject_speech()`.
  """
  linear, lips, train = run.config.linear, run.subject.rgb_lip_canonical, run.split.train
  num_steps, num_renditions = run.features.num_steps, len(speech.steps)
  components = regression.LipComponents.of(lips[evenly_spaced(train, regression.NUM_COMPONENT_FRAMES)], linear.num_components)
  components = components._replace(mean=np.asarray(run.constants.rgb_lip_mean).ravel())
  ids = evenly_spaced(train, MAX_ROWS // num_renditions)
  codes, _ = components.coefficients(lips, ids)
  places = speech.first[ids][:, None] + np.arange(num_steps)
  windows = np.concatenate([np.asarray(joined_steps(steps[places])) for steps in speech.steps])
  noise = np.full(speech.steps.shape[-1], NOISE_STD, np.float32)
  if run.config.audio.features.startswith('mel'):
    noise[:NUM_MEL_BANDS] = MEL_NOISE_STD
  kernel, bias = regression.ridge(windows, np.tile(codes, (num_renditions, 1)), np.tile(noise, num_steps // 2))
  missing = linear.num_components - codes.shape[1]  # of a subject with fewer frames than components
  axes = components.axes.T.reshape(-1, lips.shape[1] * lips.shape[2], 3)
  return {'regression': {'kernel': np.pad(kernel, ((0, 0), (0, missing))), 'bias': np.pad(bias, (0, missing))},
          'components': np.pad(axes, ((0, missing), (0, 0), (0, 0)))}
