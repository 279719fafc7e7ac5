"""Lips with as much detail as the truth's, that move nearly as much: they cost a third of a dB of the default's PSNR.

    speech2lip train --config sharp --workdir RUN --config.data.path=SUBJECT
"""
from ml_collections import ConfigDict

from speech2lip_jax.configs import default


def get_config() -> ConfigDict:
  """The default recipe with its details stronger, and most of them those of the subject's own nearest mouths."""
  config = default.get_config()
  config.field.detail_gain = 4.0
  config.field.real_detail = 0.7
  return config.lock()
