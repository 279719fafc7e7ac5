"""From what was found in one video to its clips: runs of frames with a face, without a cut inside.

A short loss of the face is filled by interpolation and flagged; a longer one, and what lies before the first and
after the last face, is cut out with its sound, so that pictures and sound stay together. Frame numbers are grid
frames of the video (25 fps).
"""
import dataclasses

import numpy as np

from speech2lip_jax.data import schema

MAX_FILLED_FRAMES = round(0.2 * schema.FPS)
MIN_RUN_FRAMES = 13  # 0.5 s
CHUNK = 1000  # frames looked at at once
CUT_NEIGHBOURS = 3  # frames on either side that a cut must stand out from
CUT_CONTRAST = 4.0  # a cut changes the picture this many times more than any neighbouring step
MIN_CUT_GREY = 3.0  # mean change of the thumbnail, grey levels
MIN_CUT_FACE = 0.03  # median landmark step, in face heights


@dataclasses.dataclass(frozen=True)
class Run:
  """Frames [start, stop) of a video that follow each other in time; is_interpolated: [stop − start] bool."""
  start: int
  stop: int
  is_interpolated: np.ndarray


def _spikes(steps: np.ndarray, floor: float) -> np.ndarray:
  """Which of the steps [n] exceed `floor` and stand out from their neighbours; NaN counts as no step."""
  steps = np.nan_to_num(steps, nan=0.0)
  padded = np.pad(steps, CUT_NEIGHBOURS)
  windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * CUT_NEIGHBOURS + 1).copy()
  windows[:, CUT_NEIGHBOURS] = 0.0
  return (steps > floor) & (steps > CUT_CONTRAST * windows.max(axis=1))


def find_cuts(landmarks: np.ndarray | None, thumbnails: np.ndarray) -> np.ndarray:
  """Frames that begin a new shot: the picture or the face jumps there, once, between quiet neighbours.

  Args:
    landmarks: [N, 478, ≥2] float32 pixels, NaN where no face was found; None to look at the pictures alone.
    thumbnails: [N, h, w] uint8 grey.

  Returns:
    [number of cuts] int, each the first frame after a cut.
  """
  if len(thumbnails) < 2:
    return np.zeros(0, int)
  parts = [slice(start, start + CHUNK + 1) for start in range(0, len(thumbnails) - 1, CHUNK)]
  grey_steps = np.concatenate([np.abs(np.diff(thumbnails[part].astype(np.float32), axis=0)).mean(axis=(1, 2)) for part in parts])
  spikes = _spikes(grey_steps, MIN_CUT_GREY)
  if landmarks is not None:
    face_steps = np.concatenate([np.linalg.norm(np.median(np.diff(landmarks[part, :, :2], axis=0), axis=1), axis=-1)
                                 for part in parts])
    heights = np.concatenate([np.ptp(landmarks[start:start + CHUNK, :, 1], axis=1) for start in range(0, len(landmarks), CHUNK)])
    has_face = np.isfinite(landmarks[:, 0, 0])
    spikes |= _spikes(face_steps / (np.median(heights[has_face]) if has_face.any() else 1.0), MIN_CUT_FACE)
  return np.flatnonzero(spikes) + 1


def find_runs(has_face: np.ndarray, cuts: np.ndarray) -> tuple[list[Run], list[dict]]:
  """Splits a video at cuts and at losses of the face longer than `MAX_FILLED_FRAMES`.

  Args:
    has_face: [N] bool.
    cuts: first frames of new shots.

  Returns:
    The runs in order, and what happened as records {event, start, stop} (event: cut, filled, no face, too short).
  """
  events = [{'event': 'cut', 'start': int(cut), 'stop': int(cut)} for cut in cuts]
  bounds = [0, *[int(cut) for cut in cuts], len(has_face)]
  runs = []
  for shot_start, shot_stop in zip(bounds[:-1], bounds[1:]):
    found = np.flatnonzero(has_face[shot_start:shot_stop]) + shot_start
    if not len(found):
      events.append({'event': 'no face', 'start': shot_start, 'stop': shot_stop})
      continue
    holes = np.flatnonzero(np.diff(found) - 1 > MAX_FILLED_FRAMES)
    starts = [found[0], *found[holes + 1]]
    stops = [*(found[holes] + 1), found[-1] + 1]
    for lost_start, lost_stop in zip([shot_start, *stops], [*starts, shot_stop]):
      if lost_stop > lost_start:
        events.append({'event': 'no face', 'start': int(lost_start), 'stop': int(lost_stop)})
    for start, stop in zip(map(int, starts), map(int, stops)):
      if stop - start < MIN_RUN_FRAMES:
        events.append({'event': 'too short', 'start': start, 'stop': stop})
        continue
      run = Run(start, stop, ~has_face[start:stop])
      edges = np.flatnonzero(np.diff(np.pad(run.is_interpolated.astype(int), 1)))
      for first, last in edges.reshape(-1, 2).tolist():
        events.append({'event': 'filled', 'start': start + first, 'stop': start + last})
      runs.append(run)
  return runs, sorted(events, key=lambda event: event['start'])


def fill(landmarks: np.ndarray, is_interpolated: np.ndarray) -> np.ndarray:
  """Landmarks [n, ...] with the flagged frames replaced by linear interpolation in time between their neighbours."""
  filled = landmarks.copy()
  if is_interpolated.any():
    known, rows = np.flatnonzero(~is_interpolated), np.flatnonzero(is_interpolated)
    after = np.searchsorted(known, rows)
    before, after = known[np.maximum(after - 1, 0)], known[np.minimum(after, len(known) - 1)]
    share = ((rows - before) / np.maximum(after - before, 1)).reshape(-1, *[1] * (landmarks.ndim - 1))
    filled[rows] = (1 - share) * landmarks[before] + share * landmarks[after]
  return filled


def describe(events: list[dict], video_name: str) -> list[str]:
  """One line for each event of a video, in seconds."""
  texts = {'cut': 'cut to another shot at {start:.2f} s', 'filled': 'face lost {start:.2f}–{stop:.2f} s: interpolated',
           'no face': 'no face {start:.2f}–{stop:.2f} s: cut out with its sound',
           'too short': 'only {start:.2f}–{stop:.2f} s between losses or cuts: left out'}
  return [
      f'{video_name}: ' +
      texts[event['event']].format(start=event['start'] / schema.FPS, stop=event['stop'] / schema.FPS)
      for event in events
  ]
