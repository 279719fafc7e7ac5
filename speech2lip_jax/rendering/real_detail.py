"""Detail of real mouths: creases, teeth and their shimmer, from the training frames whose lips look most like the painted ones.

Painted lips are those that the sound leaves probable, so their fine detail is an average, and moves less than a true mouth's. What
the sound does not tell is as it once was: each frame's lips get the fine detail of one real mouth of the subject, in a mixture with
their own. Frames choose on their own: holding on to a mouth over time moved less, and flickered more (docs/results.md).
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from speech2lip_jax.data.dataset import Subject, evenly_spaced

RADIUS = 0.04  # of the lip box's width: detail is what a box of that radius blurs away
MOST_FRAMES = 3000  # of the training frames are looked through


class RealDetail(NamedTuple):
  """share: 0 … 1, of the detail that is taken. Of M mouths, coarse: [M, d] float32, what they are compared by; rgb_lip:
  [M, h, w, 3] uint8."""
  share: float
  coarse: np.ndarray
  rgb_lip: np.ndarray


def open_detail(subject: Subject, train_ids: np.ndarray, share: float) -> RealDetail:
  """The detail of the subject's mouths in its training frames [n]."""
  rgb_lip = np.ascontiguousarray(subject.rgb_lip_canonical[evenly_spaced(train_ids, MOST_FRAMES)])
  coarse = jax.jit(lambda lips: _coarse(_blurred(lips / 255.0)))
  parts = [jax.device_get(coarse(part)) for part in np.array_split(rgb_lip, max(1, len(rgb_lip) // 256))]
  return RealDetail(share, np.concatenate(parts), rgb_lip)


def added(rgb_lip: jax.Array, detail: RealDetail) -> jax.Array:
  """What painted lips [B, h, w, 3] float32 in 0 … 1 are to be given: [B, h, w, 3], the real mouth's detail less their own."""
  blurred = _blurred(rgb_lip)
  coarse = _coarse(blurred)
  nearest = jnp.argmin(jnp.square(detail.coarse).sum(1) - 2 * coarse @ detail.coarse.T, axis=1)
  real = detail.rgb_lip[nearest] / 255.0
  return detail.share * (real - _blurred(real) - (rgb_lip - blurred))


def _radius(width: int) -> int:
  return max(1, round(RADIUS * width))


def _blurred(rgb_lip: jax.Array) -> jax.Array:
  """Lips [B, h, w, 3] under a box of 2 · radius + 1 pixels, mirrored at their border."""
  radius = _radius(rgb_lip.shape[2])
  for axis in (1, 2):
    size = rgb_lip.shape[axis]
    padding = [(radius, radius) if each == axis else (0, 0) for each in range(4)]
    padded = jnp.pad(rgb_lip, padding, 'symmetric')
    shifted = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * radius + 1)]
    rgb_lip = jnp.mean(jnp.stack(shifted), 0)
  return rgb_lip


def _coarse(blurred: jax.Array) -> jax.Array:
  """As many pixels of blurred lips [B, h, w, 3] as tell all of them, two in a radius, flat: [B, d]."""
  step = (_radius(blurred.shape[2]) + 1) // 2
  return blurred[:, ::step, ::step].reshape(len(blurred), -1)
