"""Anyone's two videos, frame by frame: `speech2lip evaluate --video a.mp4 --against b.mp4 --out DIR`.

The one is scored against the other, taken as the truth, at their own frame rate and size, which must agree; of two lengths that
differ by up to two frames the longer one's end is left out. The mouth region is told by landmarks: the rectangle of the true
mouth's 20 points grown by a quarter of its width. Where there is no face, or no landmark model, the whole-frame metrics are
given alone; metrics.json says why each other one is null. Sync needs SyncNet (`--judge`, of convert --kind syncnet), 25 frames a
second, and sound: each video is judged by its own.
"""
import itertools
import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import write_text
from speech2lip_jax.common.progress import Bar
from speech2lip_jax.data import schema
from speech2lip_jax.data.mel import log_mel
from speech2lip_jax.metrics.names import CLOSURE_METRICS, METRICS, SYNC_METRICS
from speech2lip_jax.preprocess import audio, video
from speech2lip_jax.report import page as report_page
from speech2lip_jax.report import table as metric_table
from speech2lip_jax.report.pictures import Album, chosen_rows
from speech2lip_jax.report.scoring import Pair, Scorer, Scores, summary, why_no_landmarks, why_no_weights, with_nulls
from speech2lip_jax.report.side_by_side import SideBySide
from speech2lip_jax.sync import trust
from speech2lip_jax.sync.judge import FaceJudge, describe, embed_mel
from speech2lip_jax.sync.syncnet_expert import SyncNetExpert, load_syncnet

OF_A_WINDOW = ('seam_levels', 'seam_ratio', 'untouched_levels')
OF_A_SUBJECT = ('motion_lip', 'motion_ratio', *CLOSURE_METRICS)
MOUTH_REGION = "rectangle of the true mouth's 20 landmarks, grown by a quarter of its width"
MAX_LEFT_OUT = 2  # frames
SAME_RATE = 0.005  # largest relative difference of two frame rates that are one


class Side(NamedTuple):
  """One of the two videos. sound: [n] float32 −1 … 1, 16 kHz mono from the first picture on; None where the file has none."""
  info: video.VideoInfo
  scores: Scores
  sound: np.ndarray | None


def compare(path: str, against: str, out: pathlib.Path, landmarker: str | None = None, lpips: str | None = None,
            judge: str | None = None) -> dict[str, Any]:
  """Scores the video at `path` against the one at `against`; writes metrics.json, table.md and report.html into `out`.

  Args:
    landmarker: path of MediaPipe's model. lpips: FILE.npz of convert --kind lpips. judge: folder of convert --kind syncnet.

  Returns:
    The contents of metrics.json.

  Raises:
    InputError: a file is no video, or the two differ in size, rate or length; the judge is an expert of one subject's lips.
  """
  our_info, true_info = (video.probe(each, needs_sound=False) for each in (path, against))
  check_pair(our_info, true_info)
  expert = _open_judge(judge) if judge else None
  num_frames = round(min(info.duration_s * info.fps for info in (our_info, true_info)))
  album = Album(chosen_rows(num_frames))
  fps, names = true_info.fps, {'truth': pathlib.Path(against).name, 'model': pathlib.Path(path).name}
  sounds = [_sound(info) for info in (our_info, true_info)]
  heard = next((sound for sound in sounds if sound is not None), None)
  samples = None if heard is None else np.round(heard * 32767).astype(np.int16)
  with (Scorer(landmarker, lpips) as scorer, Bar(total=num_frames, compiles=True) as bar,
        SideBySide((names['truth'], names['model']), fps, samples) as film):

    def keep(row: int, pair: Pair, values: dict[str, float]) -> None:
      album.keep(row, pair, values)
      film.keep(row, pair, values)

    ours, truth = scorer.run_with_truth(frame_pairs(our_info, true_info, bar), keep)
    shown = film.mp4()
  num_frames = len(ours.values['psnr_img'])
  sides = {'truth': Side(true_info, truth, sounds[1]), 'model': Side(our_info, ours, sounds[0])}
  why_no_sync = _why_no_sync(list(sides.values()), expert, fps)
  sync = {name: judge_sync(expert, side) if expert and not why_no_sync else {} for name, side in sides.items()}
  judge_facts = describe(judge) if judge else None
  if judge_facts and sync['truth']:
    judge_facts |= trust.facts(sync['truth'], sync['model'])
  rows = {name: with_nulls(summary(side.scores, truth, [np.arange(num_frames)], fps) | sync[name]) for name, side in sides.items()}
  record = rows['model'] | {
      'num_frames': num_frames, 'fps': fps, 'judge': judge_facts, 'mouth_region': MOUTH_REGION,
      'definitions': metric_table.definitions(),
      'baselines': {'truth': rows['truth']}}
  record['reasons'] = _reasons(record, list(sides.values()), landmarker, lpips, why_no_sync)
  out.mkdir(parents=True, exist_ok=True)
  write_text(out / 'table.md', metric_table.markdown(rows))
  page = report_page.Report(
      title=f'{pathlib.Path(path).name} against {pathlib.Path(against).name}',
      subtitle=f'{num_frames} frames at {fps:.4g} a second, {true_info.width}×{true_info.height} px; mouth region: {MOUTH_REGION}',
      names=names, record=record, rows=rows, album=album, film=shown,
      frame_of_row=lambda row: (row, ''),
      histograms={name: {'model': ours.values[name], 'truth': truth.values[name]}
                  for name in report_page.HISTOGRAMS},
      openings={name: side.scores.opening() for name, side in sides.items() if side.scores.landmarks is not None},
      sound=None if heard is None else heard[:round(num_frames / fps * schema.SAMPLE_RATE)], fps=fps, clip_starts=[], log=[],
      contact_sheet=None, settings='', with_published=False)
  report_page.write_report(out / 'report.html', page)
  write_text(out / 'metrics.json', json.dumps(record, indent=1) + '\n')  # last: it says that the comparison is whole
  return record


