"""Where the head is to be: the value of `render --pose` → a wanted pose for every rendered frame.

    still                               all frames at the mean pose of the rendered ones
    offset:yaw=10,pitch=-5,x=0.05       each frame's own pose, and so much more
    sine:yaw=10,period=4                the same, swinging to and fro
    track:SUBJECT or track:SUBJECT/CLIP the recorded head motion of a subject folder about its mean, from this one's mean

Degrees: yaw turns the face to the picture's right, pitch lifts it, roll tilts it clockwise. x (right), y (down) and z (away)
are shares of the picture's width; period is in seconds. Turns are about the head's middle, in the head's own axes.
"""
import math
import os
import pathlib
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, back_and_forth, load_subject
from speech2lip_jax.rendering.head_motion import head_centre

MAX_DEGREES, MAX_SHARE = 15.0, 0.1  # beyond, too much of the head was never seen
TURNS, SHIFTS = ('yaw', 'pitch', 'roll'), ('x', 'y', 'z')
FORMS = "'still', 'offset:yaw=10,x=0.05', 'sine:yaw=10,period=4' or 'track:SUBJECT'"


class PoseSpec(NamedTuple):
  """A parsed --pose. kind: 'still', 'offset', 'sine' or 'track'.

  turn: [3] degrees yaw, pitch, roll. shift: [3] x, y, z in picture widths. period: seconds. track: poses [n, 4, 4]
  float64 observed_from_canonical of the recorded clip, its head's middle [3] and its picture's width over its focal length.
  """
  kind: str
  turn: np.ndarray
  shift: np.ndarray
  period: float
  track: tuple[np.ndarray, np.ndarray, float] | None


def _numbers(text: str, listed: str, names: tuple[str, ...]) -> dict[str, float]:
  values = {}
  for part in listed.split(','):
    name, _, value = part.partition('=')
    try:
      number = float(value)
    except ValueError:
      number = math.nan
    if name not in names or not math.isfinite(number):
      raise InputError(f'--pose={text}: {part!r} is not one of {", ".join(names)} with a number; such as {FORMS}')
    values[name] = number
  return values


def _recorded(text: str, place: str) -> tuple[np.ndarray, np.ndarray, float]:
  """The poses of a subject folder's longest clip, or of the clip that the last part of `place` names."""
  folder, clip_name = pathlib.Path(place), None
  if not (folder / 'meta.json').is_file() and (folder.parent / 'meta.json').is_file():
    folder, clip_name = folder.parent, folder.name
  if not (folder / 'meta.json').is_file():
    raise InputError(f'--pose={text}: {place or "nothing"} is no subject folder; give track:SUBJECT or track:SUBJECT/CLIP')
  subject = load_subject(folder)
  clip = subject.find_clip(clip_name, f'--pose={text}')
  poses = subject.observed_from_canonical[clip.start:clip.stop]
  return poses.astype(np.float64), head_centre(subject), subject.meta.width / subject.meta.focal_px


def parse(text: str) -> PoseSpec:
  """Reads a --pose value.

  Raises:
    InputError: it is none of the four forms, a number is not finite, or the recorded clip is not there.
  """
  kind, _, rest = text.partition(':')
  nothing = np.zeros(3)
  if kind == 'still' and not rest:
    return PoseSpec(kind, nothing, nothing, 1.0, None)
  if kind == 'track':
    return PoseSpec(kind, nothing, nothing, 1.0, _recorded(text, os.path.expanduser(rest)))
  if kind not in ('offset', 'sine'):
    raise InputError(f'--pose={text}: must be {FORMS}')
  values = _numbers(text, rest, TURNS + SHIFTS + (('period',) if kind == 'sine' else ()))
  period = values.get('period', 4.0)
  if period <= 0:
    raise InputError(f'--pose={text}: period={period:g} must be more than 0 seconds')
  pick = lambda names: np.array([values.get(name, 0.0) for name in names])
  return PoseSpec(kind, pick(TURNS), pick(SHIFTS), period, None)


