"""contact_sheet.png: one picture that shows whether a subject came out well.

Rows: frames spread over the video with landmarks and the lip box carried into them; the same frames brought to
canonical space; their canonical lips; then the canonical frame with the lip box, its depth and masks; head angles and
mouth opening over time; numbers.
"""
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from speech2lip_jax.common.figures import DPI, write_png
from speech2lip_jax.data import schema
from speech2lip_jax.ops.poses import relative_pose
from speech2lip_jax.preprocess import canonical, projection, rigid

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

NUM_SHOWN = 12
TILE = 200  # px
PLOT_HEIGHT = 220
WIDTH = NUM_SHOWN * TILE
# What is drawn, by its name in the legend, and its colour.
COLOURS = {'landmarks': '#3cdc3c', 'landmarks, interpolated': '#ff4646', 'lip box': '#ffdc00', 'head mask': '#ff4646',
           'face mask': '#ffdc00'}
MASKS = {'head mask': 'mask_head_canonical', 'face mask': 'mask_face_canonical'}  # the later one covers the earlier
CURVES = ('#ffdc00', '#3cdc3c', '#ff4646')
GOOD, BAD, INK, PAPER = '#3cdc3c', '#ff4646', '#ffffff', '#141414'


def write(out: pathlib.Path, meta: schema.SubjectMeta) -> None:
  """Draws the sheet of the subject in `out`, whose arrays are written and whose meta.json need not be yet."""
  arrays = {name: np.load(out / f'{name}.npy', mmap_mode='r') for name in schema.ARRAYS}
  write_png(draw(arrays, meta), out / 'contact_sheet.png')


def draw(arrays: dict[str, np.ndarray], meta: schema.SubjectMeta) -> 'Figure':
  """The sheet. arrays: by their names in `schema.ARRAYS`."""
  from matplotlib.figure import Figure
  lips_height = TILE * meta.lip_box.height // meta.lip_box.width + 1
  heights = (TILE, TILE, lips_height, 2 * TILE, PLOT_HEIGHT, PLOT_HEIGHT)
  tops = np.cumsum((0, *heights))
  figure = Figure((WIDTH / DPI, tops[-1] / DPI), dpi=DPI, facecolor='black')

  def place(left: int, top: int, width: int, height: int) -> 'Axes':
    """Axes over a rectangle of the sheet, pixels; the picture shown there should be drawn pixel for pixel."""
    return figure.add_axes((left / WIDTH, 1 - (top + height) / tops[-1], width / WIDTH, height / tops[-1]), facecolor=PAPER)

  rows = [place(0, int(top), WIDTH, height) for top, height in zip(tops, heights[:3])]
  _draw_frames(rows, arrays, meta, lips_height)
  _draw_canonical([place(i * 2 * TILE, int(tops[3]), 2 * TILE, 2 * TILE) for i in range(3)], arrays, meta)
  for axes in figure.axes:
    axes.set_axis_off()
  _write_text(figure, (6 * TILE + 12) / WIDTH, 1 - (tops[3] + 12) / tops[-1], meta)
  angles = np.degrees(rigid.vector_from_rotation(arrays['observed_from_head'][:, :3, :3].astype(np.float64)))
  _draw_curves(place(70, int(tops[4]) + 30, WIDTH - 80, PLOT_HEIGHT - 55), dict(zip(('pitch', 'yaw', 'roll'), angles.T)), 'degrees',
               meta)
  _draw_curves(place(70, int(tops[5]) + 30, WIDTH - 80, PLOT_HEIGHT - 55),
               {'mouth opening': canonical.mouth_opening(arrays['landmarks'])}, "of the eye corners' distance", meta)
  return figure


def _draw_frames(rows: 'list[Axes]', arrays: dict[str, np.ndarray], meta: schema.SubjectMeta, lips_height: int) -> None:
  """Frames with landmarks and lip box; the same frames in canonical space; their canonical lips."""
  import cv2
  poses = arrays['observed_from_head'].astype(np.float64)
  moves = relative_pose(poses, poses[meta.canonical_frame])
  depth, size, box = np.asarray(arrays['depth_canonical'], np.float64), meta.width, meta.lip_box
  grid, grid_depth = projection.lip_grid(box, depth)
  side = meta.canonical_size[0]
  everywhere = np.stack(np.meshgrid(np.arange(TILE), np.arange(TILE)), -1)
  everywhere = np.clip((everywhere + 0.5) * side / TILE - 0.5, 0, side - 1)
  tile_depth = depth[everywhere[..., 1].round().astype(int), everywhere[..., 0].round().astype(int)]
  tiles: list[list[np.ndarray]] = [[], [], []]
  for i, frame in enumerate(np.linspace(0, meta.num_frames - 1, NUM_SHOWN).round().astype(int)):
    image = np.ascontiguousarray(arrays['frames'][frame])
    tiles[0].append(cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_AREA))
    seen = lambda pixels, depths, move=moves[frame]: projection.observed_coords(pixels, depths, move, meta.focal_px, size,
                                                                                 meta.canonical_scale)
    coords = seen(everywhere, tile_depth).astype(np.float32)
    tiles[1].append(cv2.remap(image, coords[..., 0], coords[..., 1], cv2.INTER_LINEAR))
    tiles[2].append(cv2.resize(np.ascontiguousarray(arrays['rgb_lip_canonical'][frame]), (TILE, lips_height),
                               interpolation=cv2.INTER_CUBIC))
    on_sheet = lambda pixels, left=i * TILE: ((pixels + 0.5) * TILE / size - 0.5 + (left, 0)).T
    box_in_frame = seen(grid, grid_depth)
    edge = np.concatenate([box_in_frame[0], box_in_frame[:, -1], box_in_frame[-1, ::-1], box_in_frame[::-1, 0]])
    is_lost = bool(arrays['is_interpolated'][frame])
    x, y = on_sheet(arrays['landmarks'][frame])
    rows[0].scatter(x, y, s=1.2, linewidths=0, color=COLOURS['landmarks, interpolated' if is_lost else 'landmarks'])
    rows[0].plot(*on_sheet(edge), color=COLOURS['lip box'], linewidth=1)
    rows[0].text(i * TILE + 4, 14, str(frame), color=INK, fontsize=9)
  for axes, row in zip(rows, tiles):
    axes.imshow(np.hstack(row), interpolation='nearest', aspect='auto')


