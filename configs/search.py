"""A search for a subject's own values, of which Optuna chooses each trial's by what those before it have come to.

    speech2lip sweep --config configs/search.py --workdir runs/search --config.data.path=subjects/anna --num_trials 40

leaves runs/search/best.py. Trials are compared by the PSNR of the mouth on validation frames, which soft lips raise: the recipe is
`faithful`, which is made for it, and no field is searched that trades PSNR for detail.
"""
from ml_collections import ConfigDict

from speech2lip_jax.configs import faithful


def get_config() -> ConfigDict:
  """The recipe `faithful`, with as few checkpoints as it can go on from."""
  config = faithful.get_config().unlock()
  config.train.keep_checkpoints = 1
  return config.lock()


def get_hyper(hyper):
  """How fast it learns, how much noise is on the sound, how large the field is, and what a regression paints of the lips."""
  return hyper.space(
      hyper.real('train.learning_rate', 5e-4, 1e-2, log=True),
      hyper.real('audio.noise_std', 0.0, 1.0),
      hyper.integer('field.width', 48, 256, log=True),
      hyper.real('linear.share', 0.0, 0.8),
      hyper.choice('audio.window_steps', [16, 32, 64]))
