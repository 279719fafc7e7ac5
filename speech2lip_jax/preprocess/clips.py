"""The clips of a subject: what is kept of each video, and the frames and sound that belong to it."""
import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import open_atomic
from speech2lip_jax.data import mel, schema
from speech2lip_jax.ops.boxes import LipBox
from speech2lip_jax.preprocess import audio, crop, gaps, people, projection, stages, video

PART_FRAMES = 500  # unit of parallel and of resumed work
MAX_WITH_OTHERS = 0.01  # of a video's frames; fewer are a detector's ghosts


@dataclasses.dataclass(frozen=True)
class PlannedClip:
  """Grid frames [start, stop) of a video; first_frame: id of the first one in the subject."""
  name: str
  info: video.VideoInfo
  crop: crop.Crop
  start: int
  stop: int
  first_frame: int

  @property
  def num_frames(self) -> int:
    return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class Plan:
  """All clips, landmarks [N, 478, 3] float32 in crop pixels, is_interpolated [N] bool, and what there is to report."""
  clips: list[PlannedClip]
  landmarks: np.ndarray
  is_interpolated: np.ndarray
  crop_report: dict
  events: dict[str, list[dict]]
  notes: list[str]

  @property
  def num_frames(self) -> int:
    return len(self.landmarks)

  @property
  def largest_crop(self) -> crop.Crop:
    return max((clip.crop for clip in self.clips), key=lambda window: window.side)


@dataclasses.dataclass(frozen=True)
class FramePart:
  """Grid frames `wanted` of a video, which become frames first_frame … of the subject. crop: of them alone."""
  info: video.VideoInfo
  crop: crop.Crop
  wanted: np.ndarray
  first_frame: int
  marker: pathlib.Path
  mark: str

  def read(self, size: int) -> Iterator[video.Shown]:
    """`crop.read_crops` of them, of `size` pixels a side."""
    return crop.read_crops(self.info, self.wanted, self.crop.squares, size)


def _read_landmarks(segments) -> tuple[np.ndarray, np.ndarray, int]:
  """One person's landmarks [N, 478, 3], thumbnails [N, 32, 32], and how many frames show others, of one video."""
  parts = [stages.load(segment.path) for segment in segments]
  found, thumbnails, extra_faces = [np.concatenate([part[name] for part in parts])
                                    for name in ('landmarks', 'thumbnails', 'extra_faces')]
  extra_frames = np.concatenate([part['extra_frames'] + segment.start for part, segment in zip(parts, segments)])
  cuts = gaps.find_cuts(None, thumbnails)
  found, num_with_others = people.choose_person(found, extra_faces, extra_frames, cuts)
  return found, thumbnails, num_with_others


@dataclasses.dataclass(frozen=True)
class LipView:
  """What canonical lips are read with. depth: [S, S] float32 D_c; focal_px: of the canonical image."""
  box: LipBox
  depth: np.ndarray
  focal_px: float


def plan(segments, infos: list[video.VideoInfo], size: int | None) -> Plan:
  """Reads the landmarks of all segments and decides on clips, crops and, where `size` is None, the frames' size.

  Raises:
    InputError: nothing is left.
  """
  clips, kept, notes, events = [], [], [], {}
  for index, info in enumerate(infos):
    found, thumbnails, num_with_others = _read_landmarks([segment for segment in segments if segment.info == info])
    if num_with_others > MAX_WITH_OTHERS * len(found):
      notes.append(f'{info.name}: more than one face in {num_with_others / schema.FPS:.1f} s of it; the largest person is '
                   'followed')
    cuts = gaps.find_cuts(found, thumbnails)
    runs, happened = gaps.find_runs(np.isfinite(found[:, 0, 0]), cuts)
    notes.extend(gaps.describe(happened, info.name))
    if happened:
      events[f'{index:04d} {info.name}'] = happened
    if runs:
      kept.append((info, runs, [gaps.fill(found[run.start:run.stop], run.is_interpolated) for run in runs]))
    else:
      notes.append(f'{info.name}: nothing usable, left out')
  if not kept:
    raise InputError(
        f'{infos[0].path}: no run of {gaps.MIN_RUN_FRAMES} frames with a face in this or any other video given; '
        'pass videos that show one face, large and from the front')
  ways = [[crop.Way(run.start, face) for run, face in zip(runs, faces)] for _, runs, faces in kept]
  crops, report = crop.choose_crops([info for info, _, _ in kept], ways, size)
  notes.extend(f'{name}: the face wanders; its square follows it' for name in report['follows_face'])
  notes.extend(f'{name}: the face leaves its square in some frames' for name in report['face_leaves_crop'])
  landmarks: list[np.ndarray] = []
  is_interpolated: list[np.ndarray] = []
  names: set[str] = set()
  for (info, runs, faces), windows in zip(kept, crops):
    for number, (run, face, window) in enumerate(zip(runs, faces, windows)):
      name = info.name if len(runs) == 1 else f'{info.name}_{number + 1:02d}'
      while name in names:  # videos of one name from several folders
        name += 'x'
      names.add(name)
      clips.append(PlannedClip(name, info, window, run.start, run.stop, sum(len(part) for part in landmarks)))
      landmarks.append(window.landmarks(face))
      is_interpolated.append(run.is_interpolated)
  return Plan(clips, np.concatenate(landmarks), np.concatenate(is_interpolated), report, events, notes)


