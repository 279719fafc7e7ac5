"""The training step over devices. `jax.pmap` for training lives only here.

A step is one of two phases, each compiled once: 'lips' trains speech → canonical lips; 'blend' adds frames that are
composed and blended. All noise is keyed by (seed, step, position in the global batch), so the same
step is taken whatever the number of devices or processes, and again after a restart.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from speech2lip_jax import losses
from speech2lip_jax.data.input_pipeline import Batch
from speech2lip_jax.models.speech2lip import Speech2Lip, SubjectConstants
from speech2lip_jax.ops import fill

AXIS = 'device'
PHASES = ('lips', 'blend')


class TrainState(NamedTuple):
  """All that training changes. step: int32 scalar, steps already taken. ema_params: the weights to render with."""
  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  ema_params: Any


def make_optimizer(train_config: ConfigDict) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """AdamW on clipped gradients, and its learning rate: a linear warm-up, then a cosine to 0 at num_steps."""
  warmup = min(train_config.warmup_steps, train_config.num_steps - 1)
  schedule = optax.warmup_cosine_decay_schedule(train_config.learning_rate / max(warmup, 1), train_config.learning_rate,
                                                warmup, train_config.num_steps)
  is_network = lambda params: {name: name != 'canonical_depth' for name in params}  # D_c is fixed when training begins
  optimizer = optax.chain(optax.clip_by_global_norm(train_config.clip_norm),
                          optax.adamw(schedule, weight_decay=train_config.weight_decay, mask=is_network))
  return optimizer, schedule


def create_variables(model: Speech2Lip, constants: SubjectConstants, config: ConfigDict) -> dict[str, Any]:
  """Initial {'params', 'batch_stats'}, a function of config.seed."""
  geometry = model.geometry
  return model.clone(axis_name=None).init(
      jax.random.key(config.seed), jnp.zeros((1, config.audio.window_steps, 80)), jnp.zeros(1, jnp.int32),
      jnp.zeros((1, geometry.height, geometry.width, 3)), jnp.eye(4)[None], constants)


def create_state(model: Speech2Lip, optimizer: optax.GradientTransformation, constants: SubjectConstants,
                 config: ConfigDict) -> TrainState:
  """The state at step 0, a function of config.seed."""
  variables = jax.jit(lambda constants: create_variables(model, constants, config))(constants)
  params = variables['params']
  return TrainState(jnp.int32(0), params, variables['batch_stats'], optimizer.init(params),
                    jax.tree.map(jnp.copy, params))


def phase_of_step(step: int, train_config: ConfigDict) -> str:
  """'lips' before config.train.blend_start_step, 'blend' from it on."""
  return PHASES[step >= train_config.blend_start_step]


def _augmented_mel(audio_feat: jax.Array, keys: jax.Array, audio_config: ConfigDict) -> jax.Array:
  def one(mel, key):
    noise_key, gain_key = jax.random.split(key)
    noise = audio_config.noise_std * jax.random.normal(noise_key, mel.shape)
    return mel + noise + audio_config.gain_std * jax.random.normal(gain_key)
  return jax.vmap(one)(audio_feat, keys)


def make_loss(model: Speech2Lip, config: ConfigDict, phase: str) -> Callable:
  """The loss of one device's batch: (params, batch_stats, batch, constants, key) → (loss, (named terms, batch_stats))."""
  _, _, lip_height, lip_width = model.geometry.lip_box
  num_pixels = lip_height * lip_width
  weights = config.loss

  def lip_loss(variables, batch: Batch, audio_feat, keys, constants):
    if config.train.lip_pixels:
      pick = lambda key: jax.random.randint(key, (config.train.lip_pixels,), 0, num_pixels)
      pixels = jax.vmap(pick)(keys)
    else:
      pixels = jnp.broadcast_to(jnp.arange(num_pixels), (len(batch.frame_id), num_pixels))
    shift = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(keys) if config.field.ensemble else None
    rgb = model.apply(variables, audio_feat, batch.frame_id, pixels, constants, shift, method='lip_pixels')
    target = jnp.take_along_axis(batch.rgb_lip_canonical.reshape(-1, num_pixels, 3), pixels[..., None], 1) / 255.0
    return losses.mean_squared_error(rgb, target)

  def black_holes(keys):
    """[B, wh, ww] bool: holes in `hole_fraction` of the windows, to be filled by Blend-Net."""
    def one(key):
      chance_key, hole_key = jax.random.split(key)
      hole = fill.random_holes(hole_key, *model.geometry.window)
      return hole & jax.random.bernoulli(chance_key, config.blend.hole_fraction)
    return jax.vmap(one)(keys)

  def frame_terms(variables, batch: Batch, audio_feat, keys, constants):
    every = config.train.blend_every
    rgb_face, poses = batch.frames.rgb_face_observed / 255.0, batch.frames.observed_from_canonical
    (composition, blended), updated = model.apply(
        variables, audio_feat[::every], batch.frame_id[::every], rgb_face, poses, constants, train=True,
        hole=black_holes(keys[::every]), mutable=['batch_stats'])
    return {'frame': losses.mean_squared_error(blended, composition.observed)}, updated['batch_stats']

  def loss_fn(params, batch_stats, batch: Batch, constants: SubjectConstants, step_key):
    keys = jax.vmap(lambda i: jax.random.fold_in(step_key, i))(batch.sample_id)
    noise_keys, pixel_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    hole_keys = jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys)
    variables = {'params': params, 'batch_stats': batch_stats}
    audio_feat = _augmented_mel(batch.audio_feat, noise_keys, config.audio)
    terms = {'lip': lip_loss(variables, batch, audio_feat, pixel_keys, constants)}
    if phase == 'blend':
      frame, batch_stats = frame_terms(variables, batch, audio_feat, hole_keys, constants)
      terms |= frame
    total = sum(weights[f'{name}_weight'] * term for name, term in terms.items())
    return total, (terms | {'total': total}, batch_stats)

  return loss_fn


def make_train_step(model: Speech2Lip, optimizer: optax.GradientTransformation, config: ConfigDict, phase: str
                    ) -> Callable:
  """The pmapped step (state, batch, constants) → (state, metrics); state and constants replicated, batch sharded.

  Gradients, batch statistics and metrics are means over all devices of all processes. The old state is donated.
  """
  loss_fn = make_loss(model, config, phase)

  def step(state: TrainState, batch: Batch, constants: SubjectConstants):
    step_key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (_, (terms, batch_stats)), gradients = gradient_fn(state.params, state.batch_stats, batch, constants, step_key)
    gradients, terms, batch_stats = jax.lax.pmean((gradients, terms, batch_stats), AXIS)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # A short memory at first, so that the average is not held back by the initial weights.
    decay = jnp.minimum(config.train.ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema_params = optax.incremental_update(params, state.ema_params, 1.0 - decay)
    metrics = {f'loss/{name}': term for name, term in terms.items()}
    metrics['metric/grad_norm'] = optax.tree.norm(gradients)
    return TrainState(state.step + 1, params, batch_stats, opt_state, ema_params), metrics

  return jax.pmap(step, axis_name=AXIS, donate_argnums=0)