def _draw_canonical(places: 'list[Axes]', arrays: dict[str, np.ndarray], meta: schema.SubjectMeta) -> None:
  """The canonical frame with landmarks and lip box, its depth in colour with level lines, its masks."""
  from matplotlib.patches import Rectangle
  image = canonical.enlarge(np.ascontiguousarray(arrays['frames'][meta.canonical_frame]), meta.canonical_scale)
  box, depth = meta.lip_box, arrays['depth_canonical']
  framed, coloured, masked = places
  framed.imshow(image, interpolation='nearest')
  x, y = projection.canonical_pixels(arrays['landmarks'][meta.canonical_frame], meta.canonical_scale).T
  framed.scatter(x, y, s=6, linewidths=0, color=COLOURS['landmarks'])
  framed.add_patch(Rectangle((box.left - 0.5, box.top - 0.5), box.width, box.height, fill=False, edgecolor=COLOURS['lip box']))
  coloured.imshow(depth, cmap='turbo_r', interpolation='nearest')
  coloured.contour(depth, 24, colors='black', linewidths=0.6)
  masked.imshow(tint_masks(image, arrays), interpolation='nearest')


def tint_masks(image: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
  """image [H, W, 3] uint8 half covered by the colour of each of the `MASKS`."""
  from matplotlib.colors import to_rgb
  tinted = image.copy()
  for name, array in MASKS.items():
    inside = np.asarray(arrays[array], bool)
    tinted[inside] = (image[inside] / 2 + 127.5 * np.array(to_rgb(COLOURS[name]))).round()
  return tinted


def _write_text(figure: 'Figure', left: float, top: float, meta: schema.SubjectMeta) -> None:
  """Numbers, warnings, and what the colours mean."""
  from matplotlib.lines import Line2D
  from matplotlib.patches import Patch
  shapes = {'landmarks': lambda colour: Line2D([], [], color=colour, marker='o', markersize=4, linestyle=''),
            'lip box': lambda colour: Line2D([], [], color=colour)}
  handles = [shapes.get(name.split(',')[0], lambda colour: Patch(color=colour))(colour) for name, colour in COLOURS.items()]
  lines = [(line, INK) for line in _numbers(meta)]
  lines += [(f'warning: {warning}', BAD) for warning in meta.report['warnings']] or [('no warnings', GOOD)]
  for i, (line, colour) in enumerate(lines):
    figure.text(left, top - i * 19 / DPI / figure.get_figheight(), line, color=colour, fontsize=10, va='top')
  figure.legend(handles, list(COLOURS), loc='upper right', bbox_to_anchor=(1 - 12 / WIDTH, top), frameon=False, labelcolor=INK,
                fontsize=10, borderpad=0, borderaxespad=0)  # beside the first lines, which are short


def _numbers(meta: schema.SubjectMeta) -> list[str]:
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
      f'nose base {quality["nose_base_px"]:.2f} px ({100 * quality["nose_base_share"]:.2f} % of the face), correlation with brows '
      f'{quality["nose_base_with_brows"]:.2f}, with the mouth {quality["nose_base_with_mouth"]:.2f}',
      f'crop {report["crop"]["side_per_face"]:.2f} face heights; face {quality["face_width_source_px"]:.0f} px wide in the '
      f'source, grey {quality["face_grey"]:.0f}, turned {quality["turn_p95_degrees"]:.0f} degrees (95 %)',
      f'{100 * quality["lost_share"]:.0f} % of the video without a face, {100 * quality["blurred_share"]:.0f} % '
      'of the frames blurred or in profile',
      'seconds per stage: ' + ', '.join(f'{name} {value:.1f}' for name, value in list(report['seconds'].items())[:4]),
      '  ' + ', '.join(f'{name} {value:.1f}' for name, value in list(report['seconds'].items())[4:]), '',
      'row 1: frames; row 2: the same in canonical space; row 3: canonical lips',
      'below: canonical frame; its depth, near is red; its masks'
  ]
  return lines


def _draw_curves(axes: 'Axes', curves: dict[str, np.ndarray], unit: str, meta: schema.SubjectMeta) -> None:
  """Curves over the frames, one scale for all, clip starts as grey lines."""
  for (name, curve), colour in zip(curves.items(), CURVES):
    axes.plot(curve, color=colour, linewidth=1, label=name)
  for clip in meta.clips[1:]:
    axes.axvline(clip.start, color='#2d2d2d', linewidth=1, zorder=0)
  axes.set_xlim(0, max(meta.num_frames - 1, 1))
  axes.tick_params(colors=INK, labelsize=8)
  axes.legend(loc='lower left', bbox_to_anchor=(0, 1), ncols=len(curves), frameon=False, labelcolor=INK, fontsize=9, borderpad=0,
              borderaxespad=0.3)
  axes.set_title(unit, color=INK, fontsize=9, loc='right', pad=4)
