"""A few minutes of video of one person in, that person saying anything out: Speech2Lip (ICCV 2023) in JAX/Flax."""
import pathlib

# `configs/` is installed as `speech2lip_jax.configs`; in a checkout it stands beside the package.
if not pathlib.Path(__file__).with_name('configs').is_dir():
  __path__.append(str(pathlib.Path(__file__).resolve().parents[1]))
