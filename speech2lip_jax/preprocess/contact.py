"""contact_sheet.png: one picture that shows whether a subject came out well.

Rows: frames spread over the video with landmarks and the lip box carried into them; the same frames brought to
canonical space; their canonical lips; then the canonical frame with the lip box, its depth and masks; head angles and
mouth opening over time; numbers.
"""
import os
import pathlib

import numpy as np

from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import canonical, projection, rigid

NUM_SHOWN = 12
TILE = 200  # px
PLOT_HEIGHT = 220
GREEN, YELLOW, RED, WHITE, GREY = (60, 220, 60), (255, 220, 0), (255, 70, 70), (255, 255, 255), (120, 120, 120)


def write(out: pathlib.Path, meta: schema.SubjectMeta) -> None:
  """Draws the sheet of the subject in `out`, whose arrays are written and whose meta.json need not be yet."""
  import cv2
  arrays = {name: np.load(out / f'{name}.npy', mmap_mode='r') for name in schema.ARRAYS}
  poses = arrays['observed_from_head'].astype(np.float64)
  moves = poses @ np.linalg.inv(poses[meta.canonical_frame])
  depth = np.asarray(arrays['depth_canonical'], np.float64)
  shown = np.linspace(0, meta.num_frames - 1, NUM_SHOWN).round().astype(int).tolist()
  columns = [_column(arrays, meta, depth, moves[frame], frame) for frame in shown]
  width = NUM_SHOWN * TILE
  rows = [np.hstack(tiles) for tiles in zip(*columns)]
  canonical_row = _canonical_tiles(arrays, meta, depth)
  text = np.zeros((2 * TILE, width - 2 * TILE * len(canonical_row), 3), np.uint8)
  lines = [(content, WHITE) for content in _numbers(meta)]
  lines += [(f'warning: {content}', RED) for content in meta.report['warnings']] or [('no warnings', GREEN)]
  for line, (content, colour) in enumerate(lines):
    _write(text, content, (12, 20 + 19 * line), colour)
  rows.append(
      np.hstack(
          [*[cv2.resize(tile, (2 * TILE, 2 * TILE), interpolation=cv2.INTER_AREA) for tile in canonical_row], text]))
  angles = np.degrees(rigid.vector_from_rotation(poses[:, :3, :3]))
  starts = [clip.start for clip in meta.clips]
  rows.append(_plot(width, {'pitch': angles[:, 0], 'yaw': angles[:, 1], 'roll': angles[:, 2]}, 'degrees', starts))
  rows.append(
      _plot(width, {'mouth opening': canonical.mouth_opening(arrays['landmarks'])}, 'of the eye corners\' distance',
            starts))
  temporary = out / 'stages' / 'contact_sheet.png'
  cv2.imwrite(str(temporary), np.vstack(rows)[..., ::-1])
  os.replace(temporary, out / 'contact_sheet.png')


