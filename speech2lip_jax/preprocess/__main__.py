"""python -m speech2lip_jax.preprocess: see `pipeline`."""
import sys

from speech2lip_jax import cli, preprocess

cli.run_verb('preprocess', preprocess, sys.argv)
