"""The demo's recipe: 80 s of a 256 px subject in minutes on two CPU cores.

    speech2lip demo --workdir DIR
"""
from ml_collections import ConfigDict

from speech2lip_jax.configs import default


def get_config() -> ConfigDict:
  """The default recipe, shorter, with more of the short clip held out."""
  config = default.get_config()
  config.data.test_fraction = 0.15
  config.data.num_val_frames = 24
  config.train.batch_size = 32
  config.train.blend_every = 8
  config.train.num_steps = 2000
  config.train.eval_every = 500
  return config.lock()