def _column(arrays, meta, depth, move, frame: int) -> list[np.ndarray]:
  """Three tiles of one frame: observed with landmarks and lip box, in canonical space, canonical lips."""
  import cv2
  image = np.ascontiguousarray(arrays['frames'][frame])
  size, box = meta.width, meta.lip_box
  scale = TILE / size
  tile = cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_AREA)
  lost = bool(arrays['is_interpolated'][frame])
  for x, y in (arrays['landmarks'][frame] + 0.5) * scale - 0.5:
    cv2.circle(tile, (round(float(x)), round(float(y))), 0, RED if lost else GREEN, -1)
  grid, grid_depth = projection.lip_grid(box, depth)
  seen = projection.observed_coords(grid, grid_depth, move, meta.focal_px, size, meta.canonical_scale)
  edge = np.concatenate([seen[0], seen[:, -1], seen[-1, ::-1], seen[::-1, 0]])
  cv2.polylines(tile, [((edge + 0.5) * scale - 0.5).round().astype(np.int32)], True, YELLOW, 1)
  _write(tile, f'{frame}', (4, 14))
  everywhere = np.stack(np.meshgrid(np.arange(TILE), np.arange(TILE)), -1)
  side = meta.canonical_size[0]
  everywhere = np.clip((everywhere + 0.5) * side / TILE - 0.5, 0, side - 1)
  rows, columns = everywhere[..., 1].round().astype(int), everywhere[..., 0].round().astype(int)
  coords = projection.observed_coords(everywhere, depth[rows, columns], move, meta.focal_px, size,
                                   meta.canonical_scale).astype(np.float32)
  warped = cv2.remap(image, coords[..., 0], coords[..., 1], cv2.INTER_LINEAR)
  lips = np.zeros((TILE * box.height // box.width + 1, TILE, 3), np.uint8)
  lips[:] = cv2.resize(np.ascontiguousarray(arrays['rgb_lip_canonical'][frame]),
                       lips.shape[1::-1],
                       interpolation=cv2.INTER_CUBIC)
  return [tile, warped, lips]


def _canonical_tiles(arrays, meta, depth) -> list[np.ndarray]:
  """Canonical frame with lip box, depth in colour with level lines, head and face masks over the frame."""
  import cv2
  image = canonical.enlarge(np.ascontiguousarray(arrays['frames'][meta.canonical_frame]), meta.canonical_scale)
  box = meta.lip_box
  framed = image.copy()
  cv2.rectangle(framed, (box.left, box.top), (box.left + box.width - 1, box.top + box.height - 1), YELLOW, 1)
  for x, y in projection.canonical_pixels(arrays['landmarks'][meta.canonical_frame], meta.canonical_scale):
    cv2.circle(framed, (round(float(x)), round(float(y))), 0, GREEN, -1)
  share = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
  coloured = cv2.applyColorMap(((1 - share) * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1].copy()
  coloured[np.abs((share * 24) % 1 - 0.5) > 0.46] = 0
  masked = image.copy()
  masked[..., 0] = np.where(arrays['mask_head_canonical'], masked[..., 0] // 2 + 127, masked[..., 0])
  masked[..., 1] = np.where(arrays['mask_face_canonical'], masked[..., 1] // 2 + 127, masked[..., 1])
  return [framed, coloured, masked]


def _numbers(meta) -> list[str]:
  report, box, quality = meta.report, meta.lip_box, meta.report['quality']
  fit = report['tracking']
  lines = [
      f'{meta.num_frames} frames ({meta.num_frames / schema.FPS:.1f} s) of {meta.width} px, {len(meta.clips)} clips',
      f'{report["num_interpolated"]} interpolated, {sum(map(len, report["events"].values()))} cuts, losses, fillings',
      f'canonical frame {meta.canonical_frame}',
      f'lip box top {box.top} left {box.left} height {box.height} width {box.width}',
      f'focal length {meta.focal_px:.1f} px ({meta.focal_px / meta.width:.2f} widths)',
      f'reprojection median {fit["reprojection_median_px"]:.2f} px, 95 % {fit["reprojection_p95_px"]:.2f} px',
      f'jitter {fit["jitter_px"]:.3f} px (median second difference)',
      f'crop {report["crop"]["side_per_face"]:.2f} face heights; face {quality["face_width_source_px"]:.0f} px wide in the '
      f'source, grey {quality["face_grey"]:.0f}, turned {quality["turn_p95_degrees"]:.0f} degrees (95 %)',
      f'{100 * quality["lost_share"]:.0f} % of the video without a face, {100 * quality["blurred_share"]:.0f} % '
      'of the frames blurred or in profile',
      'seconds per stage: ' + ', '.join(f'{name} {value:.1f}' for name, value in list(report['seconds'].items())[:4]),
      '  ' + ', '.join(f'{name} {value:.1f}' for name, value in list(report['seconds'].items())[4:]), '',
      'row 1 frames, landmarks, lip box; row 2 in canonical space; row 3 canonical lips',
      'below: canonical frame; depth, near is red; head mask red, face mask green'
  ]
  return lines


def _plot(width: int, curves: dict[str, np.ndarray], unit: str, clip_starts: list[int]) -> np.ndarray:
  """[PLOT_HEIGHT, width, 3] uint8: curves over the frames, one scale for all, clip starts as grey lines."""
  import cv2
  image = np.full((PLOT_HEIGHT, width, 3), 20, np.uint8)
  low, high = min(curve.min() for curve in curves.values()), max(curve.max() for curve in curves.values())
  count = len(next(iter(curves.values())))
  for start in clip_starts[1:]:
    cv2.line(image, (start * width // count, 0), (start * width // count, PLOT_HEIGHT), (45, 45, 45), 1)
  for number, ((name, curve), colour) in enumerate(zip(curves.items(), (YELLOW, GREEN, RED))):
    xs = np.arange(count) * (width - 1) / max(1, count - 1)
    ys = PLOT_HEIGHT - 12 - (curve - low) / max(high - low, 1e-9) * (PLOT_HEIGHT - 24)
    cv2.polylines(image, [np.stack([xs, ys], -1).round().astype(np.int32)], False, colour, 1, cv2.LINE_AA)
    _write(image, name, (70 + 130 * number, 20), colour)
  _write(image, f'{high:.2f}', (6, 20))
  _write(image, f'{low:.2f} {unit}', (6, PLOT_HEIGHT - 8))
  return image


def _write(image: np.ndarray, text: str, at: tuple[int, int], colour=WHITE) -> None:
  import cv2
  cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
