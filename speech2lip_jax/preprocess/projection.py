"""Canonical and observed pixels of one head, NumPy: where a canonical pixel lies in a frame, and back (Eq. 4).

observed_from_canonical = pose of the frame · inverse pose of the canonical view. Coordinates are (x, y), pixel
centres at integers; camera: principal point ((W − 1)/2, (H − 1)/2). The canonical image is `scale` times as large as a
frame, with `scale` times the focal length; `focal_px` and `size` are the frame's.
"""
import numpy as np
import scipy.ndimage

NUM_INVERSE_STEPS = 12


def observed_coords(coords: np.ndarray, depth: np.ndarray, observed_from_canonical: np.ndarray, focal_px: float,
                    size: int, scale: float = 1.0) -> np.ndarray:
  """Where canonical pixels [..., 2] of depth [...] are seen after the motion [..., 4, 4]: [..., 2] float64."""
  center, center_canonical = (size - 1) / 2, (size * scale - 1) / 2
  ray = np.concatenate([(coords - center_canonical) / (focal_px * scale), np.ones((*coords.shape[:-1], 1))], axis=-1)
  point = ray * depth[..., None]
  point = (observed_from_canonical[..., :3, :3] @ point[..., None])[..., 0] + observed_from_canonical[..., :3, 3]
  return focal_px * point[..., :2] / point[..., 2:] + center


def canonical_pixels(pixels: np.ndarray, scale: float) -> np.ndarray:
  """The same places [..., 2] in a canonical image `scale` times as large."""
  return (pixels + 0.5) * scale - 0.5


def canonical_coords(coords: np.ndarray, depth_canonical: np.ndarray, observed_from_canonical: np.ndarray,
                     focal_px: float, scale: float = 1.0) -> np.ndarray:
  """The canonical pixels that are seen at `coords`: the inverse of `observed_coords` on the depth map, by fixed point.

  Args:
    coords: [N, P, 2] observed pixels of N frames.
    depth_canonical: [scale·S, scale·S] float.
    observed_from_canonical: [N, 4, 4].
    focal_px: pixels.
    scale: canonical over observed size.

  Returns:
    [N, P, 2] float64.
  """
  size = round(depth_canonical.shape[0] / scale)
  moves = observed_from_canonical[:, None]
  found = canonical_pixels(coords.astype(np.float64), scale)
  for _ in range(NUM_INVERSE_STEPS):
    rows_columns = np.moveaxis(found[..., ::-1], -1, 0)
    depth = scipy.ndimage.map_coordinates(depth_canonical, rows_columns, order=1, mode='nearest')
    found = found + scale * (coords - observed_coords(found, depth, moves, focal_px, size, scale))
  return found


def read_cubic(image: np.ndarray, coords: np.ndarray) -> np.ndarray:
  """Reads image [H, W, C] uint8 at coords [..., 2] by cubic spline, edges replicated → [..., C] float32, unclipped.

  OpenCV's remap rounds positions to 1/32 px; this keeps them exact.
  """
  height, width = image.shape[:2]
  pad = 8  # the spline's prefilter decays to nothing over this many pixels
  left, top = np.maximum(np.floor(coords.reshape(-1, 2).min(0)).astype(int) - pad, 0).clip(max=(width - 1, height - 1))
  right, bottom = np.clip(np.ceil(coords.reshape(-1, 2).max(0)).astype(int) + pad + 1, 1, (width, height))
  window = image[top:max(bottom, top + 1), left:max(right, left + 1)].astype(np.float32)
  where = np.stack([coords[..., 1] - top, coords[..., 0] - left])
  planes = [scipy.ndimage.map_coordinates(window[..., channel], where, order=3, mode='nearest', output=np.float32)
            for channel in range(image.shape[2])]
  return np.stack(planes, axis=-1)


def lip_grid(box, depth_canonical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Pixels [h, w, 2] of the lip box in the canonical image, and their depth [h, w]."""
  rows, columns = np.mgrid[box.top:box.top + box.height, box.left:box.left + box.width]
  return np.stack([columns, rows], -1).astype(np.float64), depth_canonical[rows, columns].astype(np.float64)


def read_lips(frame: np.ndarray, box, depth_canonical: np.ndarray, observed_from_canonical: np.ndarray,
              focal_px: float, scale: float = 1.0) -> np.ndarray:
  """The lips of one frame [S, S, 3] uint8 brought to the canonical lip box: [h, w, 3] uint8."""
  grid, depth = lip_grid(box, depth_canonical)
  coords = observed_coords(grid, depth, observed_from_canonical, focal_px, frame.shape[0], scale)
  return np.clip(np.rint(read_cubic(frame, coords)), 0, 255).astype(np.uint8)
