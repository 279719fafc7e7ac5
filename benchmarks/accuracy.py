"""How near does `preprocess` come to the truth? Poses and depth of a rendered subject, for each kind of head motion.

    python benchmarks/accuracy.py --workdir DIR                 # landmark model, 256 px, 20 s, still, nodding and turning
    python benchmarks/accuracy.py --workdir DIR --tracks        # exact landmarks instead of the model's
    python benchmarks/accuracy.py --workdir DIR --motion turning --video_size 500 --size 500 --seconds 60

What is compared (medians, 95th percentile in brackets), and what is left out because a video cannot tell it:

  rotation   degrees between fitted and true head turn, after one constant turn between the two head frames. The crop's centre
             is off the video's: the true camera is first turned towards it, as the subject folder's camera has it.
  across, along
             fitted against true place of the head, % of its distance, across and along the line of sight. The head frames
             may differ by one constant shift and scale. Focal length and distance can hardly be told apart (a head seen
             twice as far through twice the focal length looks nearly the same): fitted distances are divided by fitted over
             true focal length before comparing.
  focal      fitted over true focal length.
  face       |fitted − true| of D_c over the true depth, %, after the best single scale, inside mask_face_canonical; and as
             relief: the depths less their medians, in head units, the fitted one in its own.
  head       the same outside the face, over the rest of the true head.

Limits asked for: rotation 0.5 (0.2 is better), across 0.3 (0.1), face 3 (1.5).
"""
import argparse
import pathlib
import sys

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from speech2lip_jax.data import schema  # noqa: E402
from speech2lip_jax.preprocess import pipeline, rigid  # noqa: E402
from speech2lip_jax.synthetic.subject import MOTIONS, SyntheticSubject, load_subject_of, make_clip  # noqa: E402


def find_crop(folder: pathlib.Path, meta: schema.SubjectMeta) -> tuple[float, np.ndarray]:
  """Scale and shift [2] with frame pixel = scale · video pixel + shift, from one and the same landmarks in both."""
  stored = sorted((folder / 'stages' / 'landmarks').glob('*.npz'))
  in_video = np.concatenate([np.load(path)['landmarks'] for path in stored])[..., :2].astype(np.float64)
  in_frame = np.asarray(schema.load_array(folder, 'landmarks', meta), np.float64)
  if len(in_video) != len(in_frame):
    raise SystemExit(f'{folder}: {len(in_frame)} frames of {len(in_video)}; the benchmark needs all, is a face lost?')
  seen = np.isfinite(in_video[:, 0, 0])
  x, y = in_video[seen].reshape(-1, 2), in_frame[seen].reshape(-1, 2)
  scale = ((x - x.mean(0)) * (y - y.mean(0))).sum() / ((x - x.mean(0))**2).sum()
  return float(scale), y.mean(0) - scale * x.mean(0)


def turn_to_center(subject: SyntheticSubject, scale: float, shift: np.ndarray, size: int) -> np.ndarray:
  """[3, 3] from the video's camera to one that looks through the crop's centre."""
  middle = ((size - 1) / 2 - shift) / scale - (subject.size - 1) / 2
  z = np.append(middle / subject.focal_px, 1)
  z /= np.linalg.norm(z)
  x = np.cross([0, 1, 0], z)
  x /= np.linalg.norm(x)
  return np.stack([x, np.cross(z, x), z])


