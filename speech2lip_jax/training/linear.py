"""Fits what `models.linear_lips` has to the training frames."""
from typing import Any

import numpy as np

from speech2lip_jax.data import regression
from speech2lip_jax.data.dataset import evenly_spaced
from speech2lip_jax.data.schema import NUM_MEL_BANDS
from speech2lip_jax.data.tracks import Speech
from speech2lip_jax.metrics.opening import lip_opening
from speech2lip_jax.models.linear_lips import joined_steps
from speech2lip_jax.workdir.run import Run

MAX_ROWS = 8000  # windows, over all renditions: 5 minutes
MEL_NOISE_STD = 1.5  # the penalty is that of noise of this std on mel, and of the next on other channels
NOISE_STD = 0.35


def lip_components(run: Run) -> regression.LipComponents:
  """The main components of the training frames' lips, about their mean."""
  some = evenly_spaced(run.split.train, regression.NUM_COMPONENT_FRAMES)
  components = regression.LipComponents.of(run.subject.rgb_lip_canonical[some], run.config.linear.num_components)
  return components._replace(mean=np.asarray(run.constants.rgb_lip_mean).ravel())


def fit_opening(run: Run, components: regression.LipComponents) -> dict[str, np.ndarray]:
  """Parameters of `LipOpening`: opening by landmarks is regressed on lips, and lips on opening."""
  ids = evenly_spaced(run.split.train, MAX_ROWS)
  opening = lip_opening(np.asarray(run.subject.landmarks[ids]))
  shape = (-1, 3)
  if not np.isfinite(opening).all() or not np.ptp(opening):
    return {name: np.zeros_like(components.mean).reshape(shape) for name in ('probe', 'direction')}
  codes, _ = components.coefficients(run.subject.rgb_lip_canonical, ids)
  codes, opening = codes - codes.mean(0), (opening - opening.mean()) / opening.std()
  direction = codes.T @ opening / len(opening)
  probe = np.linalg.lstsq(codes, opening, rcond=None)[0]
  probe, direction = components.axes @ (probe / (probe @ direction)), components.axes @ direction  # one step is measured as 1
  return {'probe': probe.astype(np.float32).reshape(shape), 'direction': direction.astype(np.float32).reshape(shape)}


def fit_lips(run: Run, speech: Speech, components: regression.LipComponents) -> dict[str, Any]:
  """Parameters of `LinearLips`: from the steps of a window to the components. speech: `features.subject_speech()`."""
  linear, lips, train = run.config.linear, run.subject.rgb_lip_canonical, run.split.train
  num_steps, num_renditions = run.features.num_steps, len(speech.steps)
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
