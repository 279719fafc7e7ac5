"""Face landmarks by MediaPipe's Face Landmarker, one independent detection a frame.

IMAGE mode on purpose: VIDEO mode lags by up to a frame and hides it as smoothness; the tracking smooths instead, with
poses. Landmarks are [478, 3] float32: x, y in pixels of the upright source frame (pixel centres at integers, so
x_norm·W − 0.5), z in the same unit, smaller towards the camera, relative to the head's middle. A frame without a face
is NaN.
"""
import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import urllib.error
import urllib.request
import zipfile

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import open_atomic
from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import face_search, stages, video

VERSION = 3  # of what `detect_segment` stores; part of its fingerprint
MODEL_URL = ('https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/'
             'face_landmarker.task')
MODEL_SHA256 = '64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff'
MODEL_VARIABLE = 'SPEECH2LIP_LANDMARKER'
MAX_FACES = 3
DETECTION_SIDE = 1280  # px; larger frames are shrunk for detection, whose own inputs are 128 and 256 px
SEGMENT_FRAMES = 250  # unit of parallel and of resumed work
THUMBNAIL_SIDE = 32
NUM_PROBES = 24
DOWNLOAD_TIMEOUT_S = 20


@dataclasses.dataclass(frozen=True)
class Segment:
  """Grid frames [start, stop) of one video and where their landmarks go."""
  info: video.VideoInfo
  start: int
  stop: int
  path: pathlib.Path
  mark: str


def find_model(flag: str | None) -> str:
  """Path of the landmark model: --landmarker, else $SPEECH2LIP_LANDMARKER, else the cache, else downloaded into it.

  Raises:
    InputError: the file given is missing or no Face Landmarker model, or there is none and the download fails.
  """
  for source, path in (('--landmarker', flag), (f'${MODEL_VARIABLE}', os.environ.get(MODEL_VARIABLE))):
    if path:
      _check_model(source, path)
      return path
  cache = cached_model()
  if not cache.is_file():
    _download_model(cache)
  _check_model('cached landmark model', str(cache))
  return str(cache)


def model_at_hand(flag: str | None) -> str | None:
  """As `find_model`, without downloading; None where there is no model, or no mediapipe to run it.

  Raises:
    InputError: the file named by --landmarker or $SPEECH2LIP_LANDMARKER is missing or no such model.
  """
  if not (flag or os.environ.get(MODEL_VARIABLE) or cached_model().is_file()):
    return None
  path = find_model(flag)
  return path if importlib.util.find_spec('mediapipe') else None


def cached_model() -> pathlib.Path:
  """Where the downloaded landmark model is kept; it need not be there."""
  return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache', 'speech2lip', 'face_landmarker.task')


def _check_model(source: str, path: str) -> None:
  if not os.path.isfile(path):
    raise InputError(
        f'{source} {path}: no such file; give the path of face_landmarker.task, available from {MODEL_URL}')
  try:
    with zipfile.ZipFile(path) as archive:
      is_model = 'face_landmarks_detector.tflite' in archive.namelist()
  except (OSError, zipfile.BadZipFile):
    is_model = False
  if not is_model:
    raise InputError(
        f'{source} {path}: not a MediaPipe Face Landmarker model; get face_landmarker.task from {MODEL_URL}')


def _download_model(cache: pathlib.Path) -> None:
  """Fetches the model once; a partial or altered download never reaches `cache`."""
  remedy = f'download {MODEL_URL} elsewhere and put it at {cache} or pass it as --landmarker FILE'
  try:
    cache.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(MODEL_URL, timeout=DOWNLOAD_TIMEOUT_S) as response:
      content = response.read()
    digest = hashlib.sha256(content).hexdigest()
    if digest != MODEL_SHA256:
      raise InputError(f'landmark model: the download has sha256 {digest}, expected {MODEL_SHA256}; {remedy}')
    with open_atomic(cache) as file:
      file.write(content)
  except (urllib.error.URLError, OSError) as error:
    raise InputError(
        f'landmark model: not cached and the download failed ({getattr(error, "reason", error)}); {remedy}') from error


