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
s times the focal length, and the lip box is in its pixels. meta.json is written last, with the size and checksum of every file
and a checksum of its own; `validate` looks at sizes, formats and values, and at the smaller files' checksums, `damage` at all.
A source's picture is upright with square pixels, and its square begins at the outer edge of a pixel: frame pixel x lies at
left + (x + 0.5)·side/W − 0.5. Arrays are memory-mapped by `load_array`.
"""
import dataclasses
import json
import math
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.io import wavfile

from speech2lip_jax.common import checksums, npz
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
SOUND = 'audio.wav'
PIXELS = ('frames', 'rgb_lip_canonical')  # any value of theirs may be
HEARD_FRAMES = 250  # whose mel is compared with the sound where that is too large for a checksum, or has none
LOOKED_AT = 2**24  # bytes whose checksums opening a subject looks at: about 20 ms
REMEDY = 'run the command that made this subject again (speech2lip preprocess or convert)'


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

  sources: the videos, None in format 1. files: {name: {'bytes': size, 'blake2b': checksum}}; None in folders of before.
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
  files: dict[str, dict[str, Any]] | None = None

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
  """Writes meta.json atomically, with the checksums of the files; a folder without it is not a subject, so write it last."""
  folder = pathlib.Path(folder)
  paths = [path for name in file_names(meta) if (path := folder / name).is_file()]
  files = {path.name: {'bytes': path.stat().st_size, 'blake2b': checksums.of_file(path)} for path in paths}
  record = dataclasses.asdict(meta) | {'lip_box': meta.lip_box._asdict(), 'files': files}
  write_text(folder / 'meta.json', json.dumps(checksums.sealed(record), indent=1) + '\n')


def file_names(meta: SubjectMeta) -> list[str]:
  """The files of a subject beside meta.json."""
  return [*(f'{name}.npy' for name in array_specs(meta)), SOUND]


def identity(meta: SubjectMeta) -> str | None:
  """A checksum of all that the files hold: subjects with the same one are the same. None where no checksums are recorded."""
  return None if meta.files is None else checksums.of_record({name: facts['blake2b'] for name, facts in meta.files.items()})


def read_meta(folder: os.PathLike | str) -> SubjectMeta:
  """Reads meta.json.

  Raises:
    InputError: the folder or its meta.json is missing, unreadable, of another format version, or says what cannot be.
  """
  path = pathlib.Path(folder, 'meta.json')
  if not path.is_file():
    raise InputError(f'{folder}: not a finished subject folder (no meta.json); make it with: '
                     f'speech2lip preprocess --video FILE --out {folder}; if it has been moved, give its new place')
  try:
    record = json.loads(path.read_text())
    version = record['format_version']
    if version not in (SOURCELESS_VERSION, FORMAT_VERSION):
      raise InputError(f'{path}: format version {version}, this program reads {SOURCELESS_VERSION} and {FORMAT_VERSION}; '
                       'run speech2lip preprocess again')
    record = checksums.unsealed(record)
    record['lip_box'] = LipBox(**record['lip_box'])
    record['clips'] = tuple(Clip(**clip) for clip in record['clips'])
    if version == FORMAT_VERSION:
      record['sources'] = tuple(Source(**source) for source in record['sources'])
    meta = SubjectMeta(**record)
    for problem in _meta_problems(meta):
      raise ValueError(problem)
    return meta
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror})') from error
  except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
    raise InputError(f'{path}: damaged ({" ".join(str(error).split())}); run speech2lip preprocess again') from error


def _is_whole(value: Any, low: int = 0) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**31


def _is_real(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _meta_problems(meta: SubjectMeta) -> Iterator[str]:
  """What meta.json says that cannot be."""
  for name in ('height', 'width', 'num_frames', 'num_mel'):
    if not _is_whole(value := getattr(meta, name), 1):
      yield f'{name} is {value!r}, must be a whole number above 0'
  if not _is_real(meta.focal_px) or meta.focal_px <= 0:
    yield f'focal_px is {meta.focal_px!r}, must be above 0'
  if not _is_real(meta.canonical_scale) or not 0 < meta.canonical_scale <= 100:
    yield f'canonical_scale is {meta.canonical_scale!r}, must be above 0'
  if not _is_whole(meta.canonical_frame) or meta.canonical_frame >= meta.num_frames:
    yield f'canonical_frame is {meta.canonical_frame!r}, must be one of the {meta.num_frames} frames'
  if not isinstance(meta.report, dict) or not isinstance(meta.files, (dict, type(None))):
    yield 'report and files must be records'
  if meta.format_version == SOURCELESS_VERSION and meta.sources is not None:
    yield 'format 1 has no sources'
  box, size = meta.lip_box, meta.canonical_size
  if not (all(_is_whole(value) for value in box) and box.height and box.width and box.top + box.height <= size[0]
          and box.left + box.width <= size[1]):
    yield f'the lip box {tuple(box)} lies outside of the canonical image of {size[0]} × {size[1]}'
  frame, step = 0, 0
  if not meta.clips:
    yield 'has no clips'
  for clip in meta.clips:
    if not (isinstance(clip.name, str) and isinstance(clip.source, str)):
      yield f'clip {clip.name!r}: name and source must be text'
    if (clip.start, clip.mel_start) != (frame, step) or not (_is_whole(clip.num_frames, 1) and _is_whole(clip.num_mel, 1)):
      yield f'clip {clip.name!r} does not begin where the one before ends'
    if clip.source_index not in ([None] if meta.sources is None else range(len(meta.sources))) or clip.source_index is True:
      yield f'clip {clip.name!r}: source_index is {clip.source_index!r}'
    frame, step = frame + clip.num_frames, step + clip.num_mel
  if (frame, step) != (meta.num_frames, meta.num_mel):
    yield f'its clips have {frame} frames and {step} mel steps, it says {meta.num_frames} and {meta.num_mel}'
  for source in meta.sources or ():
    numbers = (source.width, source.height, source.fps, source.duration_s, source.pixel_aspect)
    if not (isinstance(source.path, str) and all(_is_real(value) and value >= 0 for value in numbers) and source.width
            and source.height and source.rotation in (0, 90, 180, 270)):
      yield f'source {source.path!r} has sizes, rate or rotation that cannot be'
  if meta.files is not None:
    needed = {f'{name}.npy' for name, spec in array_specs(meta).items() if not spec.may_be_absent} | {SOUND}
    if not needed <= set(meta.files) <= set(file_names(meta)) or not all(
        isinstance(facts, dict) and set(facts) == {'bytes', 'blake2b'} and _is_whole_size(facts['bytes'])
        and isinstance(facts['blake2b'], str) for facts in meta.files.values()):
      yield 'files must have size and checksum of every file of the subject'


def _is_whole_size(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def load_array(folder: os.PathLike | str, name: str, meta: SubjectMeta) -> np.ndarray:
  """Memory-maps one array of a subject, read-only; zeros where it may be absent and is.

  Raises:
    InputError: the file is missing or has another dtype, shape or layout than `meta` says.
  """
  path = pathlib.Path(folder, f'{name}.npy')
  (dtype, _, may_be_absent), shape = array_specs(meta)[name], expected_shape(name, meta)
  if not path.is_file() and may_be_absent and path.name not in (meta.files or {}):
    return np.zeros(shape, dtype)
  if not path.is_file():
    raise InputError(f'{path}: missing from the subject folder; {REMEDY}')
  try:
    array = npz.open_npy(path)
  except ValueError as error:
    raise InputError(f'{path}: cannot be read ({" ".join(str(error).split())[:200]}); {REMEDY}') from error
  if array.dtype != dtype or array.shape != shape:
    raise InputError(f'{path}: holds {array.dtype} {array.shape}, meta.json says {dtype} {shape}; {REMEDY}')
  if name in PIXELS and not array.flags.c_contiguous:  # others are written in either order
    raise InputError(f'{path}: its columns come before its rows; {REMEDY}')
  return array


def load_sound(folder: os.PathLike | str, meta: SubjectMeta) -> np.ndarray:
  """Memory-maps a subject's sound, read-only: [at least num_frames · 640] int16.

  Raises:
    InputError: the file is missing, no 16 kHz mono sound of 16 bits, or shorter than the frames.
  """
  path = pathlib.Path(folder, SOUND)
  if not path.is_file():
    raise InputError(f'{path}: missing from the subject folder; {REMEDY}')
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # of chunks that are not known
      rate, samples = wavfile.read(path, mmap=True)
  except Exception as error:  # SciPy looks at few of the ways in which a header can be wrong
    raise InputError(f'{path}: cannot be read ({" ".join(str(error).split())[:200]}); {REMEDY}') from error
  wanted = meta.num_frames * SAMPLES_PER_FRAME
  if rate != SAMPLE_RATE or samples.dtype != np.int16 or samples.ndim != 1 or len(samples) < wanted:
    raise InputError(f'{path}: holds {samples.dtype} {samples.shape} at {rate} Hz, must be int16 ({wanted},) at {SAMPLE_RATE} Hz; '
                     + REMEDY)
  return samples


def _value_problems(name: str, array: np.ndarray, meta: SubjectMeta) -> str | None:
  """What the values of an array cannot be, in words."""
  has_none = name == 'landmarks' and np.isnan(array).all()  # as imported without a landmark model
  if array.dtype.kind == 'f' and not has_none and not np.isfinite(array).all():
    return f'row {int(np.argwhere(~np.isfinite(array))[0][0])} holds NaN or infinity'
  if name == 'observed_from_head':
    turn, move = array[:, :3, :3].astype(np.float64), array[:, :3, 3]
    error = np.abs(turn @ turn.swapaxes(1, 2) - np.eye(3)).max((1, 2))
    bad = (error > 1e-2) | (np.linalg.det(turn) < 0) | (move[:, 2] <= 0) | (array[:, 3] != (0, 0, 0, 1)).any(1)
    if bad.any():
      return f'the pose of frame {int(bad.argmax())} is no rotation and place before the camera'
  if name == 'depth_canonical' and not (array > 0).all():
    return 'a depth is not above 0'
  if name in ('mask_head_canonical', 'mask_face_canonical') and (array.max() > 1 or not array.any()):
    return 'must be 0 and 1, and not 0 everywhere'
  if name == 'mel' and np.abs(array).max() > 4.001:
    return 'must be within −4 … 4'
  if name == 'crop' and not (array[:, 2] > 0).all():
    return 'a square has no side'
  if name in ('source_picture', 'source_time') and (array < 0).any():
    return 'must not be below 0'
  if name == 'landmarks' and np.abs(array).max() > 100 * max(meta.height, meta.width):
    return 'a landmark lies far outside of its frame'
  return None


def _hears(samples: np.ndarray, mel: np.ndarray, meta: SubjectMeta) -> bool:
  """Whether mel and sound are of the same speech, in the first HEARD_FRAMES of the longest clip. True: too even to tell."""
  from speech2lip_jax.data.mel import log_mel  # it needs this module's numbers
  clip = max(meta.clips, key=lambda clip: clip.num_frames)
  first, count = clip.start * SAMPLES_PER_FRAME, min(clip.num_frames, HEARD_FRAMES) * SAMPLES_PER_FRAME
  heard = log_mel(np.array(samples[first:first + count]))
  heard, kept = heard[:-2], mel[clip.mel_start:clip.mel_start + clip.num_mel][:len(heard) - 2]  # what the cut does not reach
  if heard.shape != kept.shape or heard.std() < 0.1 or kept.std() < 0.1:
    return heard.shape == kept.shape
  return bool(np.corrcoef(heard.reshape(-1), kept.reshape(-1))[0, 1] > 0.9)


def validate(folder: os.PathLike | str) -> SubjectMeta:
  """Reads meta.json and checks that every file of the subject is there and what it promises.

  Sizes, formats and values are looked at of all files but the pixels; checksums of the smallest ones, LOOKED_AT bytes in all.

  Raises:
    InputError: anything is missing or does not fit; the message names the file.
  """
  meta, folder = read_meta(folder), pathlib.Path(folder)
  arrays = {name: load_array(folder, name, meta) for name in array_specs(meta)}
  samples, seen = load_sound(folder, meta), set()
  if meta.files is not None:
    left = LOOKED_AT
    for name, facts in sorted(meta.files.items(), key=lambda item: item[1]['bytes']):
      size = (folder / name).stat().st_size
      if size != facts['bytes']:
        raise InputError(f'{folder / name}: holds {size} bytes, {facts["bytes"]} were written; {REMEDY}')
      left -= size
      if left >= 0:
        seen.add(name)
        _check_file(folder / name, facts)
  for name, array in arrays.items():
    if name not in PIXELS and (problem := _value_problems(name, array, meta)):
      raise InputError(f'{folder / name}.npy: {problem}; {REMEDY}')
  if SOUND not in seen and not _hears(samples, arrays['mel'], meta):
    raise InputError(f'{folder / SOUND}: is not the sound that mel.npy was made of; {REMEDY}')
  return meta


def _check_file(path: pathlib.Path, facts: dict[str, Any]) -> None:
  if checksums.of_file(path) != facts['blake2b']:
    raise InputError(f'{path}: damaged, its checksum is not the one in meta.json; {REMEDY}')


def damage(folder: os.PathLike | str) -> tuple[list[str], SubjectMeta | None]:
  """All that is wrong with a subject, every byte of its files read: lines, and what meta.json says (None where it is damaged)."""
  try:
    meta = read_meta(folder)
  except InputError as error:
    return [str(error)], None
  lines = []
  for name, facts in (meta.files or {}).items():
    path = pathlib.Path(folder, name)
    try:
      if path.is_file():  # else `validate` says so
        _check_file(path, facts)
    except InputError as error:
      lines.append(str(error))
  try:
    validate(folder)
  except InputError as error:
    if str(error) not in lines:
      lines.append(str(error))
  return lines, meta
