"""How still does the head hold in canonical space? Numbers of a finished subject folder, most of them held out of the fit.

    python benchmarks/tracking.py --subject SUBJECT

Lengths are pixels of the subject's frames and, in brackets, scaled to frames of 512 px. The tip of the nose is left out of
the fit, as landmark and as picture (`tracking.RIGID_POINTS`, `photometric.face_samples`), so what it does judges the poses.
Motion in the pictures is Lucas-Kanade's, from the median of the canonical pictures to each of them, without any landmark.

  reprojection      fitted rigid points against their landmarks, all detected frames (in the fit; from meta.json)
  jitter            median second difference in time of the fitted rigid points (from meta.json)
  nose tip          held out: standard deviation, √(var x + var y), of where the nose's tip lies in canonical space, followed by
                    Lucas-Kanade in the pictures, and as the landmark carried there by the fitted pose
  nose base         held out: the same of its landmarks, each clip's mean taken off, and the correlation of its height with that of
                    the brows over the eyes and with the mouth's opening (`preprocess/nose_base.py`)
  6 points          root mean square distance from their own mean positions of six places followed by Lucas-Kanade: the four
                    eye corners, the nose's bridge and its tip (only the tip is held out)
  grey              mean over the pixels of the upper face (between brows and nose's tip, without the eyes) of the standard
                    deviation in time of the canonical picture, levels 0..255; in the fit where poses were refined by pictures
  lag               held out: frames by which the fitted motion of the nose's tip is behind, as the slope of (landmark − fit) on
                    the landmark's velocity; and the same from the pictures (Lucas-Kanade displacement)
  cuts              first frames after cuts, of each video
"""
import argparse
import pathlib
import sys

import cv2
import numpy as np
import scipy.ndimage

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from speech2lip_jax.data import schema  # noqa: E402
from speech2lip_jax.ops.poses import relative_pose
from speech2lip_jax.preprocess import nose_base, photometric, projection  # noqa: E402

NOSE_TIP, BRIDGE = 4, 168
SIX_POINTS = [33, 133, 362, 263, BRIDGE, NOSE_TIP]
MAX_PICTURES = 600
WINDOW_PER_FACE = 0.2  # side of Lucas-Kanade's window over the face's width
MAX_RETURN_ERROR = 0.5  # px; a place followed to a picture and back must come home this well, else it counts as hidden


