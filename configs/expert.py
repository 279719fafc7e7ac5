"""The sync expert's recipe: minutes on two CPU cores.

    speech2lip expert --subject SUBJECT --workdir EXPERT
"""
from ml_collections import ConfigDict

from speech2lip_jax.configs import default


def get_config() -> ConfigDict:
  """Every field once, with its unit; its type and range stand in schema.py."""
  config = ConfigDict()
  config.seed = 0  # initialisation, order of frames and augmentation follow from it
  config.data = default.get_config().data  # the split; validation and test frames are never trained on
  config.data.unlock()
  config.data.part = 'all'  # of the training frames: 'all', or 'even' / 'odd' clips (4 s blocks of fewer, long clips)

  config.expert = ConfigDict()
  config.expert.num_features = 128  # length of an embedding
  config.expert.width = 128  # channels
  config.expert.temperature = 0.1  # of the softmax over cosines
  config.expert.neighbour_weight = 0.25  # target weight of speech one frame off, against 1 in time
  config.expert.mel_noise_std = 0.3  # of noise on the mel (range −4 … 4) in training
  config.expert.mel_gain_std = 0.3  # of a constant added to a run's mel in training

  config.train = ConfigDict()
  config.train.num_steps = 400  # steps in all; the schedule ends there
  config.train.num_runs = 12  # runs of consecutive frames a step, from different clips or times
  config.train.run_frames = 30  # frames of a run
  config.train.learning_rate = 2e-3  # peak of a warm-up and cosine schedule that ends at 0
  config.train.warmup_steps = 40  # steps until the learning rate is at its peak
  config.train.weight_decay = 1e-2  # decoupled (AdamW)
  config.train.log_every = 20  # steps

  return config.lock()
