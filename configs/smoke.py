"""A tiny recipe that passes through every part in seconds: tests, and a first look at a new machine.

    speech2lip train --config configs/smoke.py --workdir RUN --config.data.path=SUBJECT
"""
from ml_collections import ConfigDict

from speech2lip_jax.configs import default


def get_config() -> ConfigDict:
  """The default recipe, smaller and shorter."""
  config = default.get_config()
  config.audio.features = 'mel'
  config.audio.window_steps = 16
  config.field.width = 32
  config.data.num_val_frames = 4
  config.depth.num_frames = 4
  config.train.num_steps = 12
  config.train.blend_start_step = config.train.get_ref('num_steps') * 2 // 3
  config.perceptual.start_step = config.train.get_ref('num_steps') // 3
  config.loss.lpips = ''  # edges: a network takes half a minute to compile
  config.train.batch_size = 8
  config.train.blend_every = 4
  config.train.lip_pixels = 64
  config.train.warmup_steps = 2
  config.train.log_every = 1
  config.train.eval_every = 4
  return config.lock()
