"""A toy subject's workdir with a checkpoint of random weights, for what needs a person but not a good one."""
import pathlib

from ml_collections import ConfigDict

from speech2lip_jax.configs import smoke
from speech2lip_jax.training import state as train_state
from speech2lip_jax.workdir import checkpoint, config_file
from speech2lip_jax.workdir.run import open_run
from tests.toy_subject import write_toy_subject


def toy_config(subject: pathlib.Path) -> ConfigDict:
  """configs/smoke.py for a subject, two steps long."""
  config = smoke.get_config().unlock()
  config.data.path = str(subject)
  config.train.update(num_steps=2, blend_start_step=1, warmup_steps=1)
  return config.lock()


def write_toy_run(folder: pathlib.Path) -> pathlib.Path:
  """Writes the subject folder/toy, and returns the workdir folder/run."""
  config = toy_config(write_toy_subject(folder / 'toy', clip_frames=(40, 24)))
  run, workdir = open_run(config), folder / 'run'
  workdir.mkdir()
  config_file.claim_workdir(workdir, config)
  optimizer, _ = train_state.make_optimizer(config.train)
  state = train_state.state_creator(run.model, optimizer, config, run.features.num_channels)(run.constants)
  with checkpoint.Checkpoints(workdir, writes=True) as checkpoints:
    checkpoints.save(state._replace(step=config.train.num_steps), score=20.0, phase=2)
  return workdir