def frame_parts(chosen: Plan, folder: pathlib.Path, mark: str) -> list[FramePart]:
  """The units of work of reading all frames; `folder` takes their markers."""
  parts = []
  for index, clip in enumerate(chosen.clips):
    for start in range(clip.start, clip.stop, PART_FRAMES):
      wanted = np.arange(start, min(start + PART_FRAMES, clip.stop))
      rows = wanted - clip.start
      own = dataclasses.replace(clip.crop, corners=clip.crop.corners[rows])
      marker = folder / f'{index:04d}_{start:06d}.npz'
      parts.append(FramePart(clip.info, own, wanted, clip.first_frame + int(rows[0]), marker, mark))
  return parts


def write_frames(part: FramePart, path: pathlib.Path) -> int:
  """Decodes, crops and stores one part in the memory-mapped array at `path`; returns its number of frames.

  Its marker holds time_s and order [n] of the pictures shown, as `video.Shown` has them.
  """
  frames = np.lib.format.open_memmap(path, 'r+')
  times, orders = np.zeros(len(part.wanted)), np.zeros(len(part.wanted), int)
  for row, shown in enumerate(part.read(part.crop.size)):
    frames[part.first_frame + row], times[row], orders[row] = shown.image, shown.time_s, shown.order
  frames.flush()
  stages.save(part.marker, part.mark, time_s=times, order=orders)
  return len(part.wanted)


def write_origin(out: pathlib.Path, chosen: Plan, parts: list[FramePart]) -> None:
  """Writes crop.npy, source_picture.npy and source_time.npy; parts: those of `frame_parts`, all done."""
  shown = [(record['time_s'], record['order']) for record in (stages.load(part.marker) for part in parts)]
  numbers = [np.zeros(0, np.int32)] * len(parts)
  for info in {part.info: None for part in parts}:
    own = [index for index, part in enumerate(parts) if part.info == info]
    for index, rows in zip(own, video.picture_numbers(info, [shown[index] for index in own])):
      numbers[index] = rows
  stages.save_array(out / 'crop.npy', np.concatenate([clip.crop.squares for clip in chosen.clips]))
  stages.save_array(out / 'source_picture.npy', np.concatenate(numbers))
  stages.save_array(out / 'source_time.npy', np.concatenate([times for times, _ in shown]))


def write_lips(part: FramePart, path: pathlib.Path, view: LipView, moves: np.ndarray) -> int:
  """As `write_frames`, the canonical lips of one part, read from the source's own pixels.

  Args:
    moves: [n, 4, 4] observed_from_canonical of the part's frames.
  """
  lips = np.lib.format.open_memmap(path, 'r+')
  canonical_size = len(view.depth)
  size = min(part.crop.side, canonical_size)  # never enlarged before it is read
  scale = canonical_size / size
  for row, (shown, move) in enumerate(zip(part.read(size), moves)):
    lips[part.first_frame + row] = projection.read_lips(shown.image, view.box, view.depth, move, view.focal_px / scale, scale)
  lips.flush()
  stages.save(part.marker, part.mark)
  return len(part.wanted)


def write_sound(out: pathlib.Path, chosen: Plan) -> list[int]:
  """Writes audio.wav and mel.npy; returns the number of mel steps of each clip."""
  import scipy.io.wavfile
  sounds, mels, read = [], [], None
  for clip in chosen.clips:
    if read is None or read[0] != clip.info:
      read = clip.info, audio.read_sound(clip.info)
    sound = read[1][clip.start * schema.SAMPLES_PER_FRAME:clip.stop * schema.SAMPLES_PER_FRAME]
    sounds.append(np.clip(np.rint(sound * 32767), -32768, 32767).astype(np.int16))
    mels.append(mel.log_mel(sound))
  stages.save_array(out / 'mel.npy', np.concatenate(mels).astype(np.float32))
  with open_atomic(out / 'audio.wav') as file:
    scipy.io.wavfile.write(file, schema.SAMPLE_RATE, np.concatenate(sounds))
  return [len(steps) for steps in mels]


def records(chosen: Plan, infos: list[video.VideoInfo], num_mels: list[int]) -> tuple[schema.Clip, ...]:
  """The clips as meta.json holds them; infos: all videos."""
  mel_starts = np.cumsum([0, *num_mels]).tolist()
  return tuple(schema.Clip(clip.name, clip.info.path, clip.first_frame, clip.num_frames, mel_start, num_mel,
                           infos.index(clip.info))
               for clip, mel_start, num_mel in zip(chosen.clips, mel_starts, num_mels))
