"""What happens once, before the first step: networks of another run, the linear lips, the head's depth."""
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.progress import stage
from speech2lip_jax.data.dataset import evenly_spaced
from speech2lip_jax.data.tracks import Speech
from speech2lip_jax.gamem import learn_depth
from speech2lip_jax.gamem.module import gamem_of
from speech2lip_jax.training import linear
from speech2lip_jax.workdir import checkpoint, config_file
from speech2lip_jax.workdir import state as workdir_state
from speech2lip_jax.workdir.run import Run

OF_NETWORK = ('features', 'features_rate', 'window_steps', 'num_features', 'normalise', 'network')  # of config.audio


def check_init(config: ConfigDict) -> None:
  """Raises InputError where config.audio.init is no trained workdir, or its audio network hears another kind of speech."""
  workdir = config.audio.init
  if not workdir:
    return
  theirs = config_file.read_config(workdir).audio
  for name in OF_NETWORK:
    if theirs[name] != config.audio[name]:
      raise InputError(f'config.audio.init={workdir}: was trained with config.audio.{name}={theirs[name]!r}, here it is '
                       f'{config.audio[name]!r}; give the same, or another workdir')
  if not config_file.has_checkpoints(workdir):
    raise InputError(f'config.audio.init={workdir}: has no checkpoint yet; train it first')


def _network_of(workdir: str, like: Any) -> Any:
  """The averaged audio network of the best checkpoint of a workdir; like: parameters of the same shapes."""
  with checkpoint.Checkpoints(workdir) as checkpoints:
    step = checkpoints.best_step()
    assert step is not None, 'check_init has looked'
    return checkpoints.restore_weights(step, {'ema_params': {'audio_net': like}})['ema_params']['audio_net']


def with_learned_depth(run: Run, state: workdir_state.TrainState) -> tuple[workdir_state.TrainState, dict[str, float]]:
  """The state with D_c learned from the training frames (Eq. 9), if it then fits the validation frames better.

  Returns:
    The state, and the photometric error (`learn_depth.photometric_error`) on validation frames before and after, by log name.
  """
  model, constants, subject, count = run.model, run.constants, run.subject, run.config.depth.num_frames
  gamem = gamem_of(model.geometry, run.config)
  nodes = learn_depth.learn(gamem, subject, run.split.train, constants, run.config.depth)
  learned_state = with_replaced(state, 'canonical_depth', {'log_correction': nodes})
  val_ids = evenly_spaced(run.split.val, count)
  frames, poses = subject.frames[val_ids], subject.observed_from_canonical[val_ids]
  learned = model.apply({'params': learned_state.params}, constants, method='depth')
  tracked_error, learned_error = (learn_depth.photometric_error(gamem, depth, constants, frames, poses)
                                  for depth in (constants.depth_tracked, learned))
  if learned_error < tracked_error:
    state = learned_state
  return state, {'metric/head_rms_tracked_depth': tracked_error, 'metric/head_rms_learned_depth': learned_error}


def with_replaced(state: workdir_state.TrainState, name: str, values: Any) -> workdir_state.TrainState:
  """The state with the parameters `name` replaced, in the average too."""
  params = state.params | {name: jax.tree.map(jax.numpy.asarray, values)}
  return state._replace(params=params, ema_params=jax.tree.map(jax.numpy.copy, params))


def begin(run: Run, checkpoints: checkpoint.Checkpoints, state: workdir_state.TrainState, speech: Speech
          ) -> tuple[workdir_state.TrainState, int, dict[str, float]]:
  """The state to go on from: the newest checkpoint's, or `state` with all that happens once.

  That is the audio network of config.audio.init, the linear lips fitted to `speech`, and D_c learned.

  Returns:
    The state, its step, and what there is to log of a beginning, by log name.
  """
  step = checkpoints.latest_step() or 0
  if step:
    logging.info('continuing from step %d', step)
    return checkpoints.restore(step, state), step, {}
  values: dict[str, float] = {}
  if run.config.audio.init:
    state = with_replaced(state, 'audio_net', _network_of(run.config.audio.init, state.params['audio_net']))
  if run.config.linear.share or run.config.linear.amplitude:
    with stage('linear lips', show=jax.process_index() == 0):
      components = linear.lip_components(run)
      if run.config.linear.share:
        state = with_replaced(state, 'linear_lips', linear.fit_lips(run, speech, components))
      if run.config.linear.amplitude:
        state = with_replaced(state, 'lip_opening', linear.fit_opening(run, components))
  if run.config.depth.num_frames:
    state, values = with_learned_depth(run, state)
  networks = {name: params for name, params in state.params.items() if name not in workdir_state.FITTED}
  return state, 0, values | {'metric/num_parameters': sum(x.size for x in jax.tree.leaves(networks))}
