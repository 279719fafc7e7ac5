"""How the synthetic subject's face moves: mouth, eyelids and brows, as maps of the photo plane with a closed form.

Every map is given backward, moved place → place at rest, and column by column: in v it is piecewise linear between knots
(the lips' edges, the chin, the lids, the brows), so that landmarks on those edges stay on them exactly. The jaw pulls the cheeks
along, up to the height of the nose's tip; the brows take the forehead's skin and the upper lids' fold with them. The nose itself
never moves: it shows where the head is. Coordinates: photo (u, v) pixels.
"""
import dataclasses

import numpy as np
from scipy.interpolate import PchipInterpolator

from speech2lip_jax.ops.boxes import smoothstep

UPPER_OUTER = np.array([61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291])
UPPER_INNER = np.array([78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308])
LOWER_INNER = np.array([78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308])
LOWER_OUTER = np.array([61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291])
UPPER_LIDS = np.array([33, 246, 161, 160, 159, 158, 157, 173, 133]), np.array([362, 398, 384, 385, 386, 387, 388, 466, 263])
LOWER_LIDS = np.array([33, 7, 163, 144, 145, 153, 154, 155, 133]), np.array([362, 382, 381, 380, 374, 373, 390, 249, 263])
IRISES = np.arange(468, 478)
BROW_TOPS = np.array([70, 63, 105, 66, 107, 336, 296, 334, 293, 300])
BROW_BOTTOMS = np.array([46, 53, 52, 65, 55, 285, 295, 282, 283, 276])
NASION = 168
SUBNASALE, CHIN = 2, 152
# Photo pixels (the eyes' outer corners are 60 apart).
JAW_DROP = 15.0  # of the lower lip at opening 1
CORNER_SHIFT = 7.0  # of the corners, in or out, at width ∓1
REST_NARROWING = 2.0  # the photograph smiles
UPPER_LIP_REST, UPPER_LIP_RAISE = 2.0, 2.6  # lowered from the smile, raised again by `teeth`
LID_ROOM = 6.0  # skin above the upper lid's edge that a blink draws down
CHEEK_REACH = 0.8  # half mouth widths, squared: how far beside the mouth the jaw pulls the skin
CHEEK_TOP = 13.0  # above the nose's base: where the cheeks begin to be pulled
BROW_RAISE = 4.5  # of brows raised all the way
BROW_FADE = 4.0, 2.0  # inside and outside of the brows' outer ends: the temples hardly move, as on real faces
HAIRLINE_V = 62.0  # here the forehead's skin rests again


@dataclasses.dataclass(frozen=True)
class Expression:
  """One moment: mouth as in `speech.MouthShapes`, blink 0 (open) … 1 (shut), brows 0 (at rest) … 1 (raised)."""
  opening: float = 0.0
  width: float = 0.0
  teeth: float = 0.0
  tongue: float = 0.0
  blink: float = 0.0
  brows: float = 0.0


def _curve(points: np.ndarray):
  """v as a function of u through points [n, 2], level beyond its ends."""
  points = points[np.argsort(points[:, 0])]
  spline = PchipInterpolator(points[:, 0], points[:, 1])
  return lambda u: spline(np.clip(u, points[0, 0], points[-1, 0]))


