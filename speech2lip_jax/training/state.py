"""The optimizer, and the state at the first step."""
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from speech2lip_jax.data import schema
from speech2lip_jax.gamem.subject import SubjectConstants
from speech2lip_jax.models.speech2lip import Speech2Lip
from speech2lip_jax.workdir.state import FITTED, TrainState, create_variables


def make_optimizer(train_config: ConfigDict) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """AdamW on clipped gradients, and its learning rate: a linear warm-up, then a cosine to 0 at num_steps, or no change."""
  warmup = min(train_config.warmup_steps, train_config.num_steps - 1)
  first, peak = train_config.learning_rate / max(warmup, 1), train_config.learning_rate
  if train_config.schedule == 'constant':
    schedule = optax.warmup_constant_schedule(first, peak, warmup)
  else:
    schedule = optax.warmup_cosine_decay_schedule(first, peak, warmup, train_config.num_steps)
  is_network = lambda params: {name: name not in FITTED for name in params}
  optimizer = optax.chain(optax.clip_by_global_norm(train_config.clip_norm),
                          optax.adamw(schedule, weight_decay=train_config.weight_decay, mask=is_network))
  return optimizer, schedule


def state_creator(model: Speech2Lip, optimizer: optax.GradientTransformation, config: ConfigDict,
                  num_channels: int = schema.NUM_MEL_BANDS) -> Callable[[SubjectConstants], TrainState]:
  """A subject's constants → the state at step 0, a function of config.seed; num_channels: of the speech features. Compiled."""
  @jax.jit
  def create(constants):
    variables = create_variables(model, constants, config, num_channels)
    params = variables['params']
    return TrainState(jnp.int32(0), params, variables['batch_stats'], optimizer.init(params), jax.tree.map(jnp.copy, params))
  return create