def judge(frames: np.ndarray, landmarks: np.ndarray, poses: np.ndarray, depth: np.ndarray, focal_px: float,
          canonical_frame: int, clip_lengths: list[int], is_interpolated: np.ndarray) -> dict[str, float]:
  """The numbers of the header, pixels of the frames.

  Args:
    frames: [N, S, S, 3] uint8.
    landmarks: [N, 478, 2].
    poses: [N, 4, 4] head → camera.
    depth: [S, S] of the canonical view at the frames' size.
    focal_px: pixels.
    canonical_frame: index.
    clip_lengths: frames of each clip.
    is_interpolated: [N] bool, left out.
  """
  size = frames.shape[1]
  moves = relative_pose(poses, poses[canonical_frame])
  home = landmarks[canonical_frame]
  picked = np.flatnonzero(~is_interpolated)
  picked = picked[np.unique(np.linspace(0, len(picked) - 1, min(MAX_PICTURES, len(picked))).round().astype(int))]

  pad = int(0.1 * np.ptp(home[:, 0]))
  left, top = np.maximum(home.min(0).astype(int) - pad, 0)
  right, bottom = np.minimum(home.max(0).astype(int) + pad, size)
  rows, columns = np.mgrid[top:bottom, left:right]
  grid = np.stack([columns, rows], -1).astype(np.float64)
  pictures = []
  for n in picked:
    coords = projection.observed_coords(grid, depth[rows, columns], moves[n], focal_px, size).astype(np.float32)
    grey = cv2.cvtColor(np.ascontiguousarray(frames[n]), cv2.COLOR_RGB2GRAY)
    pictures.append(cv2.remap(grey, coords[..., 0], coords[..., 1], cv2.INTER_CUBIC))
  pictures = np.stack(pictures)
  median = np.median(pictures, axis=0).astype(np.uint8)
  inside = photometric.upper_face(home, size)[top:bottom, left:right] > 0
  numbers = {'grey': float(pictures[:, inside].astype(np.float32).std(axis=0).mean())}

  side = max(9, round(WINDOW_PER_FACE * np.ptp(home[:, 0]))) | 1
  start = (home[SIX_POINTS] - (left, top)).astype(np.float32)[:, None]

  def follow(source, target, points):
    return cv2.calcOpticalFlowPyrLK(source, target, points, points.copy(), winSize=(side, side), maxLevel=0,
                                    flags=cv2.OPTFLOW_USE_INITIAL_FLOW)[0]

  there = [follow(median, picture, start) for picture in pictures]
  back = np.stack([follow(picture, median, points) for picture, points in zip(pictures, there)])[:, :, 0]
  found = np.stack(there)[:, :, 0].astype(np.float64)
  found[np.linalg.norm(back - start[:, 0], axis=-1) > MAX_RETURN_ERROR] = np.nan  # an eye that blinks cannot be followed
  away = found - np.nanmean(found, axis=0)
  numbers['nose tip'] = float(np.sqrt(np.nanmean((away[:, -1]**2).sum(-1))))
  numbers['6 points'] = float(np.sqrt(np.nanmean((away**2).sum(-1))))

  tip = landmarks[:, [NOSE_TIP]].astype(np.float64)
  tip_home = projection.canonical_coords(tip, depth, moves, focal_px)[:, 0]
  numbers['nose tip, landmark'] = float(np.sqrt(tip_home[~is_interpolated].var(axis=0).sum()))
  steady = nose_base.measure(landmarks, moves, depth, focal_px, clip_lengths, is_interpolated)
  numbers |= {'nose base': steady['nose_base_px'], 'base with brows': steady['nose_base_with_brows'],
              'base with mouth': steady['nose_base_with_mouth']}
  middle = tip_home[~is_interpolated].mean(axis=0)
  level = scipy.ndimage.map_coordinates(depth, middle[::-1, None], order=1)
  fitted = projection.observed_coords(np.tile(middle, (len(poses), 1)), level, moves, focal_px, size)
  clip_of = np.repeat(np.arange(len(clip_lengths)), clip_lengths)
  inner = np.flatnonzero((clip_of[:-2] == clip_of[2:]) & ~(is_interpolated[:-2] | is_interpolated[1:-1] | is_interpolated[2:])) + 1
  velocity = (tip[inner + 1, 0] - tip[inner - 1, 0]) / 2
  numbers['lag'] = float(((tip[inner, 0] - fitted[inner]) * velocity).sum() / (velocity**2).sum())
  seen = np.isin(picked, inner) & np.isfinite(away[:, -1, 0])
  velocity = (fitted[picked[seen] + 1] - fitted[picked[seen] - 1]) / 2
  numbers['lag, pictures'] = float((away[seen, -1] * velocity).sum() / (velocity**2).sum())
  return numbers


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--subject', required=True, help='a folder made by speech2lip preprocess')
  folder = parser.parse_args().subject
  meta = schema.validate(folder)
  arrays = {name: schema.load_array(folder, name, meta) for name in
            ('frames', 'landmarks', 'observed_from_head', 'depth_canonical', 'is_interpolated')}
  depth = cv2.resize(np.array(arrays['depth_canonical'], np.float64), (meta.width, meta.height), interpolation=cv2.INTER_AREA)
  numbers = judge(arrays['frames'], np.array(arrays['landmarks']), arrays['observed_from_head'].astype(np.float64), depth,
                  meta.focal_px, meta.canonical_frame, [clip.num_frames for clip in meta.clips],
                  np.array(arrays['is_interpolated']))
  fit = meta.report['tracking']
  numbers |= {'reprojection, median': fit['reprojection_median_px'], 'reprojection, 95 %': fit['reprojection_p95_px'],
              'jitter': fit['jitter_px']}
  print(f'{folder}: {meta.num_frames} frames of {meta.width} px, {len(meta.clips)} clips')
  for name in ('reprojection, median', 'reprojection, 95 %', 'jitter', 'nose tip', 'nose tip, landmark', 'nose base', '6 points'):
    print(f'{name:<22}{numbers[name]:8.3f} px   ({numbers[name] * 512 / meta.width:.3f} at 512)')
  print(f'{"grey":<22}{numbers["grey"]:8.3f} levels')
  for name in ('base with brows', 'base with mouth'):
    print(f'{name:<22}{numbers[name]:8.3f} correlation')
  for name in ('lag', 'lag, pictures'):
    print(f'{name:<22}{numbers[name]:8.3f} frames')
  cuts = {video: [event['start'] for event in events if event['event'] == 'cut'] for video, events in meta.report['events'].items()}
  print(f'{"cuts":<22}{ {video: found for video, found in cuts.items() if found} or "none"}')


if __name__ == '__main__':
  main()
