"""The subject folder: what `preprocess` writes and everything after it reads.

    SUBJECT/
      meta.json                 `SubjectMeta`, with a format version
      frames.npy                [N, H, W, 3] uint8      RGB face crops at 25 fps, clips one after another (rgb_face_observed)
      rgb_lip_canonical.npy     [N, h, w, 3] uint8      each frame's lips read in canonical space (h, w: the lip box)
      observed_from_head.npy    [N, 4, 4] float32       rigid head pose: head → camera, head units
      landmarks.npy             [N, 478, 2] float32     (x, y) pixels of the frame, pixel centres at integers
      is_interpolated.npy       [N] bool                frame had no detected face; landmarks and pose are interpolated
      is_covered.npy            [N] bool                a hand, a microphone … covers the mouth; may be absent: nowhere
      depth_canonical.npy       [sH, sW] float32        D_c > 0 along the camera's z, head units, whole image
      mask_head_canonical.npy   [sH, sW] uint8          1 on the whole head (hair, ears, face)
      mask_face_canonical.npy   [sH, sW] uint8          1 on the face, where `depth_canonical` was measured
      mel.npy                   [M, 80] float32         log-mel −4..4, 80 steps a second, each clip on its own
      audio.wav                 [N·640] int16, 16 kHz mono; sample 640·n begins frame n

and from format 2 on, where the frames come from (a subject that no video file is behind stays format 1, without these):

      crop.npy                  [N, 3] float32          (left, top, side) of the frame's square in its source's picture, pixels
      source_picture.npy        [N] int32               which of the source's decodable pictures the frame shows, from 0
      source_time.npy           [N] float64             seconds of that picture since the source's first one
      points_head.npy           [468, 3] float32        the face's rigid shape, head units

Camera: x right, y down, z forward; pixel centres at integers; principal point ((W − 1)/2, (H − 1)/2); focal in pixels.
The canonical view is the pose of frame `canonical_frame`; its image is s = `canonical_scale` times as large as a frame, with
s times the focal length, and the lip box is in its pixels. A source's picture is upright with square pixels, and its square
begins at the outer edge of a pixel: frame pixel x lies at left + (x + 0.5)·side/W − 0.5. Arrays are memory-mapped by `load_array`.
"""
import dataclasses
import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import write_text
from speech2lip_jax.ops.boxes import LipBox

FORMAT_VERSION = 2
SOURCELESS_VERSION = 1  # the same without what is known of the sources
FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
MEL_STEPS_PER_SECOND = 80
NUM_MEL_BANDS = 80
NUM_LANDMARKS = 478
NUM_FACE_POINTS = 468  # of the landmarks; the others are irises
SYNC_FRAMES = 5  # frames of a window that a sync expert looks at: 200 ms
SYNC_MEL_STEPS = 16  # and its mel steps


@dataclasses.dataclass(frozen=True)
class Clip:
  """A run of frames that are consecutive in time: frame ids [start, start + num_frames), mel steps likewise.

  source: path of its video; source_index: which of `SubjectMeta.sources`, None in format 1.
  """
  name: str
  source: str
  start: int
  num_frames: int
  mel_start: int
  num_mel: int
  source_index: int | None = None

  @property
  def stop(self) -> int:
    """The frame id after the last one."""
    return self.start + self.num_frames


@dataclasses.dataclass(frozen=True)
class Source:
  """A video that a subject was made from, as it was then.

  width, height: of its upright pictures with square pixels; rotation: 0, 90, 180, 270 degrees counter-clockwise that bring a stored
  picture upright. start_s: time stamp of its first picture; duration_s: from there. pixel_aspect: width over height of a stored
  pixel. pix_fmt and the colours: as FFmpeg names (pix_fmt) and numbers (AVColorRange, …) them, None where the file does not say.
  """
  path: str
  width: int
  height: int
  rotation: int
  fps: float
  start_s: float
  duration_s: float
  file_size: int
  pixel_aspect: float
  pix_fmt: str | None
  colour_range: int | None
  colour_matrix: int | None
  colour_primaries: int | None
  colour_transfer: int | None


@dataclasses.dataclass(frozen=True)
class SubjectMeta:
  """Contents of meta.json. `report` holds what the stages measured (quality, cuts, versions); nothing is computed from it.

  sources: the videos, None in format 1.
  """
  format_version: int
  height: int
  width: int
  num_frames: int
  num_mel: int
  focal_px: float
  canonical_frame: int
  lip_box: LipBox
  clips: tuple[Clip, ...]
  report: dict[str, Any]
  canonical_scale: float = 1.0
  sources: tuple[Source, ...] | None = None

  @property
  def canonical_size(self) -> tuple[int, int]:
    """(height, width) of the canonical image, pixels."""
    return round(self.height * self.canonical_scale), round(self.width * self.canonical_scale)


class ArraySpec(NamedTuple):
  dtype: str
  shape: tuple[str | int, ...]
  may_be_absent: bool = False  # then all are 0


