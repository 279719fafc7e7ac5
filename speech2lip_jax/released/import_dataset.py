"""The authors' data folder → our subject folder.

The data folder has the layout that AD-NeRF made common, with the warps that Speech2Lip adds. A line gives the names that are
tried in turn; numbers may be padded with zeros, pictures may be jpg or png, the first picture is frame 0.

    DATASET/
      dataset.json              optional: {"names below": "path or pattern in DATASET", "canonical_frame": id, "lip_box": {"top",
                                "left", "height", "width"}}; what it names is not searched for
      track_params.pt           poses: head tracker's dict, euler [N, 3] radians, trans [N, 3] head units, focal pixels
      ori_imgs/*.jpg            frames: or com_imgs, gt_imgs, images, frames; N pictures H × W, 25 a second
      coords/*.npy              coords: or coord, warp_coords; C2O of a frame [H, W, 2], −1 … 1; of all frames or of some; optional
      aud.npy                   features: DeepSpeech [N, 16, 29], a window a frame
      aud.wav                   sound: or audio.wav; 25 frames a second of it; optional, silence without it
      mask_lip_canonical.png    mask_lip: (or .npy) the lips of the canonical frame [H, W]; its rectangle is the lip box if
                                dataset.json has none
      mask_face_canonical.png   mask_face: (or .npy) the face [H, W]; optional, where coords cover it without it
      mask_head_canonical.png   mask_head: (or .npy) the whole head [H, W]; optional, the face and a rim without it

D_c is rebuilt from the coords: the depth that the program learns is learned under the inverse pose, and none of its warps reads it.
"""
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from scipy.io import wavfile

from speech2lip_jax.common import media, npz
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import create_array, open_atomic
from speech2lip_jax.common.progress import Bar
from speech2lip_jax.data import schema
from speech2lip_jax.data.mel import log_mel
from speech2lip_jax.gamem.learn_depth import varied_frames
from speech2lip_jax.gamem.mapping import observed_points
from speech2lip_jax.ops import boxes
from speech2lip_jax.ops.poses import relative_pose
from speech2lip_jax.preprocess import landmarks, projection, video
from speech2lip_jax.released import coords_depth, torch_file
from speech2lip_jax.released import warp as released_warp

PICTURES = ('.jpg', '.jpeg', '.png')
NAMES = {
    'poses': ('track_params.pt',),
    'frames': ('ori_imgs/*', 'com_imgs/*', 'gt_imgs/*', 'images/*', 'frames/*'),
    'coords': ('coords/*.npy', 'coord/*.npy', 'warp_coords/*.npy'),
    'features': ('aud.npy',),
    'sound': ('aud.wav', 'audio.wav'),
    'mask_lip': ('mask_lip_canonical.png', 'mask_lip_canonical.npy'),
    'mask_face': ('mask_face_canonical.png', 'mask_face_canonical.npy'),
    'mask_head': ('mask_head_canonical.png', 'mask_head_canonical.npy'),
}
OPTIONAL = ('coords', 'sound', 'mask_lip', 'mask_face', 'mask_head')
MAX_EXTRA_FEATURES = 25  # windows; programs round the length of a sound differently, more than a second is another sound

NUM_DEPTH_FRAMES = 200  # those whose poses differ most; 2 MB of coords each at 500 × 500
MAX_CANONICAL_SHIFT = 0.25  # pixels: C2O of the canonical frame itself is the identity
HEAD_RIM = 0.2  # of the face's width, where no mask of the head is given


class Source(NamedTuple):
  """A data folder, found but not read. files: {name: paths in frame order}, absent where an optional one is missing."""
  folder: pathlib.Path
  files: dict[str, list[pathlib.Path]]
  canonical_frame: int | None
  lip_box: boxes.LipBox | None


def _frame_order(path: pathlib.Path) -> tuple:
  numbers = re.findall(r'\d+', path.stem)
  return (int(numbers[-1]) if numbers else -1, path.name)


