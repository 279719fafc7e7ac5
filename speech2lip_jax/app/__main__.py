"""python -m speech2lip_jax.app: see the package."""
import sys

from speech2lip_jax import app, cli

cli.run_verb('app', app, sys.argv)