ARRAYS = {
    'frames': ArraySpec('uint8', ('num_frames', 'height', 'width', 3)),
    'rgb_lip_canonical': ArraySpec('uint8', ('num_frames', 'lip_height', 'lip_width', 3)),
    'observed_from_head': ArraySpec('float32', ('num_frames', 4, 4)),
    'landmarks': ArraySpec('float32', ('num_frames', NUM_LANDMARKS, 2)),
    'is_interpolated': ArraySpec('bool', ('num_frames',)),
    'is_covered': ArraySpec('bool', ('num_frames',), may_be_absent=True),
    'depth_canonical': ArraySpec('float32', ('canonical_height', 'canonical_width')),
    'mask_head_canonical': ArraySpec('uint8', ('canonical_height', 'canonical_width')),
    'mask_face_canonical': ArraySpec('uint8', ('canonical_height', 'canonical_width')),
    'mel': ArraySpec('float32', ('num_mel', NUM_MEL_BANDS)),
}
SOURCE_ARRAYS = {
    'crop': ArraySpec('float32', ('num_frames', 3)),
    'source_picture': ArraySpec('int32', ('num_frames',)),
    'source_time': ArraySpec('float64', ('num_frames',)),
    'points_head': ArraySpec('float32', (NUM_FACE_POINTS, 3)),
}


FINITE = ('observed_from_head', 'depth_canonical', 'mel', 'crop', 'source_time', 'points_head')  # imported landmarks may be NaN


def array_specs(meta: SubjectMeta) -> dict[str, ArraySpec]:
  """The arrays that a subject of this format has, by name."""
  return ARRAYS if meta.sources is None else ARRAYS | SOURCE_ARRAYS


def expected_shape(name: str, meta: SubjectMeta) -> tuple[int, ...]:
  """The shape that `array_specs(meta)[name]` has for this subject."""
  sizes = {'num_frames': meta.num_frames, 'height': meta.height, 'width': meta.width, 'num_mel': meta.num_mel,
           'lip_height': meta.lip_box.height, 'lip_width': meta.lip_box.width,
           'canonical_height': meta.canonical_size[0], 'canonical_width': meta.canonical_size[1]}
  return tuple(sizes[size] if isinstance(size, str) else size for size in array_specs(meta)[name].shape)


def write_meta(folder: os.PathLike | str, meta: SubjectMeta) -> None:
  """Writes meta.json atomically; a folder without it is not a subject, so write it last."""
  record = dataclasses.asdict(meta) | {'lip_box': meta.lip_box._asdict()}
  write_text(pathlib.Path(folder, 'meta.json'), json.dumps(record, indent=1) + '\n')


def read_meta(folder: os.PathLike | str) -> SubjectMeta:
  """Reads meta.json.

  Raises:
    InputError: the folder or its meta.json is missing, unreadable, or of another format version.
  """
  path = pathlib.Path(folder, 'meta.json')
  if not path.is_file():
    raise InputError(f'{folder}: not a finished subject folder (no meta.json); make it with: '
                     f'speech2lip preprocess --video FILE --out {folder}')
  try:
    record = json.loads(path.read_text())
    version = record['format_version']
    if version not in (SOURCELESS_VERSION, FORMAT_VERSION):
      raise InputError(f'{path}: format version {version}, this program reads {SOURCELESS_VERSION} and {FORMAT_VERSION}; '
                       'run speech2lip preprocess again')
    record['lip_box'] = LipBox(**record['lip_box'])
    record['clips'] = tuple(Clip(**clip) for clip in record['clips'])
    if version == FORMAT_VERSION:
      record['sources'] = tuple(Source(**source) for source in record['sources'])
    return SubjectMeta(**record)
  except (KeyError, TypeError, ValueError) as error:
    raise InputError(f'{path}: damaged ({error}); run speech2lip preprocess again') from error


def load_array(folder: os.PathLike | str, name: str, meta: SubjectMeta) -> np.ndarray:
  """Memory-maps one array of a subject, read-only; zeros where it may be absent and is.

  Raises:
    InputError: the file is missing, has another dtype or shape than `meta` says, or holds what is no finite number.
  """
  path = pathlib.Path(folder, f'{name}.npy')
  (dtype, _, may_be_absent), shape = array_specs(meta)[name], expected_shape(name, meta)
  if not path.is_file() and may_be_absent:
    return np.zeros(shape, dtype)
  if not path.is_file():
    raise InputError(f'{path}: missing from the subject folder; run speech2lip preprocess again (finished stages are kept)')
  try:
    array = np.load(path, mmap_mode='r', allow_pickle=False)
  except (ValueError, OSError, EOFError) as error:
    raise InputError(f'{path}: cannot be read ({error}); delete it and run speech2lip preprocess again') from error
  if array.dtype != dtype or array.shape != shape:
    raise InputError(f'{path}: holds {array.dtype} {array.shape}, meta.json says {dtype} {shape}; '
                     'delete it and run speech2lip preprocess again')
  if name in FINITE and not (is_finite := np.isfinite(array).reshape(len(array), -1).all(1)).all():
    raise InputError(f'{path}: row {is_finite.argmin()} holds NaN or infinity; delete it and run speech2lip preprocess again')
  return array


def validate(folder: os.PathLike | str) -> SubjectMeta:
  """Reads meta.json and checks that every file of the subject is there with the shape that it promises.

  Raises:
    InputError: anything is missing or does not fit; the message names the file.
  """
  meta = read_meta(folder)
  for name in array_specs(meta):
    load_array(folder, name, meta)
  if not pathlib.Path(folder, 'audio.wav').is_file():
    raise InputError(f'{pathlib.Path(folder, "audio.wav")}: missing from the subject folder; '
                     'run speech2lip preprocess again (finished stages are kept)')
  return meta
