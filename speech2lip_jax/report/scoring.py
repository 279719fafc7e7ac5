"""Scores frames one after another beside the true ones. Of the pictures only numbers and landmarks are kept.

Landmarks and picture metrics are taken in a thread each while the caller makes the next frame; a few frames wait at most, so
that memory does not grow with the video. The mouth's crop, which CPBD and LPIPS look at, is the smallest rectangle of whole
64×64 blocks about the mouth region.
"""
import collections
import concurrent.futures
import dataclasses
import importlib.util
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cv2
import jax
import numpy as np

from speech2lip_jax.data import schema
from speech2lip_jax.metrics import cpbd, detail, image, mouth_points, opening, seam
from speech2lip_jax.metrics.names import CLOSURE_METRICS, FRAME_METRICS, LANDMARK_METRICS, METRICS, PERCEPTUAL, STEP_METRICS
from speech2lip_jax.models.lpips import MIN_SIZE, load_lpips
from speech2lip_jax.preprocess import face_search, landmarks

MOUTH_MARGIN = 0.25  # of the mouth's width, by which its landmarks' rectangle is grown where no lip box is known
MAX_WAITING = 6  # frames
NO_WEIGHTS = {'lpips': 'no weights: give --lpips, a file of speech2lip convert --kind lpips'}  # of the networks of PERCEPTUAL
OF_A_STEP = ('motion_lip', *STEP_METRICS)  # of a frame and the one before
OF_TRUTH = {'ssim_img': 1.0, 'ssim_lip': 1.0, 'seam_levels': 0.0, 'seam_ratio': 1.0, 'seam_lip_ratio': 1.0, 'untouched_levels': 0.0,
            **{f'{network}_lip': 0.0 for network in PERCEPTUAL}}  # what a true frame scores against itself


def why_no_landmarks() -> str:
  """Why faces cannot be found without a landmark model at hand, and what brings one."""
  if importlib.util.find_spec('mediapipe') is None:
    return 'mediapipe, which finds faces, is not installed: it comes with the extra [preprocess]'
  return f'no landmark model: give --landmarker FILE or ${landmarks.MODEL_VARIABLE}; speech2lip preprocess downloads it'


def why_no_weights(metric: str) -> str | None:
  """What the network of a metric needs; None of a metric without one."""
  return next((reason for network, reason in NO_WEIGHTS.items() if metric.startswith(f'{network}_')), None)


