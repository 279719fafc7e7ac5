"""How well lips keep time with speech: scores of one expert over runs of consecutive frames of a subject."""
import dataclasses

import numpy as np

from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject, runs_of
from speech2lip_jax.data.voice_activity import speech_frames
from speech2lip_jax.metrics import sync
from speech2lip_jax.sync.expert import Expert


def subject_activity(subject: Subject, frame_ids: np.ndarray) -> np.ndarray:
  """1 where a frame is spoken, 0 where not, [n] float32, found in the subject's own sound clip by clip."""
  activity = np.zeros(len(frame_ids), np.float32)
  for clip, rows in subject.by_clip(frame_ids):
    spoken = speech_frames(subject.sound[clip.start:clip.stop].reshape(-1), clip.num_frames)
    activity[rows] = spoken[frame_ids[rows] - clip.start]
  return activity


@dataclasses.dataclass(frozen=True)
class SyncScores:
  """distances: [windows, 31], see `metrics.sync.offset_distances`; speech_share: [windows] of the 1 s window's frames that are
  speech, 0 … 1; acc5: over num_acc5 windows, see `metrics.sync.window_accuracy`."""
  distances: np.ndarray
  speech_share: np.ndarray
  acc5: float
  num_acc5: int

  def metrics(self) -> dict[str, float]:
    """sync_conf, sync_dist, sync_conf0, sync_acc5, sync_within_one, the last also over windows at least half speech (…_speech)."""
    spoken = self.distances[self.speech_share >= 0.5]
    return sync.confidences(self.distances) | {'sync_acc5': self.acc5, 'sync_within_one': sync.within_one(self.distances),
                                               'sync_within_one_speech': sync.within_one(spoken),
                                               'num_speech_windows': len(spoken)}


def sum_scores(scores: list[SyncScores]) -> SyncScores:
  """The scores of several runs as one."""
  known = [score for score in scores if score.num_acc5]
  acc5 = np.average([s.acc5 for s in known], weights=[s.num_acc5 for s in known]) if known else float('nan')
  return SyncScores(np.concatenate([s.distances for s in scores]), np.concatenate([s.speech_share for s in scores]),
                    float(acc5), sum(s.num_acc5 for s in known))


def score_lips(expert: Expert, subject: Subject, frame_ids: np.ndarray, rgb_lip: np.ndarray, activity: np.ndarray) -> SyncScores:
  """How well lips keep time with the subject's own speech.

  Args:
    expert: one that was not trained on these frames and that nothing was trained against.
    frame_ids: [n] ascending.
    rgb_lip: [n, h, w, 3] uint8 canonical lips at those frames: the true ones, or any to be judged.
    activity: [n] float, the share of speech of each frame.
  """
  scores = [SyncScores(np.zeros((0, 2 * sync.MAX_OFFSET + 1), np.float32), np.zeros(0), float('nan'), 0)]
  for rows in runs_of(subject, frame_ids):
    mouth = expert.embed_lips(rgb_lip[rows])
    speech = expert.embed_speech(subject, frame_ids[rows[:len(mouth)]])
    distances = sync.offset_distances(mouth, speech)
    seconds = np.convolve(activity[rows], np.full(schema.FPS, 1 / schema.FPS), 'same' if len(rows) < schema.FPS else 'valid')
    scores.append(SyncScores(distances, seconds[sync.MAX_OFFSET:][:len(distances)], *sync.window_accuracy(mouth, speech)))
  return sum_scores(scores)
