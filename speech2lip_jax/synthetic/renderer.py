"""Pictures of the synthetic head by ray marching: which point of the head each pixel sees first, its colour and its depth.

This is another way to the picture than `ops.warp`'s: the ray of every pixel is followed through the head's depth, in steps and
then by secants, so that a pixel on the far side of the nose is right as well. Camera as in `data.schema`.
"""
import dataclasses

import cv2
import numpy as np

from speech2lip_jax.ops.boxes import smoothstep
from speech2lip_jax.synthetic import portrait
from speech2lip_jax.synthetic.expression import Expression, FaceMotion

CANVAS_SCALE = 1.6  # canvas pixels a picture pixel: the head's colours keep their sharpness through one cubic read
NUM_STEPS, NUM_SECANTS = 26, 4
NEAR, FAR = -0.9, 1.8  # head units before and behind the eyes' middle between which the head lies
MOUTH_WINDOW = (160, 116, 290, 216)  # photo left, top, right, bottom: all that the mouth moves
EYE_WINDOWS = ((184, 86, 216, 112), (234, 86, 266, 112))
BROW_WINDOW = (176, 58, 276, 106)  # all that the brows move
CAVITY, TONGUE, LOWER_TOOTH = (0.16, 0.055, 0.05), (0.62, 0.30, 0.29), (0.80, 0.75, 0.66)
TOOTH_EDGE_V, TOOTH_RISE = 148.4, 4.0  # photo v of the front teeth's lower edge; how much higher it lies at the corners
SEAM = (0.55, 0.8, 0.82)  # of the lips' red, green, blue that is missing where they meet
RECESS = 0.08  # head units that the mouth's inside lies behind the lips
TORSO_V = 168.0, 214.0  # photo v of the neck's top, which follows the head, and of the collar, which rests


@dataclasses.dataclass(frozen=True)
class Picture:
  """rgb: [S, S, 3] uint8; mask_head: [S, S] float32, the head's share of the pixel; depth: [S, S] float32, head units along
  the camera's z, 0 where the pixel's middle misses the head."""
  rgb: np.ndarray
  mask_head: np.ndarray
  depth: np.ndarray


