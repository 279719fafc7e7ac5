"""How close does a head that was moved to another pose come to the truth at that pose, and what does the depth give?

    python benchmarks/pose_control.py --truth talk.npz --workdir RUN

talk.npz is the truth of a rendered talking head (`speech2lip_jax.synthetic`), RUN a training on the subject that `preprocess`
made of its video. Frames' heads are turned by 5, 10 and 15 degrees about `head_motion.head_centre`, as `render --pose offset:…`
does it, and compared with the renderer's own picture of that moment at that pose: PSNR over the pixels that are head there,
dB, mean over frames. Lips and light are the moment's own: the frames themselves are moved, without speech.

  not moved       the frame as it is: what moving the head has to beat
  tracked depth   D_c of `preprocess`, without what training learned
  learned depth   D_c of the run
  true depth      the renderer's own depth and poses: what the way of rendering allows
"""
import argparse
import dataclasses
import pathlib
import sys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from speech2lip_jax.data.dataset import evenly_spaced  # noqa: E402
from speech2lip_jax.metrics.image import psnr  # noqa: E402
from speech2lip_jax.ops import fill  # noqa: E402
from speech2lip_jax.rendering import head_motion, pose  # noqa: E402
from speech2lip_jax.rendering.trained import load_trained  # noqa: E402
from speech2lip_jax.synthetic.subject import load_subject_of  # noqa: E402

TURNS = (5.0, 10.0, 15.0)


class Crop:
  """Brings truth pictures into the subject's frames; where the crop lies is found from landmarks that both have."""

  def __init__(self, subject, truth):
    theirs, ours = truth.landmarks(0)[:, :2].astype(np.float64), subject.landmarks[0].astype(np.float64)
    spread = theirs - theirs.mean(0)
    self.scale = float((spread * (ours - ours.mean(0))).sum() / (spread**2).sum())
    self.shift = ours.mean(0) - self.scale * theirs.mean(0)
    self.size = subject.meta.width, subject.meta.height

  def __call__(self, image):
    """float32, bilinear; the border goes on."""
    matrix = np.array([[self.scale, 0, self.shift[0]], [0, self.scale, self.shift[1]]])
    return cv2.warpAffine(np.asarray(image, np.float32), matrix, self.size, flags=cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_REPLICATE)


def true_subject(subject, truth, crop):
  """The subject with the renderer's depth, poses and focal length, and where `head_motion.head_centre` lies in truth: [3]."""
  canonical = subject.meta.canonical_frame
  picture = truth.render(canonical, noise=False)
  inside = crop(picture.depth > 0) > 0.999
  nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
  depth = crop(picture.depth)[tuple(nearest)]  # past the rim it goes on as it was there
  true = dataclasses.replace(subject, depth_canonical=depth, observed_from_head=truth.observed_from_head.astype(np.float32),
                             meta=dataclasses.replace(subject.meta, focal_px=truth.focal_px * crop.scale))
  # The tracker's unit is another: its depth is matched with the true one over the face.
  face = (np.asarray(subject.mask_face_canonical) > 0) & inside
  tracked = head_motion.head_centre(subject)
  slope, level = np.polyfit(np.asarray(subject.depth_canonical, np.float64)[face], depth[face].astype(np.float64), 1)
  z = slope * tracked[2] + level
  centre = np.append(tracked[:2] / tracked[2] * subject.meta.focal_px / true.meta.focal_px * z, z)
  return true, centre


def turned(poses, centre, degrees):
  """Poses [n, 4, 4] with the head turned by yaw, pitch, roll about `centre` in canonical axes."""
  turn = np.eye(4)
  turn[:3, :3] = pose.rotation(np.asarray(degrees))
  turn[:3, 3] = centre - turn[:3, :3] @ centre
  return poses @ turn


def move(subject, depth, frame_ids, targets):
  """Frames of a subject at other poses, [n, H, W, 3] uint8; holes filled smoothly."""
  stage = head_motion.prepare(subject, jnp.asarray(depth), frame_ids)
  motions = head_motion.motions(subject.observed_from_canonical[frame_ids], targets, stage.layer.centre)

  @jax.jit
  def one(rgb, pose, motion):
    moved = head_motion.move_head(rgb / 255.0, pose, motion, stage.plate / 255.0, stage.points, stage.layer,
                                  subject.meta.focal_px)
    return jnp.round(jnp.clip(fill.diffuse(moved.rgb_face, ~moved.hole), 0, 1) * 255).astype(jnp.uint8), moved.hole

  rows = [one(subject.frames[i], subject.observed_from_canonical[i], jax.tree.map(lambda x, k=k: x[k], motions))
          for k, i in enumerate(frame_ids)]
  return [np.asarray(rgb) for rgb, _ in rows], float(np.mean([hole.sum() for _, hole in rows]))


def report(truth, subject, learned_depth, frame_ids, strip=None):
  """Prints the table; writes the pictures if asked."""
  crop = Crop(subject, truth)
  true, true_centre = true_subject(subject, truth, crop)
  first = truth.observed_from_head[subject.meta.canonical_frame]
  relative = truth.observed_from_head @ np.linalg.inv(first)
  geometries = {'tracked depth': (subject, subject.depth_canonical), 'learned depth': (subject, learned_depth),
                'true depth': (true, true.depth_canonical)}
  centres = {'tracked depth': head_motion.head_centre(subject), 'learned depth': head_motion.head_centre(subject),
             'true depth': true_centre}
  print(f'{len(frame_ids)} frames; PSNR of the head, dB | ' + ' | '.join(['not moved', *geometries]) + ' | hole pixels')
  rows = []
  for axis, name in enumerate(('yaw', 'pitch')):
    for degrees in TURNS:
      angles = np.eye(3)[axis] * degrees
      pictures = [truth.render(i, pose=turned(relative[i], true_centre, angles) @ first, noise=False) for i in frame_ids]
      wanted = [np.round(np.clip(crop(picture.rgb), 0, 255)).astype(np.uint8) for picture in pictures]
      heads = [crop(picture.mask_head) > 0.5 for picture in pictures]
      score = lambda images, wanted=wanted, heads=heads: np.mean([psnr(*each) for each in zip(images, wanted, heads, strict=True)])
      scores, shown, holes = [score(subject.frames[frame_ids])], [subject.frames[frame_ids[0]], wanted[0]], []
      for key, (which, depth) in geometries.items():
        targets = turned(which.observed_from_canonical[frame_ids].astype(np.float64), centres[key], angles)
        images, hole = move(which, depth, frame_ids, targets)
        scores.append(score(images))
        shown.append(images[0])
        holes.append(hole)
      rows.append(np.vstack(shown))
      print(f'{name} {degrees:g} | ' + ' | '.join(f'{value:.2f}' for value in scores) + f' | {holes[1]:.0f}', flush=True)
  if strip:
    cv2.imwrite(strip, np.hstack(rows)[..., ::-1])


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--truth', required=True)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--num_frames', type=int, default=6)
  parser.add_argument('--strip', help='PNG to write: the first frame not moved, true, by the three depths (rows) at each turn')
  arguments = parser.parse_args()
  truth, trained = load_subject_of(arguments.truth), load_trained(arguments.workdir)
  frame_ids = evenly_spaced(trained.split.test, arguments.num_frames)
  report(truth, trained.subject, trained.predictor.depth(), frame_ids, arguments.strip)


if __name__ == '__main__':
  main()
