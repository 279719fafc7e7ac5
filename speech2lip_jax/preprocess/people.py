"""Whose face: where several are seen, one person is followed through each shot, the one that is largest for longest."""
import numpy as np

MAX_LOST_FRAMES = 12  # a face seen again within this many frames near its place is the same person's
MAX_STEP = 0.5  # of the face's size between frames
SAME_PLACE, SAME_SIZE = 1.0, 1.5  # in sizes, as a ratio: what a person may have changed when found again later


def _size(face: np.ndarray) -> float:
  return float(np.ptp(face[:, :2], axis=0).max())


def _follow(faces: list[list[np.ndarray]]) -> list[dict[int, np.ndarray]]:
  """Links faces of successive frames to people: {frame: face} for each."""
  people: list[dict[int, np.ndarray]] = []
  for frame, here in enumerate(faces):
    left = list(here)
    recent = [person for person in people if frame - max(person) <= MAX_LOST_FRAMES]
    for person in sorted(recent, key=lambda person: -len(person)):
      if not left:
        break
      last = person[max(person)][:, :2].mean(0)
      distances = [np.linalg.norm(face[:, :2].mean(0) - last) / _size(face) for face in left]
      nearest = int(np.argmin(distances))
      if distances[nearest] < MAX_STEP:
        person[frame] = left.pop(nearest)
    people.extend({frame: face} for face in left)
  return people


def _presence(person: dict[int, np.ndarray]) -> float:
  """How large for how long: the sum of the face's sizes."""
  return sum(map(_size, person.values()))


def _may_be(person: dict, main: dict) -> bool:
  """Whether `person`, never seen together with `main`, can be the same one."""
  if set(person) & set(main):
    return False
  end = min(main, key=lambda frame: min(abs(frame - other) for other in (min(person), max(person))))
  face, other = main[end], person[min(person, key=lambda frame: abs(frame - end))]
  ratio = _size(face) / _size(other)
  near = float(np.linalg.norm(face[:, :2].mean(0) - other[:, :2].mean(0))) < SAME_PLACE * _size(face)
  return near and 1 / SAME_SIZE < ratio < SAME_SIZE


def choose_person(landmarks: np.ndarray, extra_faces: np.ndarray, extra_frames: np.ndarray,
                  cuts: np.ndarray) -> tuple[np.ndarray, int]:
  """The face of one person a shot.

  Args:
    landmarks: [N, 478, 3], one face of each frame, NaN where there is none.
    extra_faces: [K, 478, 3] the further faces, of frames extra_frames [K].
    cuts: first frames of new shots.

  Returns:
    landmarks [N, 478, 3], NaN where this person is not seen; the number of frames that show others.
  """
  if not len(extra_faces):
    return landmarks, 0
  faces = [[face] if np.isfinite(face[0, 0]) else [] for face in landmarks]
  for face, frame in zip(extra_faces, extra_frames.tolist()):
    faces[frame].append(face)
  chosen, num_with_others = np.full_like(landmarks, np.nan), sum(len(here) > 1 for here in faces)
  for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(landmarks)]):
    persons: list[dict[int, np.ndarray]] = []
    for part in sorted(_follow(faces[start:stop]), key=_presence, reverse=True):
      same = next((person for person in persons if _may_be(part, person)), None)
      if same is None:
        persons.append(part)
      else:
        same |= part
    main = max(persons, key=_presence, default={})
    for frame, face in main.items():
      chosen[start + frame] = face
  return chosen, num_with_others
