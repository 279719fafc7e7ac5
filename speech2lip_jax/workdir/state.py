"""The state of training, as checkpoints hold it, and the variables of a new model."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from speech2lip_jax.data import schema
from speech2lip_jax.gamem.subject import SubjectConstants
from speech2lip_jax.models.initial_weights import drawn_as_pytorch
from speech2lip_jax.models.speech2lip import Speech2Lip

FITTED = ('canonical_depth', 'linear_lips', 'lip_opening')  # parameters that are fitted when training begins, and then stay


class TrainState(NamedTuple):
  """All that training changes. step: int32 scalar, steps already taken. ema_params: the weights to render with."""
  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  ema_params: Any


def create_variables(model: Speech2Lip, constants: SubjectConstants, config: ConfigDict,
                     num_channels: int = schema.NUM_MEL_BANDS) -> dict[str, Any]:
  """Initial {'params', 'batch_stats'}, a function of config.seed and config.train.initial_weights.

  num_channels: of the speech features.
  """
  audio_feat = jnp.zeros((1, config.audio.window_steps, num_channels))
  key = jax.random.key(config.seed)
  variables = model.clone(axis_name=None).init(key, audio_feat, constants, method='initialise')
  if config.train.initial_weights == 'torch':
    variables = variables | {'params': drawn_as_pytorch(variables['params'], key)}
  return variables
