"""python -m speech2lip_jax VERB: the console command without installing it."""
from speech2lip_jax import cli

cli.main()
