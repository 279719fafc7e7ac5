"""Trains an expert on a part of a subject's frames and says how well it does on the others."""
import json
import pathlib
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common.figures import new_figure, plain, write_png
from speech2lip_jax.common.files import lock, write_text
from speech2lip_jax.common.progress import stage
from speech2lip_jax.configs import schema as config_schema
from speech2lip_jax.data.dataset import MIN_CLIPS_TO_SPLIT_BY_CLIP, Subject, runs_of, split_frames
from speech2lip_jax.metrics import sync
from speech2lip_jax.sync import trust
from speech2lip_jax.sync.expert import Expert, save_expert
from speech2lip_jax.sync.scores import score_lips, subject_activity, sum_scores
from speech2lip_jax.sync.train_expert import part_of, train_expert

if TYPE_CHECKING:
  from matplotlib.figure import Figure


def offset_histogram(offsets: np.ndarray, title: str) -> 'Figure':
  """How many 1 s windows fit best at each offset, −15 … 15 frames."""
  at = np.arange(-sync.MAX_OFFSET, sync.MAX_OFFSET + 1)
  counts = np.bincount(offsets + sync.MAX_OFFSET, minlength=len(at))
  figure = new_figure(640, 280)
  axes = figure.subplots()
  plain(axes)
  bars = axes.bar(at, counts, color=['#3c8c3c' if abs(offset) <= 1 else '#3c5ab4' for offset in at])
  axes.bar_label(bars, [str(count or '') for count in counts], fontsize=8)
  axes.set_title(title, fontsize=10, loc='left')
  axes.set_xlabel('best offset of the speech, frames (40 ms)', fontsize=9)
  return figure


def judge(experts: list[tuple[Expert, np.ndarray]], subject: Subject) -> tuple[dict, np.ndarray, list[str]]:
  """Scores the true lips of held-out frames, each expert on its own.

  Returns:
    Their `SyncScores.metrics` taken together and the number of windows; the best offsets; lines on clips whose own sound
    is off by more than a frame.
  """
  scores, off = [], []
  for expert, frame_ids in experts:
    for rows in runs_of(subject, frame_ids):
      ids = frame_ids[rows]
      scores.append(score_lips(expert, subject, ids, subject.rgb_lip_canonical[ids], subject_activity(subject, ids)))
      if len(scores[-1].distances) and abs(offset := sync.best_offset(scores[-1].distances.mean(0))) > 1:
        off.append(f'{subject.meta.clips[subject.clip_of_frames(ids[:1])[0]].name} ({offset:+.1f})')
  total = sum_scores(scores)
  return total.metrics() | {'num_windows': len(total.distances)}, sync.best_offsets(total.distances), off


def _blocks(subject: Subject, frame_ids: np.ndarray, count: int) -> list[np.ndarray]:
  """The frames in `count` parts, by clip where the clips are many, by time otherwise."""
  if len(subject.meta.clips) < MIN_CLIPS_TO_SPLIT_BY_CLIP:
    return np.array_split(frame_ids, count)
  clips = subject.clip_of_frames(frame_ids)
  return [frame_ids[np.isin(clips, part)] for part in np.array_split(np.unique(clips), count)]


def describe(scores: dict, off: list[str]) -> str:
  """The scores in words."""
  share = lambda name: f'{100 * scores[name]:.1f} %'
  text = (f'held out: {share("sync_within_one")} of {scores["num_windows"]} 1 s windows fit best at 0 ± 1 frame '
          f'of ± {sync.MAX_OFFSET} (at least half speech: {share("sync_within_one_speech")} of {scores["num_speech_windows"]}), '
          f'acc5 {scores["sync_acc5"]:.3f}, conf0 {scores["sync_conf0"]:z.3f}')
  if off:
    text += f'\nclips whose own sound is off by more than a frame (frames the speech is late): {", ".join(off)}'
  return text


def train_and_judge(config: ConfigDict, subject: Subject, workdir: pathlib.Path, folds: int) -> None:
  """Trains on the training part, scores the test part, and writes the expert, scores.json and offsets.png into `workdir`.

  With `folds`, every block of all frames is scored by an expert trained on the others, and no expert is written.

  Raises:
    InputError: a value is out of range, the loss is not finite, or another process works in `workdir`.
  """
  config_schema.check(config, 'expert')
  workdir.mkdir(parents=True, exist_ok=True)
  with lock(workdir, 'expert'):
    _train_and_judge(config, subject, workdir, folds)


def _train_and_judge(config: ConfigDict, subject: Subject, workdir: pathlib.Path, folds: int) -> None:
  """`train_and_judge` in a folder that is this process's."""
  started = time.perf_counter()
  split = split_frames(subject, config.data)
  if folds:
    blocks = _blocks(subject, np.sort(np.concatenate(split)), folds)
    pairs = [(np.concatenate(blocks[:i] + blocks[i + 1:]), held) for i, held in enumerate(blocks)]
  else:
    pairs = [(part_of(subject, split.train, config.data.part), split.test)]
  experts = [(train_expert(subject, ids, config), held) for ids, held in pairs]
  seconds = time.perf_counter() - started
  with stage('judging held-out frames'):
    scores, offsets, off = judge(experts, subject)
  text = describe(scores, off)
  weak = trust.why_weak(scores)
  record = scores | {'warnings': [weak] if weak else [], 'train_s': round(seconds, 1)}
  write_text(workdir / 'scores.json', json.dumps(record, indent=1) + '\n')
  title = f'{subject.folder.name}: {100 * scores["sync_within_one"]:.1f} % of {len(offsets)} windows within a frame'
  write_png(offset_histogram(offsets, title), workdir / 'offsets.png')
  if not folds:
    save_expert(workdir, experts[0][0], {'subject': subject.folder.name, 'config': json.loads(config.to_json_best_effort())})
  print(f'{text}\n{workdir}: trained in {seconds:.0f} s on {len(pairs[0][0])} frames; offsets.png, scores.json')
  if weak:
    print(f'warning: {workdir}: {weak}', file=sys.stderr)
