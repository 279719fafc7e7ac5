"""How exactly do the two directions of the canonical mapping agree, and what does carrying a frame's own lips lose?

    python benchmarks/mapping.py --subject SUBJECT [--every 10]

Prints, over every n-th frame of a subject folder:
- round trip C2O(O2C(p)) − p in canonical pixels, on the lip box (mean, worst frame's mean) and on the face (99th
  percentile, worst frame's), for the number of steps that rendering takes and for fewer;
- oracle composition: the frame's own canonical lips carried back into it, 8 bits a colour as rendered, PSNR in dB over the mouth
  region, mean over frames, by method of reading the lips. It is the ceiling of everything the model can reach.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from speech2lip_jax.configs import default
from speech2lip_jax.data.dataset import load_subject
from speech2lip_jax.gamem import compose, mapping
from speech2lip_jax.gamem.subject import subject_geometry
from speech2lip_jax.metrics.image import psnr
from speech2lip_jax.ops import sampling

_SUBJECT = flags.DEFINE_string('subject', None, 'Subject folder.', required=True)
_EVERY = flags.DEFINE_integer('every', 10, 'Look at every n-th frame.')
METHODS = ('bilinear', 'bicubic', 'bspline')


def _round_trip(depth, geometry, num_steps, pose):
  """[sH, sW] distance between each canonical pixel and where it comes back to."""
  pixels, _ = mapping.observed_coords(depth, pose, geometry.focal, geometry.canonical_scale)
  back = mapping.canonical_coords(pixels, depth, pose, geometry.focal, num_steps, geometry.canonical_scale)
  rows, columns = jnp.meshgrid(jnp.arange(depth.shape[0]), jnp.arange(depth.shape[1]), indexing='ij')
  return jnp.linalg.norm(back - jnp.stack([columns, rows], -1), axis=-1)


def _oracle(depth, geometry, num_steps, feather, method, lip, frame, pose):
  """The frame with its own lips read by `method`, and the mouth region."""
  box = geometry.lip_box
  rows, columns = jnp.meshgrid(jnp.arange(geometry.height), jnp.arange(geometry.width), indexing='ij')
  grid = jnp.stack([columns, rows], -1).astype(jnp.float32)
  coords = mapping.canonical_coords(grid, depth, pose, geometry.focal, num_steps, geometry.canonical_scale)
  source = sampling.spline_coefficients(lip) if method == 'bspline' else lip
  read = sampling.sample_image(source, coords - jnp.array([box.left, box.top]), method, 'border')
  mask = compose.lip_mask(coords, lip.shape[:2], (box.top, box.left), feather)[..., None]
  return frame + mask * (read - frame), compose.mouth_region(coords, box)


def main(argv):
  del argv
  subject, config = load_subject(_SUBJECT.value), default.get_config()
  geometry, box = subject_geometry(subject, config), subject.meta.lip_box
  depth, poses = jnp.asarray(subject.depth_canonical), subject.observed_from_canonical
  frame_ids = np.flatnonzero(~subject.is_interpolated)[::_EVERY.value]
  face = np.asarray(subject.mask_face_canonical) > 0
  lips = (slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
  print(f'{len(frame_ids)} frames of {geometry.width} px, canonical image {geometry.canonical_scale} times as large')
  for steps in (2, 4, 6, config.compose.num_inverse_steps):
    distance = jax.jit(functools.partial(_round_trip, depth, geometry, steps))
    errors = [np.asarray(distance(poses[i])) for i in frame_ids]
    of_lips, of_face = [e[lips].mean() for e in errors], [np.percentile(e[face], 99) for e in errors]
    print(f'round trip, {steps} steps: lips mean {np.mean(of_lips):.5f} px, worst frame {np.max(of_lips):.5f}; '
          f'face 99 % {np.mean(of_face):.5f} px, worst frame {np.max(of_face):.5f}')
  for method in METHODS:
    carry = jax.jit(functools.partial(_oracle, depth, geometry, config.compose.num_inverse_steps,
                                      config.compose.feather * box.width, method))
    values = []
    for i in frame_ids:
      frame = subject.frames[i].astype(np.float32) / 255
      image, mask = carry(subject.rgb_lip_canonical[i].astype(np.float32) / 255, frame, poses[i])
      values.append(psnr(np.asarray(jnp.round(jnp.clip(image, 0, 1) * 255)), subject.frames[i], np.asarray(mask)))
    print(f'oracle composition, {method}: {np.mean(values):.2f} dB (worst frame {np.min(values):.2f})')


if __name__ == '__main__':
  app.run(main)