def file_digest(path: str) -> str:
  """What says that a model or tracks file is still the same one."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def segments(infos: list[video.VideoInfo], folder: pathlib.Path, digests: list[str]) -> list[Segment]:
  """The units of work of all videos, about `SEGMENT_FRAMES` each; without time stamps a file is one unit.

  Args:
    infos: the videos.
    folder: where results go.
    digests: for each video, of the model or the tracks that its landmarks come from.
  """
  units = []
  for index, (info, digest) in enumerate(zip(infos, digests, strict=True)):
    num_parts = max(1, round(info.num_frames / SEGMENT_FRAMES)) if info.has_timestamps else 1
    bounds = np.linspace(0, info.num_frames, num_parts + 1).round().astype(int).tolist()
    for start, stop in zip(bounds[:-1], bounds[1:]):
      mark = stages.fingerprint(VERSION, info.identity, start, stop, digest)
      units.append(Segment(info, start, stop, folder / f'{index:04d}_{start:06d}.npz', mark))
  return units


def cut_off_usage_log() -> None:
  """Keeps MediaPipe in this process from sending its usage log to play.googleapis.com, or looking that name up.

  It has no switch for it. It sends through libcurl, which reads these variables at each request: through a proxy of no known kind
  it asks for no name and sends nothing, in silence. What this process itself is to fetch by https, it has to fetch before.
  """
  os.environ.update(https_proxy='none://', no_proxy='localhost')  # an exception for all hosts, or $NO_PROXY, would undo it


class Detector:
  """MediaPipe's Face Landmarker; a context manager, since it must be closed."""

  def __init__(self, model_path: str):
    cut_off_usage_log()
    import mediapipe  # heavy: only where faces are looked for
    from mediapipe.tasks.python import BaseOptions, vision
    self._mediapipe = mediapipe
    options = vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_path=str(model_path)),
                                           running_mode=vision.RunningMode.IMAGE, num_faces=MAX_FACES)
    self._landmarker = vision.FaceLandmarker.create_from_options(options)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self._landmarker.close()

  def faces(self, frame: np.ndarray) -> np.ndarray:
    """[num faces, 478, 3] float64, normalised: x, z by the width, y by the height of `frame` [H, W, 3] uint8 RGB."""
    image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=frame)
    found = self._landmarker.detect(image).face_landmarks
    faces = [[(point.x, point.y, point.z) for point in face] for face in found]
    return np.array(faces, np.float64).reshape(-1, schema.NUM_LANDMARKS, 3)


def to_pixels(face: np.ndarray, width: int, height: int) -> np.ndarray:
  """Normalised landmarks [..., 478, 3] → pixels of a frame of this size, float32."""
  return (face * (width, height, width) - (0.5, 0.5, 0.0)).astype(np.float32)


def thumbnail(frame: np.ndarray) -> np.ndarray:
  """[32, 32] uint8 grey of a frame [H, W, 3] uint8 RGB."""
  import cv2
  grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
  return cv2.resize(grey, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)


def detect_segment(segment: Segment, model_path: str) -> int:
  """Finds the faces of one segment and stores them.

  Writes landmarks [n, 478, 3] float32 of each frame's largest face (NaN: none), extra_faces [K, 478, 3] float32 of
  further faces in frames extra_frames [K] int, and thumbnails [n, 32, 32] uint8 grey (for finding cuts).

  Returns:
    The number of frames done.
  """
  info = segment.info
  landmarks = np.full((segment.stop - segment.start, schema.NUM_LANDMARKS, 3), np.nan, np.float32)
  thumbnails = np.zeros((len(landmarks), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
  extra_faces, extra_frames, shown, others = [], [], None, []
  with Detector(model_path) as detector:
    search = face_search.FaceSearch(detector)
    for row, (_, frame) in enumerate(video.read_frames(info, segment.start, segment.stop, DETECTION_SIDE)):
      if frame is shown:  # a slow source repeats its pictures
        landmarks[row], thumbnails[row] = landmarks[row - 1], thumbnails[row - 1]
      else:
        shown = frame
        faces = to_pixels(search.faces(frame), info.width, info.height)
        others = list(faces[1:])
        landmarks[row] = faces[0] if len(faces) else np.nan
        thumbnails[row] = thumbnail(frame)
      extra_faces.extend(others)
      extra_frames.extend([row] * len(others))
  stages.save(segment.path, segment.mark, landmarks=landmarks, thumbnails=thumbnails,
              extra_faces=np.array(extra_faces, np.float32).reshape(-1, schema.NUM_LANDMARKS, 3),
              extra_frames=np.array(extra_frames, int))
  return len(landmarks)


def count_probe_faces(infos: list[video.VideoInfo], model_path: str) -> int:
  """1 if a face is in any of up to `NUM_PROBES` frames spread over the videos (it stops at the first), else 0."""
  spread = np.linspace(0, len(infos) - 1, min(len(infos), NUM_PROBES)).round().astype(int)
  chosen = [infos[index] for index in np.unique(spread)]
  per_video = max(1, NUM_PROBES // len(chosen))
  with Detector(model_path) as detector:
    for info in chosen:
      for grid in np.linspace(0, info.num_frames - 1, per_video + 2).round().astype(int)[1:-1].tolist():
        for _, frame in video.read_frames(info, grid, grid + 1, DETECTION_SIDE):
          if len(face_search.FaceSearch(detector).faces(frame)):
            return 1
  return 0
