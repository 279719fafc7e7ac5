"""Lips near the truth, pixel by pixel: by L2 alone, the best PSNR. They are softer than the default recipe's.

    speech2lip train --config faithful --workdir RUN --config.data.path=SUBJECT
"""
from ml_collections import ConfigDict

from speech2lip_jax.configs import default


def get_config() -> ConfigDict:
  """The default recipe without the perceptual distance and with details as painted."""
  config = default.get_config()
  config.loss.lip_perceptual_weight = 0.0
  config.field.detail_gain = 1.0
  return config.lock()
