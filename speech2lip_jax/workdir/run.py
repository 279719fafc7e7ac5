"""What a config opens: the subject, its split, its speech features, and the model on them."""
from typing import NamedTuple

from ml_collections import ConfigDict

from speech2lip_jax.configs import schema as config_schema
from speech2lip_jax.data.dataset import Split, Subject, load_subject, split_frames
from speech2lip_jax.data.features import SpeechFeatures, open_features
from speech2lip_jax.gamem.subject import SubjectConstants, subject_constants
from speech2lip_jax.models.build import build_model
from speech2lip_jax.models.speech2lip import Speech2Lip


class Run(NamedTuple):
  """A config and what it opens; nothing here is changed by training."""
  config: ConfigDict
  subject: Subject
  split: Split
  features: SpeechFeatures
  model: Speech2Lip
  constants: SubjectConstants


def open_run(config: ConfigDict, axis_name: str | None = None) -> Run:
  """Opens the subject of `config.data.path` for training or rendering.

  Args:
    config: a whole recipe.
    axis_name: the pmap axis over which the model's batch statistics agree.

  Raises:
    InputError: the subject is missing or damaged, or the config is out of range or does not fit it.
  """
  config_schema.check(config)
  subject = load_subject(config.data.path)
  split = split_frames(subject, config.data)
  features = open_features(subject, config.audio, split.train)
  model = build_model(subject, config, axis_name)
  return Run(config, subject, split, features, model, subject_constants(subject, split.train))