def find_files(dataset: os.PathLike | str) -> Source:
  """Finds the files of a data folder by dataset.json and the names of the layout above.

  Raises:
    InputError: the folder or a needed file is missing, or dataset.json is damaged.
  """
  folder = pathlib.Path(dataset)
  if not folder.is_dir():
    raise InputError(f"--dataset={dataset}: no such folder; give the authors' data folder of this subject")
  description, path = {}, folder / 'dataset.json'
  if path.is_file():
    try:
      description = json.loads(path.read_text())
      box = description.pop('lip_box', None)
      box = None if box is None else boxes.LipBox(**{name: int(value) for name, value in box.items()})
      frame = description.pop('canonical_frame', None)
      frame = None if frame is None else int(frame)
      patterns = {name: (str(pattern),) for name, pattern in description.items()}
    except (ValueError, TypeError, AttributeError) as error:
      raise InputError(f'{path}: damaged ({error}); the layout is told in speech2lip_jax/released/import_dataset.py') from error
    if unknown := sorted(set(patterns) - set(NAMES)):
      raise InputError(f'{path}: {unknown[0]!r} is not known; one of: {", ".join(NAMES)}, canonical_frame, lip_box')
  else:
    box, frame, patterns = None, None, {}
  files = {}
  for name in NAMES:
    for pattern in patterns.get(name, NAMES[name]):
      found = [file for file in folder.glob(pattern) if file.is_file()]
      if name == 'frames':
        found = [file for file in found if file.suffix.lower() in PICTURES]
      if found:
        files[name] = sorted(found, key=_frame_order)
        break
    else:
      if name in patterns or name not in OPTIONAL:
        tried = ' or '.join(patterns.get(name, NAMES[name]))
        raise InputError(f'{folder}: has no {tried} ({name}); put it there, or name it in {path} as "{name}"')
  return Source(folder, files, frame, box)


def _read_picture(path: pathlib.Path) -> np.ndarray:
  """[H, W, 3] uint8 RGB."""
  import cv2  # heavy
  with media.open_container(str(path), 'picture') as container:
    video.video_stream(container, str(path))  # refuses a size that would fill the memory
  picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
  if picture is None:
    raise InputError(f'{path}: cannot be read as a picture; write it again as png')
  return picture[..., ::-1]


def _read_array(path: pathlib.Path) -> np.ndarray:
  """A memory map of floats or integers."""
  try:
    array = npz.open_npy(path)
  except ValueError as error:
    raise InputError(f'{path}: cannot be read as .npy ({error}); write it with numpy.save') from error
  if array.dtype.kind not in 'fiub':
    raise InputError(f'{path}: holds {array.dtype}; must be numbers')
  return array


def _read_mask(path: pathlib.Path, size: tuple[int, int]) -> np.ndarray:
  """[H, W] bool: more than half of the largest value."""
  mask = np.squeeze(_read_picture(path) if path.suffix == '.png' else np.asarray(_read_array(path)))
  mask = mask.max(-1) if mask.ndim == 3 else mask
  if mask.shape != size:
    raise InputError(f'{path}: is {mask.shape}, the frames are {size}; give a mask of one frame')
  if not mask.any():
    raise InputError(f'{path}: is empty; give the mask of the canonical frame')
  return mask > 0.5 * mask.max()


def _read_poses(path: pathlib.Path, num_frames: int) -> tuple[np.ndarray, float]:
  """observed_from_head [N, 4, 4] float32 of the head tracker's file, and the focal length in pixels."""
  tracked = torch_file.load_checkpoint(path)
  try:
    euler, trans, focal = (np.asarray(tracked[name], np.float32) for name in ('euler', 'trans', 'focal'))
  except (KeyError, TypeError, ValueError, RuntimeError) as error:
    raise InputError(f"{path}: has no {error}; give the head tracker's dict of euler, trans and focal") from error
  if euler.shape != (num_frames, 3) or trans.shape != (num_frames, 3):
    raise InputError(f'{path}: holds euler {euler.shape} and trans {trans.shape}, there are {num_frames} frames; '
                     'give the poses of these frames')
  focal_px = float(np.median(focal))
  poses = np.asarray(released_warp.observed_from_head_of_tracker(euler, trans))
  if not np.isfinite(poses).all() or not np.isfinite(focal_px) or focal_px <= 0 or np.median(poses[:, 2, 3]) <= 0:
    raise InputError(f'{path}: focal {focal_px} and median depth {np.median(poses[:, 2, 3])} of the head; '
                     'both must be positive (trans is negative along z)')
  return poses, focal_px