class Renderer:
  """Renders the head at one picture size. Poses are observed_from_head [4, 4], focal length `focal_px`."""

  def __init__(self, size: int):
    self.size, self.focal_px = size, portrait.FOCAL_WIDTHS * size
    self.center = (size - 1) / 2
    self.px_per_photo = size / portrait.SPAN
    self.head = head = portrait.load()
    self.motion = FaceMotion(head.landmarks)
    self.side = round(portrait.WINDOW * CANVAS_SCALE * self.px_per_photo)
    self.scale = self.side / portrait.WINDOW
    resize = lambda image: cv2.resize(image, (self.side, self.side),
                                      interpolation=cv2.INTER_CUBIC if self.scale > 1 else cv2.INTER_AREA)
    self._colour = np.dstack([np.clip(resize(head.rgb_head), 0, 1), np.clip(resize(head.alpha), 0, 1)])
    self._depth = resize(head.depth)
    self._join_lips()
    self._teeth = self._make_teeth()
    to_window = np.array([[1 / self.px_per_photo, 0, portrait.CENTER_U - head.corner[0] - self.center / self.px_per_photo],
                          [0, 1 / self.px_per_photo, portrait.CENTER_V - head.corner[1] - self.center / self.px_per_photo]])
    self._torso_map = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1) @ to_window[:, :2].T + to_window[:, 2]
    self._torso_map = self._torso_map.astype(np.float32)

  @property
  def rest_pose(self) -> np.ndarray:
    """[4, 4] the pose in which the picture is the photograph."""
    pose = np.eye(4)
    pose[:3, 3] = self.head.head_origin
    return pose

  # ---- the head's colours and depth under an expression, in the photo's view

  def _window(self, box):
    """Slices of the canvas for a photo rectangle, and its pixels' photo (u, v) [h, w] each, float32."""
    corner = self.head.corner
    left, top, right, bottom = [round((value - corner[i % 2] + 0.5) * self.scale) for i, value in enumerate(box)]
    us = ((np.arange(left, right) + 0.5) / self.scale - 0.5 + corner[0]).astype(np.float32)
    vs = ((np.arange(top, bottom) + 0.5) / self.scale - 0.5 + corner[1]).astype(np.float32)
    u, v = np.meshgrid(us, vs)
    return (slice(top, bottom), slice(left, right)), u, v

  def _to_canvas(self, u, v):
    corner = self.head.corner
    return (((u - corner[0] + 0.5) * self.scale - 0.5).astype(np.float32),
            ((v - corner[1] + 0.5) * self.scale - 0.5).astype(np.float32))

  def _read(self, image, u, v):
    return cv2.remap(image, *self._to_canvas(u, v), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

  def _join_lips(self):
    """Brings the lower lip's edge to the upper one's depth, fading out towards the chin, so that shut lips meet in space."""
    place, u, v = self._window(MOUTH_WINDOW)
    _, _, upper, lower, _, chin = self.motion.rest_curves(u)
    step = self._read(self._depth, u, upper.astype(np.float32)) - self._read(self._depth, u, lower.astype(np.float32))
    to_chin, from_lip = (chin - v) / (chin - lower), (v - upper) / np.maximum(lower - upper, 0.5)
    self._depth[place] += step * np.clip(to_chin, 0, 1) * np.clip(from_lip, 0, 1)

  def _make_teeth(self):
    """[h, w, 3] the photograph's upper teeth over the mouth window, carried on above the lip and to the sides."""
    _, u, v = self._window(MOUTH_WINDOW)
    motion = self.motion
    _, _, upper, lower, _, _ = motion.rest_curves(u)
    is_tooth = (v > upper + 1.0) & (v < lower - 1.2) & (np.abs(u - motion.middle_u) < 0.86 * motion.half_width)
    rgb = self._read(self._colour, u, v)[..., :3]
    # Upwards the row below the lip goes on: a tooth has its column's colour.
    column = np.where(is_tooth.any(0), is_tooth.argmax(0), 0)
    rows = np.maximum(np.arange(len(u))[:, None], column[None] + max(1, round(1.2 * self.scale)))
    extended = np.take_along_axis(rgb, np.minimum(rows, len(u) - 1)[..., None], 0)
    return portrait.fill(extended, is_tooth | (is_tooth.any(0)[None] & (v < lower - 1.2)))

  def deform(self, expression: Expression) -> tuple[np.ndarray, np.ndarray]:
    """The photo's view under an expression: colour and alpha [c, c, 4] float32, depth [c, c] float32."""
    colour, depth = self._colour.copy(), self._depth.copy()
    if expression.brows > 0:
      place, u, v = self._window(BROW_WINDOW)
      source = self.motion.brow_source(u, v, expression.brows)
      colour[place], depth[place] = self._read(self._colour, u, source), self._read(self._depth, u, source)
    if expression.blink > 0:
      for eye, box in enumerate(EYE_WINDOWS):
        place, u, v = self._window(box)
        upper, lower = self.motion.lids(eye, u[0])
        source = self.motion.blink_source(self.motion.brow_source(u, v, expression.brows), upper, lower, expression.blink)
        lid = self._read(self._colour, u, source)
        colour[place], depth[place] = lid, self._read(self._depth, u, source)
    place, u, v = self._window(MOUTH_WINDOW)
    source_u, source_v, upper, lower = self.motion.mouth_source(u, v, expression)
    skin = self._read(self._colour, source_u, source_v)
    level = self._read(self._depth, source_u, source_v)
    pixel = 1 / self.px_per_photo  # photo pixels that an edge is soft over
    across = np.abs(source_u - self.motion.middle_u) / self.motion.half_width
    inside = (np.clip((v - upper) / pixel + 0.5, 0, 1) * np.clip((lower - v) / pixel + 0.5, 0, 1)
              * np.clip((lower - upper) / pixel, 0, 1) * np.clip((1 - across) * self.motion.half_width / pixel, 0, 1))
    # Shut lips meet in a fine dark line.
    seam = 0.45 * np.exp(-((v - (upper + lower) / 2) / 0.75)**2) * np.clip((1.02 - across) / 0.15, 0, 1) * (1 - inside)
    rgb = skin[..., :3]
    rgb *= 1 - seam[..., None] * np.array(SEAM, np.float32)
    rows, columns = inside.any(1), inside.any(0)
    if rows.any():
      part = slice(rows.argmax(), len(rows) - rows[::-1].argmax()), slice(columns.argmax(), len(columns) - columns[::-1].argmax())
      interior = self._interior(self._teeth[part], u[part], v[part], upper[part], lower[part], expression)
      rgb[part] += inside[part][..., None] * (interior - rgb[part])
    colour[place] = skin
    depth[place] = level + RECESS * inside * np.clip((lower - upper) / 6, 0, 1)
    return colour, depth

  def _interior(self, teeth, u, v, upper, lower, expression):
    """[h, w, 3] what is seen between the lips: dark, tongue and lower teeth that move with the jaw, upper teeth that do not."""
    soft = 0.7
    step = lambda distance: np.clip(distance / soft + 0.5, 0, 1)[..., None]
    side = (u - self.motion.middle_u) / self.motion.half_width
    gap = np.maximum(lower - upper, 1e-3)
    rgb = np.broadcast_to(np.float32(CAVITY), (*u.shape, 3)) * (0.6 + 0.6 * np.clip((v - upper) / gap, 0, 1))[..., None]
    middle_lower = np.take_along_axis(lower, np.full((len(lower), 1), int(np.abs(side[0]).argmin())), 1)
    height = 5.5 + 4.5 * expression.tongue
    tongue = middle_lower + 1.5 - height * np.sqrt(np.clip(1 - (side / 0.72)**2, 0, 1))
    shade = np.clip(0.55 + (v - tongue) / 12, 0.4, 0.9)[..., None]
    rgb = rgb + step(v - tongue) * (np.float32(TONGUE) * shade - rgb)
    lower_edge = middle_lower - 2.6 * np.clip((expression.opening - 0.3) / 0.3, 0, 1) * np.sqrt(np.clip(1 - (side / 0.6)**2, 0, 1))
    gaps = 0.94 + 0.06 * np.cos(side * 2 * np.pi * 5)
    rgb = rgb + step(v - lower_edge) * step((0.6 - np.abs(side)) * 12) * (
        np.float32(LOWER_TOOTH) * 0.78 * gaps[..., None] - rgb)
    upper_edge = TOOTH_EDGE_V - TOOTH_RISE * side**2 + 0.35 * np.abs(np.sin(side * np.pi * 4.5))
    teeth = teeth * np.clip(1.02 - 0.55 * np.abs(side)**3, 0, 1)[..., None]
    rgb = rgb + step(upper_edge - v) * step((0.93 - np.abs(side)) * 10) * (teeth - rgb)
    shadow = 0.55 + 0.45 * np.clip((v - upper) / 2.2, 0, 1)
    return rgb * (shadow * np.clip(1.25 - side**4, 0.25, 1))[..., None]

  # ---- rays

  def _march(self, depth, x, y, rest_from_observed):
    """First points of the head on the rays of pixels (x, y) [h, w]: their place on the canvas, camera depth, and where there is
    any; each [h, w]."""
    ray = np.stack([(x - self.center) / self.focal_px, (y - self.center) / self.focal_px, np.ones_like(x)]).astype(np.float32)
    turned = np.einsum('ij,jhw->ihw', rest_from_observed[:3, :3].astype(np.float32), ray)
    start = rest_from_observed[:3, 3].astype(np.float32)
    shift = np.array(self._to_canvas(np.float32(portrait.CENTER_U), np.float32(portrait.CENTER_V)))
    turned[:2] *= portrait.FOCAL * self.scale
    start[:2] *= portrait.FOCAL * self.scale

    def gap(distance):
      point_z = turned[2] * distance + start[2]
      canvas_x = (turned[0] * distance + start[0]) / point_z + shift[0]
      canvas_y = (turned[1] * distance + start[1]) / point_z + shift[1]
      surface = cv2.remap(depth, canvas_x, canvas_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
      return point_z - surface, canvas_x, canvas_y

    middle = np.linalg.inv(rest_from_observed) @ np.append(self.head.head_origin, 1)
    steps = np.linspace(middle[2] + NEAR, middle[2] + FAR, NUM_STEPS, dtype=np.float32)
    low = np.full(x.shape, steps[0], np.float32)
    high, high_gap, hit = low.copy(), np.ones(x.shape, np.float32), np.zeros(x.shape, bool)
    low_gap = before = gap(steps[0])[0]
    for last, this in zip(steps[:-1], steps[1:]):
      now = gap(this)[0]
      crossing = ~hit & (now >= 0) & (before < 0)
      low, high = np.where(crossing, last, low), np.where(crossing, this, high)
      low_gap, high_gap = np.where(crossing, before, low_gap), np.where(crossing, now, high_gap)
      hit |= crossing
      before = now
    for _ in range(NUM_SECANTS):
      at = low + (high - low) * np.clip(low_gap / np.where(hit, low_gap - high_gap, 1), 0.02, 0.98)
      value, _, _ = gap(at)
      behind = value >= 0
      low, high = np.where(behind, low, at), np.where(behind, at, high)
      low_gap, high_gap = np.where(behind, low_gap, value), np.where(behind, value, high_gap)
    at = low + (high - low) * np.clip(low_gap / np.where(hit, low_gap - high_gap, 1), 0, 1)
    _, canvas_x, canvas_y = gap(at)
    return canvas_x, canvas_y, at, hit

  def _shade(self, colour, canvas_x, canvas_y, hit):
    rgba = cv2.remap(colour, canvas_x, canvas_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    alpha = np.where(hit, np.clip(rgba[..., 3], 0, 1), 0)
    return rgba[..., :3] * alpha[..., None], alpha

  def render(self, pose: np.ndarray, expression: Expression) -> Picture:
    """The noise-free picture of the head in `pose` under plain light, before its background."""
    colour, depth = self.deform(expression)
    rest_from_observed = self.rest_pose @ np.linalg.inv(pose)
    top, bottom, left, right = self._extent(pose)
    x, y = np.meshgrid(np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32))
    canvas_x, canvas_y, distance, hit = self._march(depth, x, y, rest_from_observed)
    rgb, alpha = self._shade(colour, canvas_x, canvas_y, hit)
    # Outlines are smoothed by four rays a pixel.
    kernel = np.ones((3, 3), np.uint8)
    far = np.where(alpha > 0.5, distance, distance.max() + 1).astype(np.float32)
    edge = (cv2.dilate(far, kernel) - cv2.erode(far, kernel) > 0.12) & (cv2.dilate(hit.astype(np.uint8), kernel) > 0)
    ys, xs = np.nonzero(edge)
    if len(ys):
      offsets = np.array([(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)], np.float32)
      fine_x, fine_y = xs + left + offsets[:, :1], ys + top + offsets[:, 1:]
      block_x, block_y = _blocks(fine_x, fine_y)
      fine_canvas_x, fine_canvas_y, _, fine_hit = self._march(depth, block_x, block_y, rest_from_observed)
      fine_rgb, fine_alpha = self._shade(colour, fine_canvas_x, fine_canvas_y, fine_hit)
      rgb[ys, xs] = fine_rgb.reshape(-1, 3)[:fine_x.size].reshape(4, -1, 3).mean(0)
      alpha[ys, xs] = fine_alpha.ravel()[:fine_x.size].reshape(4, -1).mean(0)
    picture = self._torso(pose)
    window = (slice(top, bottom), slice(left, right))
    picture[window] = picture[window] * (1 - alpha[..., None]) + rgb
    mask, seen = np.zeros((self.size, self.size), np.float32), np.zeros((self.size, self.size), np.float32)
    mask[window], seen[window] = alpha, np.where(alpha > 0.5, distance, 0)
    return Picture(picture, mask, seen)

  def _extent(self, pose):
    """Rectangle [top, bottom) × [left, right) of the picture that the head can lie in."""
    corners = np.array([(x, y, z) for x in (-1.6, 1.6) for y in (-1.7, 1.9) for z in (-0.6, 1.6)])
    seen = corners @ pose[:3, :3].T + pose[:3, 3]
    seen = self.focal_px * seen[:, :2] / seen[:, 2:] + self.center
    left, top = np.clip(np.floor(seen.min(0)), 0, self.size - 2).astype(int).tolist()
    right, bottom = np.clip(np.ceil(seen.max(0)) + 1, 2, self.size).astype(int).tolist()
    return top, bottom, left, right

  def _torso(self, pose):
    """[S, S, 3] float32 background and shoulders; the neck's top follows the head, the collar stays."""
    neck = np.array([0.0, 1.3, 0.6, 1.0])
    seen, rest = (self.focal_px * p[:2] / p[2] for p in ((pose @ neck)[:3], (self.rest_pose @ neck)[:3]))
    shift = (seen - rest) / self.px_per_photo
    corner = self.head.corner
    u, v = self._torso_map[..., 0] + corner[0], self._torso_map[..., 1] + corner[1]
    along, beside = (TORSO_V[1] - v) / (TORSO_V[1] - TORSO_V[0]), (75 - np.abs(u - 220)) / 40
    weight = (smoothstep(along) * smoothstep(beside)).astype(np.float32)
    return cv2.remap(self.head.rgb_behind, self._torso_map[..., 0] - weight * np.float32(shift[0]),
                     self._torso_map[..., 1] - weight * np.float32(shift[1]), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

  def landmarks(self, pose: np.ndarray, expression: Expression) -> tuple[np.ndarray, np.ndarray]:
    """The 478 landmarks in `pose`: head points [478, 3], head units, and pixels (x, y) with z as MediaPipe gives it [478, 3]."""
    moved, rest = self.motion.move_landmarks(expression)
    canvas_x, canvas_y = self._to_canvas(rest[None, :, 0], rest[None, :, 1])
    depth = cv2.remap(self._depth, canvas_x, canvas_y, cv2.INTER_LINEAR)[0].astype(np.float64)
    points = np.concatenate([(moved - (portrait.CENTER_U, portrait.CENTER_V)) / portrait.FOCAL, np.ones((len(moved), 1))], 1)
    points = points * depth[:, None] - self.head.head_origin
    seen = points @ pose[:3, :3].T + pose[:3, 3]
    pixels = self.focal_px * seen[:, :2] / seen[:, 2:] + self.center
    middle = (seen[:468, 2].min() + seen[:468, 2].max()) / 2
    return points, np.concatenate([pixels, self.focal_px * (seen[:, 2:] - middle) / pose[2, 3]], axis=1)


def _blocks(*values):
  """Flat arrays padded and shaped [rows, 256], as OpenCV's remap limits both sides of its maps."""
  count = values[0].size
  pad = -count % 256
  return [np.concatenate([value.ravel(), np.repeat(value.ravel()[-1:], pad)]).reshape(-1, 256) for value in values]
