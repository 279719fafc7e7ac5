"""Does learning the head's depth pay on frames that were not used, and how does it look?

    python benchmarks/head_depth.py --subject SUBJECT --out depth.png

Prints the photometric error (Eq. 9, root mean square of 255, over the visible head outside the face) of the held-out
frames warped to canonical space, with the tracked depth and with the learned one, and the seconds that learning took.
Writes a picture: canonical frame, head without face, tracked and learned D_c (near is red, level lines).
"""
import time

import cv2
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from speech2lip_jax.configs import default
from speech2lip_jax.data.dataset import evenly_spaced, load_subject, split_frames
from speech2lip_jax.gamem import learn_depth
from speech2lip_jax.gamem.depth import CanonicalDepth
from speech2lip_jax.gamem.module import gamem_of
from speech2lip_jax.gamem.subject import subject_constants, subject_geometry

_SUBJECT = flags.DEFINE_string('subject', None, 'Subject folder.', required=True)
_OUT = flags.DEFINE_string('out', None, 'Picture to write, .png.', required=True)
NUM_FRAMES = 100
NUM_LEVELS = 30


def coloured(depth: np.ndarray, low: float, high: float) -> np.ndarray:
  """Depth [H, W] as [H, W, 3] uint8 BGR."""
  share = np.clip((depth - low) / (high - low), 0, 1)
  picture = cv2.applyColorMap(((1 - share) * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
  picture[np.abs((share * NUM_LEVELS) % 1 - 0.5) > 0.45] = 0
  return picture


def main(argv):
  del argv
  subject, config = load_subject(_SUBJECT.value), default.get_config()
  split = split_frames(subject, config.data)
  gamem, constants = gamem_of(subject_geometry(subject, config), config), subject_constants(subject, split.train)
  started = time.perf_counter()
  nodes = learn_depth.learn(gamem, subject, split.train, constants, config.depth)
  seconds = time.perf_counter() - started
  learned = np.asarray(CanonicalDepth(config.depth.cell).apply(
      {'params': {'log_correction': jnp.asarray(nodes)}}, constants.depth_tracked, constants.outside_face))
  test = evenly_spaced(split.test, NUM_FRAMES)
  frames, poses = subject.frames[test], subject.observed_from_canonical[test]
  errors = [255 * learn_depth.photometric_error(gamem, depth, constants, frames, poses)
            for depth in (constants.depth_tracked, learned)]
  print(f'held-out photometric error over {len(test)} frames: tracked depth {errors[0]:.2f}, learned {errors[1]:.2f} (of 255); '
        f'learned in {seconds:.0f} s')
  frame = np.round(constants.rgb_face_canonical * 255).astype(np.uint8)[..., ::-1]
  head = frame * (constants.mask_head_only[..., None] > 0)
  low, high = float(constants.depth_tracked.min()), float(np.percentile(learned[constants.mask_head_only > 0], 99))
  cv2.imwrite(_OUT.value, np.hstack([frame, head, coloured(constants.depth_tracked, low, high), coloured(learned, low, high)]))


if __name__ == '__main__':
  app.run(main)