def check_pair(ours: video.VideoInfo, true: video.VideoInfo) -> None:
  """Raises InputError where two videos cannot be compared frame by frame."""
  if (ours.width, ours.height) != (true.width, true.height):
    raise InputError(f'--video {ours.path}: {ours.width}×{ours.height} pixels, --against {true.path}: {true.width}×{true.height}; '
                     f'scale one of them, for example: ffmpeg -i {ours.path} -vf scale={true.width}:{true.height} …')
  if abs(ours.fps / true.fps - 1) > SAME_RATE:
    raise InputError(f'--video {ours.path}: {ours.fps:.4g} frames a second, --against {true.path}: {true.fps:.4g}; bring one to '
                     f"the other's, for example: ffmpeg -i {ours.path} -r {true.fps:.4g} …")
  _check_lengths(ours, true, *(round(info.duration_s * info.fps) for info in (ours, true)))


def _check_lengths(ours: video.VideoInfo, true: video.VideoInfo, num_ours: int, num_true: int) -> None:
  if abs(num_ours - num_true) > MAX_LEFT_OUT:
    shorter, longer = sorted(((num_ours, ours.path), (num_true, true.path)))
    raise InputError(f'--video {ours.path}: {num_ours} frames, --against {true.path}: {num_true}; they may differ by '
                     f'{MAX_LEFT_OUT}: cut the longer one, for example: ffmpeg -i {longer[1]} -frames:v {shorter[0]} …')


def frame_pairs(ours: video.VideoInfo, true: video.VideoInfo, bar: Bar) -> Iterator[Pair]:
  """Yields the frames of both together, as long as both last.

  Raises:
    InputError: one lasts longer than its container said.
  """
  counts = [0, 0]
  for pictures in itertools.zip_longest(video.read_pictures(ours), video.read_pictures(true)):
    counts = [count + (picture is not None) for count, picture in zip(counts, pictures, strict=True)]
    if all(picture is not None for picture in pictures):
      bar.update()
      yield Pair(*pictures)
    elif abs(counts[0] - counts[1]) > MAX_LEFT_OUT:
      break
  _check_lengths(ours, true, *counts)


def _open_judge(folder: str) -> SyncNetExpert:
  if pathlib.Path(folder, 'expert.json').is_file() and describe(folder)['kind'] != 'syncnet':
    raise InputError(f"--judge={folder}: is an expert of one subject's lips in canonical space; two videos are judged by SyncNet: "
                     'speech2lip convert --kind syncnet')
  return SyncNetExpert(load_syncnet(folder))


def _sound(info: video.VideoInfo) -> np.ndarray | None:
  with video.open_container(info.path) as container:
    if not container.streams.audio:
      return None
  return audio.read_sound(info)


def _why_no_sync(sides: list[Side], expert: SyncNetExpert | None, fps: float) -> str | None:
  if not expert:
    return 'no judge: give --judge, a folder of speech2lip convert --kind syncnet'
  if abs(fps / schema.FPS - 1) > SAME_RATE:
    return f'SyncNet looks at {schema.FPS} frames a second, the videos have {fps:.4g}'
  for side in sides:
    if side.sound is None or not np.abs(side.sound).max() > 0:
      return f'{side.info.path} {"has no sound" if side.sound is None else "is silent"}'
    if side.scores.landmarks is None:
      return why_no_landmarks()
    if not np.isfinite(side.scores.landmarks).any():
      return f'no face is found in {side.info.path}'
  return None


def judge_sync(expert: SyncNetExpert, side: Side) -> dict[str, float]:
  """`SYNC_METRICS` of a video with faces by its own sound; its frames are read once more."""
  landmarks, sound = side.scores.landmarks, side.sound
  if landmarks is None or sound is None:
    raise ValueError(f'{side.info.path}: sync is judged by faces and sound')
  num_frames = len(landmarks)
  low, high = landmarks.min(1)[:, ::-1], landmarks.max(1)[:, ::-1]
  speech = embed_mel(expert, log_mel(sound), num_frames)
  judge = FaceJudge(expert, [np.arange(num_frames)], speech, np.concatenate([low, high], 1))
  views = [judge.view(row, rgb) for row, rgb in zip(range(num_frames), video.read_pictures(side.info))]
  return judge.scores(views)


def _reasons(record: dict[str, Any], sides: list[Side], landmarker: str | None, lpips: str | None, why_no_sync: str | None
             ) -> dict[str, str]:
  """Why each metric that is None in the record is None."""
  faceless = [side.info.path for side in sides
              if side.scores.landmarks is not None and not np.isfinite(side.scores.landmarks).any()]

  def why(name: str) -> str:
    if name in OF_A_WINDOW:
      return 'which window was painted is not known of two videos'
    if name in SYNC_METRICS:
      return why_no_sync or 'the videos are shorter than 2.2 s'
    if name in OF_A_SUBJECT:
      return 'where the head stands, and how the closed mouth looks, is known of a trained subject, not of two videos'
    if not lpips and (why_not := why_no_weights(name)):
      return why_not
    if not landmarker:
      return why_no_landmarks()
    if faceless:
      return f'no face is found in {" and ".join(faceless)}'
    return 'too short, too still or too small: no second in which the mouth moves, or frames below 64 pixels'
  return {name: why(name) for name in METRICS if record[name] is None}