def rotation(degrees: np.ndarray) -> np.ndarray:
  """Rotations [..., 3, 3] in canonical axes (x right, y down, z away) of yaw, pitch, roll [..., 3] degrees."""
  yaw, pitch, roll = np.moveaxis(np.asarray(degrees, np.float64), -1, 0)
  angles = np.stack([-yaw, -pitch, roll], -1)
  return Rotation.from_euler('YXZ', angles.reshape(-1, 3), degrees=True).as_matrix().reshape(*angles.shape[:-1], 3, 3)


def _mean(turns: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  return Rotation.from_matrix(turns).mean().as_matrix(), places.mean(0)


def target_poses(spec: PoseSpec, subject: Subject, frame_ids: np.ndarray) -> np.ndarray:
  """The wanted target_from_canonical [n, 4, 4] float32 of the rendered frames `frame_ids` [n], in playing order."""
  poses, centre = subject.observed_from_canonical[frame_ids].astype(np.float64), head_centre(subject)
  turns, places = poses[:, :3, :3], poses[:, :3, :3] @ centre + poses[:, :3, 3]
  count = len(frame_ids)
  mean_turn, mean_place = _mean(turns, places)
  if spec.kind == 'still':
    turns, places = np.broadcast_to(mean_turn, turns.shape), np.broadcast_to(mean_place, places.shape)
  elif spec.kind == 'track':
    assert spec.track is not None
    recorded, other_centre, other_width = spec.track
    rows = back_and_forth(len(recorded), count)
    other_turns, other_places = recorded[:, :3, :3], recorded[:, :3, :3] @ other_centre + recorded[:, :3, 3]
    other_turn, other_place = _mean(other_turns, other_places)
    turns = mean_turn @ (other_turn.T @ other_turns[rows])
    # A shift is carried over in widths of the picture at the head's distance.
    scale = subject.meta.width / subject.meta.focal_px * mean_place[2] / (other_width * other_place[2])
    places = mean_place + (other_places[rows] - other_place) * scale
  else:
    share = np.ones(count) if spec.kind == 'offset' else np.sin(2 * np.pi * np.arange(count) / (schema.FPS * spec.period))
    turns = turns @ rotation(share[:, None] * spec.turn)
    places = places + share[:, None] * spec.shift * subject.meta.width / subject.meta.focal_px * places[:, 2:]
  targets = np.tile(np.eye(4), (count, 1, 1))
  targets[:, :3, :3] = turns
  targets[:, :3, 3] = places - turns @ centre
  return targets.astype(np.float32)


def warning(subject: Subject, frame_ids: np.ndarray, targets: np.ndarray) -> str | None:
  """One line if a frame's head moves further than what renders well, else None."""
  poses, centre = subject.observed_from_canonical[frame_ids].astype(np.float64), head_centre(subject)
  turns = targets[:, :3, :3].astype(np.float64) @ poses[:, :3, :3].transpose(0, 2, 1)
  degrees = np.degrees(Rotation.from_matrix(turns).magnitude())
  seen = lambda transforms: transforms[:, :3, :3] @ centre + transforms[:, :3, 3]
  on_picture = lambda places: places[:, :2] / np.maximum(places[:, 2:], 1e-3) * subject.meta.focal_px / subject.meta.width
  shares = np.linalg.norm(on_picture(seen(targets)) - on_picture(seen(poses)), axis=-1)
  grown = np.abs(np.maximum(seen(poses)[:, 2], 1e-3) / np.maximum(seen(targets)[:, 2], 1e-3) - 1)
  shares = np.maximum(shares, grown)  # nearer or farther: of the head's size
  if degrees.max() <= MAX_DEGREES + 0.05 and shares.max() <= MAX_SHARE + 5e-4:
    return None
  return (f'--pose moves the head by up to {degrees.max():.1f} degrees and {100 * shares.max():.1f} % (of the picture, or of its '
          f'own size); beyond {MAX_DEGREES:g} degrees or {100 * MAX_SHARE:g} % parts that no frame shows are guessed')