def _read_features(path: pathlib.Path, num_frames: int, num_channels: int) -> np.ndarray:
  """[N, 16, C] float32, cut to the frames."""
  features = _read_array(path)
  if features.ndim != 3 or features.shape[1:] != (16, num_channels):
    raise InputError(f'{path}: holds {features.shape}; the networks take [N, 16, {num_channels}]')
  if not num_frames <= len(features) <= num_frames + MAX_EXTRA_FEATURES:
    raise InputError(f'{path}: holds windows of {len(features)} frames, there are {num_frames}; give one window a frame')
  return np.asarray(features[:num_frames], np.float32)


def _read_grid(path: pathlib.Path, size: tuple[int, int], rows: slice = slice(None)) -> np.ndarray:
  """C2O of one frame, [H, W, 2] float64, −1 … 1; or some of its rows."""
  grid = _read_array(path)
  if grid.ndim == 4 and len(grid) == 1:
    grid = grid[0]
  if grid.shape != (*size, 2):
    raise InputError(f'{path}: holds {grid.shape}, expected {(*size, 2)}: where each pixel of the frame lies in the canonical one')
  return np.asarray(grid[rows], np.float64)


def _identity_frame(coords: dict[int, pathlib.Path], size: tuple[int, int], frames: Iterable[int]
                    ) -> tuple[int, Callable, float]:
  """Which frame's C2O is nearest to the identity, how its grid counts, and how far it is from it.

  Args:
    coords: {frame id: file}.
    size: (height, width).
    frames: ids to look at.

  Returns:
    The id, `coords_depth.pixels_by_edges` or `pixels_by_centres`, and the median distance in pixels over the middle of the picture.
  """
  height, width = size
  rows, columns = slice(height // 3, 2 * height // 3, max(1, height // 60)), slice(width // 3, 2 * width // 3)
  y, x = np.mgrid[:height, :width].astype(np.float64)
  identity = np.stack([x, y], -1)[rows, columns]
  best = (-1, coords_depth.pixels_by_edges, np.inf)
  for frame in frames:
    grid = _read_grid(coords[frame], size, rows)[:, columns]
    for pixels in (coords_depth.pixels_by_edges, coords_depth.pixels_by_centres):
      distance = float(np.median(np.linalg.norm(pixels(grid, height, width) - identity, axis=-1)))
      if distance < best[2]:
        best = (frame, pixels, distance)
  return best


def _find_canonical(source: Source, coords: dict[int, pathlib.Path], size) -> tuple[int, Callable]:
  """The canonical frame and how coords count: by dataset.json, otherwise the frame whose C2O is the identity."""
  if source.canonical_frame is None and not coords:
    raise InputError(f'{source.folder}: without coords the canonical frame cannot be found; '
                     f'put {{"canonical_frame": ID}} in {source.folder / "dataset.json"}')
  frames = list(coords) if source.canonical_frame is None else [source.canonical_frame] * (source.canonical_frame in coords)
  frame, pixels, shift = _identity_frame(coords, size, frames)
  if frames and shift > MAX_CANONICAL_SHIFT:
    told = (f'frame {frame}, which {source.folder / "dataset.json"} calls canonical, moves' if source.canonical_frame is not None
            else f'no frame is canonical: frame {frame} moves least,')
    raise InputError(f'{coords[frame].parent}: {told} by {shift:.2g} px; '
                     f'give the right "canonical_frame" in {source.folder / "dataset.json"}')
  return (frame if source.canonical_frame is None else source.canonical_frame), pixels


def _canonical_depth(source: Source, depth_learned: np.ndarray | None, coords, pixels, poses, focal_px, distance, size
                     ) -> tuple[np.ndarray, np.ndarray, str]:
  """Depth [H, W], where it is known [H, W] bool, and where it comes from."""
  if coords:
    ids = np.array(sorted(coords))
    ids = np.sort(ids[varied_frames(poses[ids], NUM_DEPTH_FRAMES)])
    read = (pixels(_read_grid(coords[frame], size), *size) for frame in Bar(ids.tolist(), total=len(ids), title='depth'))
    depth, _ = coords_depth.depth_from_coords(read, poses[ids], focal_px, distance)
    if (depth > 0).mean() > 0.01:
      return depth, coords_depth.largest_part(depth > 0) & (depth > 0), f'coords of {len(ids)} frames'
    reason = f'the coords in {coords[ids[0]].parent} show no depth (the head hardly moves, or they are of other poses)'
  else:
    reason = f'{source.folder} has no coords'
  if depth_learned is None or depth_learned.shape != size or not (depth_learned > 0).all():
    state = 'has none' if depth_learned is None else f'is {depth_learned.shape}, down to {depth_learned.min():.3g}'
    raise InputError(f'{reason}, and canonical_depth_head of the checkpoint {state}; one of them must give the depth of '
                     f'all {size} pixels')
  return depth_learned, np.ones(size, bool), 'canonical_depth_head of the checkpoint'


def _lip_box(source: Source, size: tuple[int, int]) -> boxes.LipBox:
  if (box := source.lip_box) is None:
    if 'mask_lip' not in source.files:
      raise InputError(f'{source.folder}: has no mask_lip_canonical.png and no lip box; put {{"lip_box": {{"top": …, "left": …, '
                       f'"height": …, "width": …}}}} in {source.folder / "dataset.json"}')
    rows, columns = np.nonzero(_read_mask(source.files['mask_lip'][0], size))
    box = boxes.LipBox(int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
  if min(box) < 0 or min(box.height, box.width) < 4 or box.top + box.height > size[0] or box.left + box.width > size[1]:
    raise InputError(f'{source.folder}: the lip box {tuple(box)} (top, left, height, width) does not lie in the {size} frame')
  return box


def _find_landmarks(frames: np.ndarray) -> tuple[np.ndarray, str]:
  """Landmarks [N, 478, 2] float32 and a word on them: NaN without a model at hand or any face, a missed frame as its neighbour."""
  found, model = np.full((len(frames), schema.NUM_LANDMARKS, 2), np.nan, np.float32), landmarks.model_at_hand(None)
  if not model:
    return found, 'unknown: no landmark model at hand'
  with landmarks.Detector(model) as detector:
    for i, frame in enumerate(Bar(frames, total=len(frames), title='landmarks')):
      faces = detector.faces(np.ascontiguousarray(frame))
      if len(faces):
        found[i] = landmarks.to_pixels(faces[0], frame.shape[1], frame.shape[0])[:, :2]
  is_missing = np.isnan(found[:, 0, 0])
  if is_missing.any() and not is_missing.all():
    seen = np.flatnonzero(~is_missing)
    found = found[seen[np.abs(seen - np.arange(len(frames))[:, None]).argmin(1)]]
  return found, f'found in {len(frames) - is_missing.sum()} of {len(frames)} frames'


def _stream(path: pathlib.Path, shape: tuple[int, ...], rows: Iterator[np.ndarray]) -> None:
  array = create_array(path, np.uint8, shape)
  for i, row in enumerate(rows):
    array[i] = row
  array.flush()


def write_subject(source: Source, folder: pathlib.Path, num_channels: int, depth_learned: np.ndarray | None) -> pathlib.Path:
  """Writes the subject folder and its features (FOLDER/deepspeech.npy); returns the features' path.

  Args:
    source: what `find_files` found.
    folder: to write.
    num_channels: of a step of the features.
    depth_learned: [H, W] the checkpoint's, taken where there are no coords; or None.

  Raises:
    InputError: a file is missing, damaged, or does not fit the others.
  """
  paths = source.files['frames']
  num_frames, size = len(paths), _read_picture(paths[0]).shape[:2]
  height, width = size
  observed_from_head, focal_px = _read_poses(source.files['poses'][0], num_frames)
  features = _read_features(source.files['features'][0], num_frames, num_channels)
  box = _lip_box(source, size)
  numbers = {_frame_order(path)[0]: i for i, path in enumerate(paths)}
  coords = {numbers[_frame_order(path)[0]]: path for path in source.files.get('coords', ()) if _frame_order(path)[0] in numbers}
  if 'coords' in source.files and not coords:
    raise InputError(f'{source.files["coords"][0].parent}: no file has the number of a picture in {paths[0].parent}')
  if source.canonical_frame is not None and not 0 <= source.canonical_frame < num_frames:
    raise InputError(f'{source.folder / "dataset.json"}: canonical_frame {source.canonical_frame}, there are {num_frames} frames')
  canonical, pixels = _find_canonical(source, coords, size)
  poses = relative_pose(observed_from_head, observed_from_head[canonical]).astype(np.float32)
  distance = float(observed_from_head[canonical, 2, 3])
  depth, known, origin = _canonical_depth(source, depth_learned, coords, pixels, poses, focal_px, distance, size)

  masks = {name: _read_mask(source.files[name][0], size) for name in ('mask_face', 'mask_head') if name in source.files}
  face = masks.get('mask_face', coords_depth.largest_part(known) if coords else None)
  if face is None:
    raise InputError(f'{source.folder}: has no mask_face_canonical.png; it is needed where there are no coords')
  rim = max(1, round(HEAD_RIM * np.ptp(np.nonzero(face.any(0))[0])))
  head = masks.get('mask_head', ndimage.distance_transform_edt(~face) <= rim) | face
  if not known.all():
    depth = coords_depth.carry_on(depth, known, focal_px)
  depth = np.asarray(depth, np.float32)

  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'meta.json').unlink(missing_ok=True)  # of an import that was stopped; written last
  lip_x, lip_y = np.meshgrid(np.arange(box.left, box.left + box.width), np.arange(box.top, box.top + box.height))
  lip_points = jnp.asarray(np.stack([lip_x, lip_y], -1), jnp.float32)
  observed = jax.jit(lambda pose: observed_points(lip_points, jnp.asarray(depth), pose, focal_px))

  def pictures():
    for path in Bar(paths, total=num_frames, title='frames'):
      picture = _read_picture(path)
      if picture.shape[:2] != size:
        raise InputError(f'{path}: is {picture.shape[:2]}, the first picture {size}; all must be of one size')
      yield picture

  _stream(folder / 'frames.npy', (num_frames, height, width, 3), pictures())
  frames = np.load(folder / 'frames.npy', mmap_mode='r')
  lips = (np.clip(np.rint(projection.read_cubic(frame, np.asarray(observed(pose)))), 0, 255) for frame, pose in zip(frames, poses))
  _stream(folder / 'rgb_lip_canonical.npy', (num_frames, box.height, box.width, 3), lips)

  sound = np.zeros(num_frames * schema.SAMPLES_PER_FRAME, np.int16)
  if 'sound' in source.files:
    mono = media.read_sound(source.files['sound'][0], schema.SAMPLE_RATE, mono=True)[0][0][:len(sound)]
    sound[:len(mono)] = mono
  mel = log_mel(sound.astype(np.float32) / 32768)
  points, where_from = _find_landmarks(frames)
  arrays = {
      'observed_from_head': observed_from_head.astype(np.float32), 'is_interpolated': np.zeros(num_frames, bool),
      'landmarks': points,
      'depth_canonical': depth, 'mask_head_canonical': head.astype(np.uint8), 'mask_face_canonical': face.astype(np.uint8),
      'mel': mel, 'deepspeech': features}
  for name, array in arrays.items():
    with open_atomic(folder / f'{name}.npy') as file:
      np.save(file, array)
  with open_atomic(folder / 'audio.wav') as file:
    wavfile.write(file, schema.SAMPLE_RATE, sound)
  report = {'imported_from': source.folder.name, 'depth': origin, 'landmarks': where_from,
            'sound': 'given' if 'sound' in source.files else 'silence'}
  clip = schema.Clip(source.folder.name, source.folder.name, 0, num_frames, 0, len(mel))
  schema.write_meta(folder, schema.SubjectMeta(schema.SOURCELESS_VERSION, height, width, num_frames, len(mel), focal_px, canonical,
                                               box, (clip,), report))
  return folder / 'deepspeech.npy'
