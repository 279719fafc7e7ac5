"""The model for a subject, built on its geometry."""
from ml_collections import ConfigDict, FrozenConfigDict

from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.gamem.subject import subject_geometry
from speech2lip_jax.models.speech2lip import Speech2Lip


def build_model(subject: Subject, config: ConfigDict, axis_name: str | None = None) -> Speech2Lip:
  """The model for this subject. config: a whole recipe that `configs.schema.check` has let pass."""
  return Speech2Lip(FrozenConfigDict(config), subject_geometry(subject, config), axis_name)
