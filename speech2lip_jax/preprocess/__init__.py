"""Video files of one person → a subject folder; `pipeline` is the entry, one stage a file beside it."""
from speech2lip_jax.preprocess.pipeline import main  # noqa: F401