class FaceMotion:
  """The maps of one face. landmarks: [478, 2] photo (u, v) at rest in the photograph."""

  def __init__(self, landmarks: np.ndarray):
    self.landmarks = landmarks
    right, left = landmarks[78], landmarks[308]
    self.middle_u, self.half_width = (right[0] + left[0]) / 2, (left[0] - right[0]) / 2
    self.middle_v = (right[1] + left[1]) / 2
    # Curves on a fine table: reading them is the inner loop of every frame.
    self._table_u = np.arange(94.0, 350.0, 0.125)
    inner_lines = [_curve(landmarks[index])(self._table_u) for index in (UPPER_INNER, LOWER_INNER)]
    outer_lines = [_curve(landmarks[index])(self._table_u) for index in (UPPER_OUTER, LOWER_OUTER)]
    side = np.abs(self._table_u - self.middle_u) / self.half_width
    chin = np.maximum(landmarks[CHIN, 1] - 8 * np.minimum(side / 1.5, 1.5)**2, outer_lines[1] + 4)
    line_upper, line_lower = outer_lines[0], outer_lines[1]
    inner_upper = np.maximum(inner_lines[0], line_upper)
    inner_lower = np.maximum(np.minimum(inner_lines[1], line_lower), inner_upper)
    self._rest = np.stack([self._nose_v(side), line_upper, inner_upper, inner_lower, line_lower, chin])  # [6, T]
    self._rest32 = self._rest.astype(np.float32)
    tops, bottoms = (_curve(landmarks[index])(self._table_u) for index in (BROW_TOPS, BROW_BOTTOMS))
    lids = _curve(landmarks[[*UPPER_LIDS[0], NASION, *UPPER_LIDS[1]]] - (0, 1))(self._table_u)
    self._brows = np.stack([np.full_like(tops, HAIRLINE_V), tops, bottoms, lids])  # [4, T]
    right, left = landmarks[BROW_TOPS[[0, -1]], 0]
    outside = np.maximum(right - self._table_u, self._table_u - left)
    raised = BROW_RAISE * (1 - smoothstep((outside + BROW_FADE[0]) / sum(BROW_FADE)))
    self._raise = np.stack([np.zeros_like(tops), raised, raised, np.zeros_like(tops)])  # how far each knot can rise

  def _knots(self, expression: Expression) -> np.ndarray:
    """[6, T] where the six rest curves go in v: nose's base, upper lip (outer, inner), lower lip (inner, outer), chin."""
    side = np.abs(self._table_u - self.middle_u) / self.half_width
    bow = np.clip(1 - side**2, 0, 1)  # 1 in the middle of the mouth, 0 at its corners and beyond
    arch = bow**0.75
    round_, spread = max(0.0, -expression.width), max(0.0, expression.width)
    drop = JAW_DROP * expression.opening
    corner = (0.36 * drop + 0.8 - 0.8 * spread) * np.exp(-np.maximum(side - 1, 0)**2 / CHEEK_REACH)
    jaw = np.exp(-(side / 2.0)**2) * (0.75 * drop - 2.5)
    rest = self._rest
    upper = (UPPER_LIP_REST - UPPER_LIP_RAISE * expression.teeth - 0.1 * drop - 0.6 * round_) * bow + corner * (1 - bow)
    shut = rest[2] + upper - rest[3]  # brings the lower lip's edge to the upper one's
    gap = drop * (arch if round_ < 0.3 else arch**(1 + round_ - 0.3)) * (1.1 if round_ else 1)
    lower = shut + gap
    thick = (1.6 * round_ - 0.5 * spread) * bow
    moves = np.stack([np.zeros_like(side), upper * 0.85 - thick, upper, lower,
                      (0.8 * shut + 0.95 * gap) * bow**0.5 + corner * (1 - bow**0.5) + thick, jaw])
    target = rest + moves
    return np.maximum.accumulate(target, axis=0)

  def _shift_u(self, u: np.ndarray, v: np.ndarray, expression: Expression) -> np.ndarray:
    """How far to the right the skin now at (u, v) was moved, pixels."""
    amount = CORNER_SHIFT * expression.width - REST_NARROWING - 1.5 * expression.opening
    across = (u - self.middle_u) / self.half_width
    down = (v - self.middle_v - 4 * expression.opening) / 17.0
    below_nose = smoothstep((v - self._nose_v(np.abs(across))) / 7)
    return amount * across * np.exp((1 - across**2) / 2) * np.exp(-down**2) * below_nose

  def _nose_v(self, side: np.ndarray) -> np.ndarray:
    """v from which on downwards the face moves, `side` half mouth widths beside the mouth's middle."""
    return self.landmarks[SUBNASALE, 1] + 0.5 - CHEEK_TOP * smoothstep((side - 0.7) / 1.0)

  def _at(self, table: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Rows of `table` [k, T] at places u [...]: [k, ...]."""
    place = np.clip((u - self._table_u[0]) * 8, 0, len(self._table_u) - 1.001)
    index = place.astype(np.int32)
    share = (place - index).astype(np.float32)
    return table[:, index] * (1 - share) + table[:, index + 1] * share

  def rest_curves(self, u: np.ndarray) -> np.ndarray:
    """[6, ...] v at columns u of the nose's base, the upper lip's outer and inner edge, the lower lip's inner and outer edge and
    the chin, in the photograph."""
    return self._at(self._rest, u)

  def mouth_source(self, u: np.ndarray, v: np.ndarray, expression: Expression):
    """For moved places (u, v): where they were at rest, and the lips' edges there.

    Returns:
      source_u, source_v [...]; upper, lower [...]: the moved v of the inner lips' edges in that column. Between them lies the
      inside of the mouth, whose source means nothing.
    """
    source_u = u - self._shift_u(u, v, expression)
    rest = self._at(self._rest32, source_u)
    moved = self._at(self._knots(expression).astype(np.float32), source_u)
    return source_u, _piecewise(v, moved, rest), moved[2], moved[3]

  def brow_source(self, u: np.ndarray, v: np.ndarray, brows: float) -> np.ndarray:
    """v at rest of the skin that raised brows have brought to (u, v)."""
    knots = self._at(self._brows, u)
    return _piecewise(v, knots - brows * self._at(self._raise, u), knots)

  def blink_source(self, v: np.ndarray, upper: np.ndarray, lower: np.ndarray, blink: float) -> np.ndarray:
    """Where the lid's skin now at `v` was, given both lids' v at rest in its column; the eye itself stays."""
    edge = upper + 0.94 * blink * np.maximum(lower - upper, 0)
    start = upper - LID_ROOM
    skin = start + (v - start) * (upper - start) / (edge - start)
    return np.where((v > start) & (v < edge), skin, v)

  def lids(self, eye: int, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """v of the upper and lower lid's edges of eye 0 (image left) or 1 at columns u; equal beyond the eye's corners."""
    upper, lower = self.landmarks[UPPER_LIDS[eye]], self.landmarks[LOWER_LIDS[eye]]
    inside = (u > upper[0, 0]) & (u < upper[-1, 0])
    top, bottom = _curve(upper)(u), _curve(lower)(u)
    return top, np.where(inside, np.maximum(bottom, top), top)

  def move_landmarks(self, expression: Expression) -> tuple[np.ndarray, np.ndarray]:
    """Where the 478 landmarks go, and the rest places that they come from: [478, 2] photo (u, v), both.

    Landmarks on the lips' edges are put exactly onto the edges' curves, so rest places can differ from the detected ones by
    parts of a pixel.
    """
    rest, moved = self.landmarks.copy(), self.landmarks.copy()
    curves, knots = self._at(self._rest, rest[:, 0]), self._at(self._knots(expression), rest[:, 0])
    moved[:, 1] = _piecewise(rest[:, 1], curves, knots)
    for index, row in ((UPPER_INNER, 2), (LOWER_INNER, 3), (UPPER_OUTER, 1), (LOWER_OUTER, 4)):
      rest[index, 1], moved[index, 1] = curves[row, index], knots[row, index]
    for eye in (0, 1):
      upper, lower = self.lids(eye, rest[:, 0])
      index = (np.abs(rest[:, 0] - self.landmarks[UPPER_LIDS[eye], 0].mean()) < 16)
      index &= (rest[:, 1] <= upper + 0.3) & (rest[:, 1] > upper - LID_ROOM)
      index[IRISES] = False
      edge = upper + 0.94 * expression.blink * np.maximum(lower - upper, 0)
      start = upper - LID_ROOM
      pulled = start + (rest[:, 1] - start) * (edge - start) / (upper - start)
      moved[index, 1] = pulled[index]
    knots = self._at(self._brows, rest[:, 0])
    raised = _piecewise(moved[:, 1], knots, knots - expression.brows * self._at(self._raise, rest[:, 0]))
    moved[:, 1] = np.where(np.isin(np.arange(len(moved)), IRISES), moved[:, 1], raised)
    start_u = moved[:, 0].copy()
    for _ in range(40):  # the shift is given at the moved place: a contraction
      moved[:, 0] = start_u + self._shift_u(moved[:, 0], moved[:, 1], expression)
    return moved, rest


def _piecewise(value: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
  """The increasing piecewise linear map that takes knots start [k, ...] to end [k, ...], slope 1 outside, at value [...]."""
  result = end[0] + np.minimum(value - start[0], 0)
  for low, high, low_end, high_end in zip(start[:-1], start[1:], end[:-1], end[1:]):
    length = np.maximum(high - low, 1e-4)
    result = result + np.clip((value - low) / length, 0, 1) * (high_end - low_end)
  return result + np.maximum(value - start[-1], 0)