class Pair(NamedTuple):
  """A frame and what it should be, [H, W, 3] uint8 RGB each.

  mask_mouth: [H, W] bool, the mouth region; None lets the true frame's landmarks tell it (`mouth_rectangle`).
  window: (top, left, height, width) pixels, the only part that was painted; None where that is not known. jaw: the same of the part
  that was moved to fit, None where nothing was.
  lip_points: [h, w, 2] float32 (x, y) pixels of the frame, where it shows the canonical lips: in them the head stands still, and
  what moves is the mouth; None where that is not known.
  """
  rgb: np.ndarray
  true: np.ndarray
  mask_mouth: np.ndarray | None = None
  window: tuple[int, int, int, int] | None = None
  jaw: tuple[int, int, int, int] | None = None
  lip_points: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Scores:
  """Of one video, frame after frame. values: `FRAME_METRICS` [n] float64, nan where a frame has none.

  landmarks: [n, 478, 2] float32 pixels, nan without a face; None without a landmark model.
  """
  values: dict[str, np.ndarray]
  landmarks: np.ndarray | None

  def without_first(self, count: int) -> 'Scores':
    """Those of the frames after so many."""
    return Scores({name: values[count:] for name, values in self.values.items()},
                  None if self.landmarks is None else self.landmarks[count:])

  @classmethod
  def joined(cls, parts: 'list[Scores]') -> 'Scores':
    """Those of all parts, one after another."""
    found = [part.landmarks for part in parts if part.landmarks is not None]
    return cls({name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
               np.concatenate(found) if found else None)

  def points(self) -> np.ndarray:
    """[n, 20, 2], see `metrics.mouth_points`."""
    return mouth_points.mouth_points(self._known_landmarks())

  def opening(self) -> np.ndarray:
    """Lip opening of every frame [n]; frames without a face take their neighbours', all nan stays."""
    values = opening.lip_opening(self._known_landmarks())
    known = np.isfinite(values)
    return np.interp(np.arange(len(values)), np.flatnonzero(known), values[known]) if known.any() else values

  def _known_landmarks(self) -> np.ndarray:
    if self.landmarks is None:
      raise ValueError('frames were scored without a landmark model')
    return self.landmarks


def mouth_rectangle(seen: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
  """[H, W] bool: the rectangle of the mouth's landmarks grown by `MOUTH_MARGIN`; None where landmarks [478, 2] are nan."""
  points = mouth_points.mouth_points(seen)
  if not np.isfinite(points).all():
    return None
  margin = MOUTH_MARGIN * np.ptp(points[:, 0])
  (left, top), (right, bottom) = np.floor(points.min(0) - margin).astype(int), np.ceil(points.max(0) + margin).astype(int)
  mask = np.zeros(shape, bool)
  mask[max(top, 0):max(bottom, 0) + 1, max(left, 0):max(right, 0) + 1] = True
  return mask if mask.any() else None


def _lpips_of(path: str) -> Callable[[np.ndarray, np.ndarray], jax.Array]:
  """LPIPS of two pictures [h, w, 3] uint8, by the weights of FILE.npz."""
  distance = load_lpips(path)
  return jax.jit(lambda rgb_0, rgb_1: distance(rgb_0[None] / 255.0, rgb_1[None] / 255.0)[0])


class _Seen(NamedTuple):
  """A frame's pictures, ours (and the true one, where it is scored too), and the canonical lips in each where that is known."""
  pictures: list[np.ndarray]
  lips: list[np.ndarray]


class Scorer:
  """A context manager. Without `landmarker` (MediaPipe's model) or `lpips` (FILE.npz of convert) their metrics are nan."""

  def __init__(self, landmarker: str | None, lpips: str | None):
    self._detector = landmarks.Detector(landmarker) if landmarker else None
    self._search = face_search.FaceSearch(self._detector) if self._detector else None
    self._distances = {'lpips': _lpips_of(lpips)} if lpips else {}
    self._before: _Seen | None = None
    self._detecting, self._measuring = (concurrent.futures.ThreadPoolExecutor(1) for _ in range(2))

  def __enter__(self) -> 'Scorer':
    return self

  def __exit__(self, *error: Any) -> None:
    for executor in (self._detecting, self._measuring):
      executor.shutdown(cancel_futures=True)
    if self._detector:
      self._detector.__exit__(*error)

  def run(self, pairs: Iterable[Pair], keep: Callable[[int, Pair, dict[str, float]], None] | None = None) -> Scores:
    """Scores of all frames; `keep`, if given, is handed every frame's row, `Pair` (mouth region filled in) and values in order."""
    return self._run(pairs, keep, False)[0]

  def run_with_truth(self, pairs: Iterable[Pair], keep: Callable[[int, Pair, dict[str, float]], None] | None = None
                     ) -> tuple[Scores, Scores]:
    """`run`, and the scores of the true frames themselves: their sharpness and landmarks."""
    return self._run(pairs, keep, True)

  def _run(self, pairs, keep, with_truth):
    waiting, rows, true_rows, seen = collections.deque(), [], [], []
    self._before = None

    def take():
      faces, measured = waiting.popleft()
      pair, values, true_values = measured.result()
      if keep:
        keep(len(rows), pair, values)
      rows.append(values)
      true_rows.append(true_values)
      seen.append(faces.result())

    for pair in pairs:
      faces = self._detecting.submit(self._find, pair, with_truth)
      waiting.append((faces, self._measuring.submit(self._measure, pair, faces, with_truth)))
      if len(waiting) > MAX_WAITING:
        take()
    while waiting:
      take()
    stacked = lambda rows: {name: np.array([row[name] for row in rows]) for name in FRAME_METRICS}
    found = lambda side: np.stack([faces[side] for faces in seen]) if self._detector and seen else None
    return Scores(stacked(rows), found(0)), Scores(stacked(true_rows), found(1)) if with_truth else None

  def _find(self, pair: Pair, with_truth: bool) -> list[np.ndarray]:
    if not self._search:
      return []
    return [_largest_face(self._search, frame) for frame in ((pair.rgb, pair.true) if with_truth else (pair.rgb,))]

  def _measure(self, pair: Pair, faces: concurrent.futures.Future, with_truth: bool
               ) -> tuple[Pair, dict[str, float], dict[str, float]]:
    """The pair with its mouth region, its values, and the true frame's."""
    mask = pair.mask_mouth
    if mask is None and self._detector and with_truth:
      mask = mouth_rectangle(faces.result()[1], pair.true.shape[:2])
    values, true_values = dict.fromkeys(FRAME_METRICS, np.nan), dict.fromkeys(FRAME_METRICS, np.nan)
    mask = mask if mask is not None and mask.any() else None
    crop = None
    values['psnr_img'] = image.psnr(pair.rgb, pair.true)
    values['ssim_img'], values['ssim_lip'] = image.ssim(pair.rgb, pair.true, mask)
    if mask is not None:
      values['psnr_lip'] = image.psnr(pair.rgb, pair.true, mask)
      _, values['seam_lip_ratio'] = seam.seam(pair.rgb, pair.true, mask)
      crop = image.blocks_around(mask, cpbd.BLOCK)
      sharpness = lambda rgb: cpbd.cpbd(cv2.cvtColor(np.ascontiguousarray(rgb[crop]), cv2.COLOR_RGB2GRAY))
      values['cpbd_lip'] = sharpness(pair.rgb)
      values['laplacian_lip'] = detail.laplacian_levels(pair.rgb, mask)
      if with_truth:
        true_values |= {'cpbd_lip': sharpness(pair.true), 'laplacian_lip': detail.laplacian_levels(pair.true, mask)}
      if min(pair.rgb[crop].shape[:2]) >= MIN_SIZE:
        for network, distance in self._distances.items():
          values[f'{network}_lip'] = float(distance(pair.rgb[crop], pair.true[crop]))
    if pair.window is not None:
      inside = np.zeros(pair.rgb.shape[:2], bool)
      inside[_slices(pair.window)] = True
      values['seam_levels'], values['seam_ratio'] = seam.seam(pair.rgb, pair.true, inside)
      if pair.jaw is not None:
        inside[_slices(pair.jaw)] = True
      values['untouched_levels'] = seam.largest_change(pair.rgb, pair.true, ~inside)
    if with_truth:
      true_values |= {name: value for name, value in OF_TRUTH.items() if np.isfinite(values[name])}
    self._measure_step(pair, crop, [values, true_values] if with_truth else [values])
    return pair._replace(mask_mouth=mask), values, true_values

  def _measure_step(self, pair: Pair, crop: tuple[slice, slice] | None, sides: list[dict[str, float]]) -> None:
    """Fills in what tells a frame from the one before, for ours, and for the truth where `sides` holds its values too."""
    pictures = [pair.rgb, pair.true][:len(sides)]
    lips = [] if pair.lip_points is None else [read_lips(picture, pair.lip_points) for picture in pictures]
    before, self._before = self._before, _Seen(pictures, lips)
    if not before:
      return
    for values, ours, theirs in zip(sides, lips, before.lips, strict=False):
      values['motion_lip'] = detail.change_levels(ours, theirs)
    if crop and min(pair.rgb[crop].shape[:2]) >= MIN_SIZE:
      for values, ours, theirs in zip(sides, pictures, before.pictures, strict=True):
        values |= {f'{network}_step': float(distance(ours[crop], theirs[crop])) for network, distance in self._distances.items()}


def read_lips(rgb: np.ndarray, lip_points: np.ndarray) -> np.ndarray:
  """The canonical lips in a frame [H, W, 3] uint8 by where it shows them: [h, w, 3] uint8, bicubic."""
  return cv2.remap(rgb, lip_points[..., 0], lip_points[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _slices(rectangle: tuple[int, int, int, int]) -> tuple[slice, slice]:
  top, left, height, width = rectangle
  return slice(top, top + height), slice(left, left + width)


def _largest_face(search: face_search.FaceSearch, frame: np.ndarray) -> np.ndarray:
  """Landmarks [478, 2] float32 pixels of the largest face; nan without one."""
  faces = search.faces(np.ascontiguousarray(frame))
  if not len(faces):
    return np.full((schema.NUM_LANDMARKS, 2), np.nan, np.float32)
  return landmarks.to_pixels(faces[0], frame.shape[1], frame.shape[0])[:, :2]


def with_nulls(metrics: dict[str, float]) -> dict[str, float | None]:
  """All `METRICS`, None for what is missing or nan."""
  return {name: None if np.isnan(metrics.get(name, np.nan)) else metrics[name] for name in METRICS}


def summary(scores: Scores, truth: Scores, runs: list[np.ndarray], fps: float, closed_threshold: float | None = None
            ) -> dict[str, float]:
  """All `METRICS` but those of sync; nan where there is none.

  Metrics of a frame are means over the frames that have them (untouched_levels is the largest), those of a frame and the one before
  over the frames that follow another one in a run.

  Args:
    runs: rows of consecutive frames of a clip each. fps: frames a second.
    closed_threshold: openings below are closed; None where that is not known.
  """
  ours, true = ({name: detail.after_another(values, runs) if name in OF_A_STEP else values for name, values in side.values.items()}
                for side in (scores, truth))
  result = {}
  for name, values in ours.items():
    known = values[np.isfinite(values)]
    pool = np.max if name == 'untouched_levels' else np.mean
    result[name] = float(pool(known)) if len(known) else float('nan')
  result |= {f'{name}_ratio': detail.ratio_of_means(ours[f'{name}_lip'], true[f'{name}_lip']) for name in ('laplacian', 'motion')}
  result |= {f'{network}_flicker': detail.flicker(ours[f'{network}_step'], true[f'{network}_step']) for network in PERCEPTUAL}
  if scores.landmarks is None or truth.landmarks is None:
    return result | dict.fromkeys((*LANDMARK_METRICS, *CLOSURE_METRICS), float('nan'))
  jitter, true_jitter = (mouth_points.jitter(side.points(), runs) for side in (scores, truth))
  shut = (dict.fromkeys(CLOSURE_METRICS, float('nan')) if closed_threshold is None else
          opening.closures(scores.opening(), truth.opening(), runs, closed_threshold))
  return result | shut | opening.agreement(scores.opening(), truth.opening(), runs, fps) | {
      'lmd_px': mouth_points.lmd(scores.points(), truth.points()), 'jitter_px': jitter,
      'jitter_ratio': jitter / true_jitter if true_jitter else float('nan')}