def compare(folder: pathlib.Path, subject: SyntheticSubject) -> dict[str, float]:
  """The numbers of a finished subject folder against the subject that it was made from."""
  meta = schema.validate(folder)
  scale, shift = find_crop(folder, meta)
  poses = np.asarray(schema.load_array(folder, 'observed_from_head', meta), np.float64)
  turn = turn_to_center(subject, scale, shift, meta.height)
  true_rotation, true_place = turn @ subject.observed_from_head[:, :3, :3], subject.observed_from_head[:, :3, 3] @ turn.T
  between = rigid.mean_rotation(np.swapaxes(true_rotation, -1, -2) @ poses[:, :3, :3])
  angle = np.degrees(np.linalg.norm(rigid.vector_from_rotation(
      true_rotation @ between @ np.swapaxes(poses[:, :3, :3], -1, -2)), axis=-1))

  focal_ratio = meta.focal_px / (scale * subject.focal_px)
  place = poses[:, :3, 3] / (1, 1, focal_ratio)
  # true = unit · fitted − true rotation · offset, least squares in the four unknowns
  system = np.concatenate([place.reshape(-1, 1), -true_rotation.reshape(-1, 3)], axis=1)
  unit, *offset = np.linalg.lstsq(system, true_place.ravel(), rcond=None)[0]
  error = (unit * place - true_rotation @ np.array(offset) - true_place) / true_place[:, 2:] * 100
  across, along = np.linalg.norm(error[:, :2], axis=1), np.abs(error[:, 2])

  size = meta.canonical_size[0]
  ys, xs = np.mgrid[:size, :size].astype(np.float64)
  in_frame = (np.stack([xs, ys], -1) + 0.5) / meta.canonical_scale - 0.5
  in_video = ((in_frame - shift) / scale).astype(np.float32)
  picture = subject.render(meta.canonical_frame, noise=False)
  solid = cv2.erode((picture.depth > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
  true = cv2.remap(picture.depth, in_video[..., 0], in_video[..., 1], cv2.INTER_LINEAR)
  is_head = cv2.remap(solid, in_video[..., 0], in_video[..., 1], cv2.INTER_NEAREST) > 0
  fitted = np.asarray(schema.load_array(folder, 'depth_canonical', meta), np.float64)
  face = np.asarray(schema.load_array(folder, 'mask_face_canonical', meta)) > 0
  result = {'rotation': np.median(angle), 'rotation_p95': np.percentile(angle, 95), 'across': np.median(across),
            'across_p95': np.percentile(across, 95), 'along': np.median(along), 'along_p95': np.percentile(along, 95),
            'focal': focal_ratio}
  best = np.median(true[face & is_head] / fitted[face & is_head])
  middle = np.median(fitted[face & is_head]), np.median(true[face & is_head])
  for name, where in (('face', face & is_head), ('head', ~face & is_head)):
    result[name] = np.median(np.abs(best * fitted[where] - true[where]) / true[where]) * 100
    result[f'{name}_relief'] = np.median(np.abs(unit * (fitted[where] - middle[0]) - (true[where] - middle[1])))
  return {name: float(value) for name, value in result.items()}


def main() -> None:
  """Prints one row a motion."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--workdir', required=True, type=pathlib.Path, help='for clips and subjects; finished ones are used again')
  parser.add_argument('--motion', action='append', choices=list(MOTIONS), help='may repeat; all by default')
  parser.add_argument('--video_size', type=int, default=256, help='pixels')
  parser.add_argument('--size', type=int, default=256, help='of the subject, pixels')
  parser.add_argument('--seconds', type=float, default=20.0)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--tracks', action='store_true', help='exact landmarks instead of the model\'s')
  parser.add_argument('--landmarker', help='face_landmarker.task')
  options = parser.parse_args()
  rows = ['| motion | rotation ° | across % | along % | focal | face % (relief) | head % (relief) |', '|---' * 7 + '|']
  for motion in options.motion or list(MOTIONS):
    name = f'{motion}_{options.video_size}_{options.seconds:g}s_seed{options.seed}'
    clip = options.workdir / f'{name}.mp4'
    if not clip.with_suffix('.npz').is_file():
      make_clip(clip, options.video_size, options.seconds, options.seed, motion, progress=True)
    tracks = [str(clip.with_suffix('.npz'))] if options.tracks else None
    folder = options.workdir / f'{name}_{options.size}{"_tracks" if tracks else ""}'
    pipeline.preprocess([str(clip)], folder, options.size, options.landmarker, tracks)
    r = compare(folder, load_subject_of(clip.with_suffix('.npz')))
    rows.append(f'| {motion} | {r["rotation"]:.3f} ({r["rotation_p95"]:.3f}) | {r["across"]:.3f} ({r["across_p95"]:.3f}) '
                f'| {r["along"]:.3f} ({r["along_p95"]:.3f}) | {r["focal"]:.3f} | {r["face"]:.2f} ({r["face_relief"]:.3f}) '
                f'| {r["head"]:.2f} ({r["head_relief"]:.3f}) |')
  print('\n'.join(rows))


if __name__ == '__main__':
  main()
