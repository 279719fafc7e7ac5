"""Does the track follow the head, or brows and jaw? Judged by the nose's base, which no fit uses.

The nose's base (where it meets the upper lip, and both wings) hardly moves on the skull: carried to canonical space by the
fitted pose it should stand still. The painted mouth lies right below it and is put beside its place by as much as it wanders.
Its landmarks are in no fit (`tracking.RIGID_POINTS`), and the pictures are read above the nose's tip only
(`photometric.upper_face`).

Heights are counted upward along the canonical picture. The brows' height is theirs above the eyes' corners, both carried by the
same pose: a fault of the pose moves both alike and drops out, so that a correlation with it is not there by construction. All
numbers are within clips: a clip's mean is taken off first. A detector's landmark trembles, which raises the wandering and weakens
the correlations.
"""
import numpy as np

from speech2lip_jax.preprocess import canonical, photometric, projection, tracking

NOSE_BASE = [2, 98, 327]  # middle, right and left wing
BROWS, EYE_CORNERS = np.ravel(photometric.BROWS), np.ravel(photometric.EYE_CORNERS)
MIN_FRAMES = 50  # fewer tell nothing of a correlation
MAX_WANDER = 0.015  # of the face's width
MAX_FOLLOWED = 0.002  # of the face's width: what of the wandering goes with the brows
MAX_CORRELATION = 0.35


def within_clips(values: np.ndarray, clip_lengths: list[int], is_used: np.ndarray) -> np.ndarray:
  """`values` [N, ...] of the frames `is_used` [N], each clip's mean taken off: [n, ...]."""
  ends = np.cumsum(clip_lengths)[:-1]
  parts = [part[used] for part, used in zip(np.split(values, ends), np.split(is_used, ends)) if used.any()]
  return np.concatenate([part - part.mean(0) for part in parts])


def correlation(one: np.ndarray, other: np.ndarray) -> float:
  """Of two curves [n] whose means are taken off; 0 where one of them does not move."""
  size = np.sqrt((one**2).sum() * (other**2).sum())
  return float((one * other).sum() / size) if size > 1e-12 else 0.0


def brow_height(home: np.ndarray) -> np.ndarray:
  """[N] pixels by which the brows stand above the eyes' corners, from the landmarks `BROWS` + `EYE_CORNERS` [N, 14, 2]."""
  return home[:, len(BROWS):, 1].mean(1) - home[:, :len(BROWS), 1].mean(1)


def measure(landmarks: np.ndarray, moves: np.ndarray, depth_canonical: np.ndarray, focal_px: float, clip_lengths: list[int],
            is_interpolated: np.ndarray, scale: float = 1.0) -> dict[str, float]:
  """How still the nose's base holds in canonical space, and what it moves with; see the header.

  Args:
    landmarks: [N, 478, ≥2] frame pixels.
    moves: [N, 4, 4] observed_from_canonical.
    depth_canonical: [scale·S, scale·S].
    focal_px: of the frames.
    clip_lengths: frames of each clip.
    is_interpolated: [N] bool, left out.
    scale: canonical over frame size.

  Returns:
    nose_base_px: standard deviation √(var x + var y), pixels of the frames; nose_base_share: the same over the face's width;
    nose_base_with_brows, nose_base_with_mouth: correlation of its height with that of the brows and with the mouth's opening.
    All 0 where fewer than `MIN_FRAMES` frames show a face.
  """
  used = ~is_interpolated
  if used.sum() < MIN_FRAMES:
    return dict.fromkeys(('nose_base_px', 'nose_base_share', 'nose_base_with_brows', 'nose_base_with_mouth'), 0.0)
  points = [*NOSE_BASE, *BROWS, *EYE_CORNERS]
  home = projection.canonical_coords(landmarks[:, points, :2], depth_canonical, moves, focal_px, scale) / scale
  base = within_clips(home[:, :len(NOSE_BASE)].mean(1), clip_lengths, used)
  brows = within_clips(brow_height(home[:, len(NOSE_BASE):]), clip_lengths, used)
  mouth = within_clips(canonical.mouth_opening(landmarks), clip_lengths, used)
  wander = float(np.sqrt(base.var(axis=0).sum()))
  face = float(np.median(np.ptp(landmarks[used, :tracking.NUM_FACE_POINTS, 0], axis=1)))
  return {'nose_base_px': wander, 'nose_base_share': wander / face, 'nose_base_with_brows': correlation(-base[:, 1], brows),
          'nose_base_with_mouth': correlation(-base[:, 1], mouth)}


def warnings(numbers: dict[str, float]) -> list[str]:
  """One line for each fault in what `measure` gave, with reason and remedy."""
  share, with_brows = numbers['nose_base_share'], numbers['nose_base_with_brows']
  checks = [
      (abs(with_brows) > MAX_CORRELATION and abs(with_brows) * share > MAX_FOLLOWED,
       f"the fitted head moves with the brows (correlation of the nose's base {with_brows:.2f}), and painted mouths will too; "
       'use a take with calmer brows, or a sharper one, so that the skin has texture'),
      (share > MAX_WANDER, f"the fitted head is unsteady: the nose's base wanders by {100 * share:.1f} % of the face's width, and "
       'painted mouths will too; use a sharper, larger or better lit take')]
  return [text for is_bad, text in checks if is_bad]
