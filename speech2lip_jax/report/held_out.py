"""Held-out frames against the truth and against what is possible without a model.

The mouth region of a frame is the set of its pixels whose C2O falls in the lip box; picture metrics are means over frames, ratios
to the true frames are of such means.
"""
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict

from speech2lip_jax.common import processes
from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import write_text
from speech2lip_jax.common.pictures import write_png
from speech2lip_jax.common.progress import Bar, stage
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import mean_lips, runs_of, subject_mel_windows
from speech2lip_jax.gamem.subject import lip_points
from speech2lip_jax.metrics import opening
from speech2lip_jax.metrics.names import CLOSURE_METRICS, LANDMARK_METRICS, METRICS, SYNC_METRICS
from speech2lip_jax.models.lpips import OWN as OWN_LPIPS
from speech2lip_jax.models.lpips import load_lpips
from speech2lip_jax.provenance.origin import DISCLOSED
from speech2lip_jax.rendering import silence
from speech2lip_jax.rendering.predictor import Prediction
from speech2lip_jax.rendering.trained import Trained
from speech2lip_jax.report import page as report_page
from speech2lip_jax.report import table as metric_table
from speech2lip_jax.report.pictures import Album, chosen_rows, stacked
from speech2lip_jax.report.ridge import regressed_lips
from speech2lip_jax.report.scoring import Pair, Scorer, Scores, summary, why_no_landmarks, why_no_weights, with_nulls
from speech2lip_jax.report.side_by_side import SideBySide
from speech2lip_jax.sync import trust
from speech2lip_jax.sync.expert import listed_folders
from speech2lip_jax.sync.judge import Judge, judge_of_subject
from speech2lip_jax.workdir.summary import read_log

MOUTH_REGION = 'pixels whose place in canonical space falls in the lip box'
NUM_NEAREST = 8


def nearest_windows(queries: np.ndarray, references: np.ndarray, count: int, chunk: int = 256) -> np.ndarray:
  """Indices of the `count` references nearest to each query by Euclidean distance, nearest first: [n, count].

  queries: [n, …], references: [m, …] float32, flattened.
  """
  references = references.reshape(len(references), -1)
  squares = np.square(references).sum(1)
  rows = []
  for start in range(0, len(queries), chunk):
    block = queries[start:start + chunk].reshape(-1, references.shape[1])
    distances = squares - 2 * block @ references.T
    nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
    order = np.take_along_axis(distances, nearest, 1).argsort(1)
    rows.append(np.take_along_axis(nearest, order, 1))
  return np.concatenate(rows)


def candidates(trained: Trained, baselines: bool, part: slice) -> dict[str, Callable[[], Iterator[Prediction]]]:
  """What is scored, by name: 'model', and with `baselines` the oracle and the baselines, all composed in the same way.

  part: the rows of the test split wanted. Speech and silence are heard in all of it.

  The baselines take their lips from the frames that are not test frames, validation included; they hear mel whatever the model
  hears, so that they stay the same.
  """
  subject, split, steps = trained.subject, trained.split, trained.config.audio.window_steps
  test, mouths = split.test[part], trained.subject_mouths(split.test)
  mouths = silence.Mouths(mouths.audio_embedding[part], mouths.rest[part], mouths.residual)
  model = {'model': lambda: trained.predictor.from_mouths(test, mouths)}
  if not baselines:
    return model
  known = np.sort(np.concatenate([split.train, split.val]))
  mel = lambda frame_ids: subject_mel_windows(subject, frame_ids, steps)
  nearest = known[nearest_windows(mel(test), mel(known), min(NUM_NEAREST, len(known)))]
  mean = mean_lips(subject, known)
  lips = subject.rgb_lip_canonical
  from_lips = lambda rgb_lip_of_rows: lambda: trained.predictor.from_lips(test, rgb_lip_of_rows)
  regressed = lambda paint: from_lips(lambda rows: paint(rows + (part.start or 0)))
  plain = {'without_blend_net': lambda: trained.predictor.from_mouths(test, mouths, with_blend_net=False)}
  return model | (plain if trained.predictor.with_blend_net else {}) | {
      'oracle': from_lips(lambda rows: lips[test[rows]] / np.float32(255)),
      'mean_lips': from_lips(lambda rows: np.broadcast_to(mean, (len(rows), *mean.shape))),
      'nearest': from_lips(lambda rows: lips[nearest[rows, 0]] / np.float32(255)),
      'nearest_8_mean': from_lips(lambda rows: lips[nearest[rows]].mean(1, dtype=np.float32) / 255),
  } | {name: regressed(paint) for name, paint in regressed_lips(subject, split, steps).items()}


def score_everything(trained: Trained, judge: Judge | None, scorer: Scorer, album: Album, film: SideBySide,
                     baselines: bool) -> tuple[dict[str, Scores], dict[str, dict[str, float]]]:
  """Renders and scores the test split: the truth and the model in one pass, then the oracle and the baselines.

  Of several processes each takes a part of the frames, and `film` holds that of the first.

  Returns:
    By name ('truth', 'model', …): `Scores`; `Judge.scores`, empty without a judge.
  """
  is_main, mine = jax.process_index() == 0, processes.share(len(trained.split.test))
  before = min(mine.start, 1)  # the frame before tells the first one's motion
  part = slice(mine.start - before, mine.stop)
  subject, test, frames = trained.subject, trained.split.test, trained.subject.frames
  points = lip_points(subject)
  with stage('audio embeddings and baselines' if baselines else 'audio embeddings', show=is_main):
    everything = candidates(trained, baselines, part)
  scores: dict[str, Scores] = {}
  views: dict[str, list[np.ndarray]] = {}

  def kept(*keepers):
    def keep(row: int, pair: Pair, values: dict[str, float]) -> None:
      for each in keepers if row >= before else ():
        each(part.start + row, pair, values)
    return keep

  def pairs(name: str, predictions: Iterator[Prediction]) -> Iterator[Pair]:
    for row, prediction in enumerate(predictions, part.start):
      pictures = {name: prediction.rgb_face, 'truth': np.array(frames[test[row]])}
      for shown in (name, 'truth') if name == 'model' else (name,):
        if judge and row >= mine.start:
          views.setdefault(shown, []).append(judge.view(row, pictures[shown]))
      bar.update()
      seen_lips = np.asarray(points(subject.observed_from_canonical[test[row]]))
      yield Pair(prediction.rgb_face, pictures['truth'], prediction.mask_mouth, prediction.window, prediction.jaw, seen_lips)

  with Bar(total=len(everything) * (part.stop - part.start), title='model', compiles=True, show=is_main) as bar:
    for name, predictions in everything.items():
      bar.set_description(name, refresh=False)
      bar.compiling()
      if name == 'model':
        scores[name], scores['truth'] = scorer.run_with_truth(pairs(name, predictions()), kept(album.keep, film.keep))
      else:
        scores[name] = scorer.run(pairs(name, predictions()), kept(album.keep_other(name)))
  scores = {name: each.without_first(before) for name, each in scores.items()}
  plain = {name: [each.values, each.landmarks] for name, each in scores.items()}
  everyones = processes.gathered([plain, views, *album.kept()])
  for _, _, *kept_there in everyones[1:] if is_main else ():
    album.add(*kept_there)
  sync = {name: judge.scores([view for _, seen, *_ in everyones for view in seen[name]]) if judge else {} for name in scores}
  return {name: Scores.joined([Scores(*each[name]) for each, *_ in everyones]) for name in scores}, sync


def closed_threshold(trained: Trained) -> float | None:
  """The subject's own (`metrics.opening.closed_threshold`), of its training frames; None where it has no landmarks."""
  subject, train = trained.subject, trained.split.train
  own = opening.lip_opening(np.asarray(subject.landmarks))
  if not np.isfinite(own[train]).all():
    return None
  return opening.closed_threshold(own[train], own[silence.closed_frames(subject, train)])


def evaluate(trained: Trained, out: pathlib.Path, judge: str | None = None, landmarker: str | None = None,
             baselines: bool = True, lpips: str | None = None, workdir: str | os.PathLike | None = None) -> dict[str, Any]:
  """Scores the test split and writes metrics.json, table.md, strips.png and report.html into `out`, in the first process.

  Args:
    judge, baselines, lpips: see the flags.
    landmarker: path of MediaPipe's model.
    workdir: of the training, for the report's curves and to tell the expert that it was trained against.

  Returns:
    The contents of metrics.json.
  """
  subject, test = trained.subject, trained.split.test
  check_not_trained_by(trained.config, lpips)
  judging: Judge | None = None
  judge_facts: dict | None = None
  if judge:
    against: list[str | os.PathLike] = [*listed_folders(trained.config.sync.expert)]
    against += pathlib.Path(workdir).glob('expert*/') if workdir else []
    judging, judge_facts = judge_of_subject(judge, subject, test, against)
  album = Album(chosen_rows(len(test)))
  names = (metric_table.NAMES['truth'], metric_table.NAMES['model'])
  origin = DISCLOSED.origin(workdir or 'model', trained.digest)
  sound = subject.sound[test[processes.share(len(test))]].reshape(-1)
  with Scorer(landmarker, lpips) as scorer, SideBySide(names, schema.FPS, sound, origin) as film:
    scores, sync = score_everything(trained, judging, scorer, album, film, baselines)
    shown = film.mp4()
  if judge_facts:
    judge_facts |= trust.facts(sync['truth'], sync['model'])
  runs = runs_of(subject, test)
  threshold = closed_threshold(trained)
  rows = {name: with_nulls(summary(each, scores['truth'], runs, schema.FPS, threshold) | sync[name])
          for name, each in sorted(scores.items(), key=lambda item: item[0] != 'truth')}
  record = rows['model'] | {
      'lpips_network': load_lpips(lpips).title if lpips else None,
      'num_frames': len(test), 'checkpoint_step': trained.step, 'judge': judge_facts, 'mouth_region': MOUTH_REGION,
      'definitions': metric_table.definitions(),
      'baselines': {name: row for name, row in rows.items() if name != 'model'}}
  record['reasons'] = reasons(record, landmarker, lpips, judge)
  if jax.process_index():
    return record
  out.mkdir(parents=True, exist_ok=True)
  write_text(out / 'table.md', metric_table.markdown(rows))
  report = _report(trained, record, rows, scores, album, shown, workdir)
  write_png(out / 'strips.png', stacked(report_page.strips(report, list(album.others))))
  report_page.write_report(out / 'report.html', report)
  write_text(out / 'metrics.json', json.dumps(record, indent=1) + '\n')  # last: it says that the evaluation is whole
  return record


def check_not_trained_by(config: ConfigDict, lpips: str | None) -> None:
  """Raises InputError where `lpips`, FILE.npz or None, is of the network that the run was trained by: it would praise itself."""
  loss = config.loss
  if lpips and loss.lpips and (loss.perceptual_weight or loss.lip_perceptual_weight):
    judge = load_lpips(lpips)
    is_known = loss.lpips == OWN_LPIPS or os.path.isfile(loss.lpips)
    if os.path.abspath(lpips) == os.path.abspath(loss.lpips) or is_known and load_lpips(loss.lpips).trunk == judge.trunk:
      raise InputError(f'--lpips={lpips}: is {judge.title}, by which this run was trained (config.loss.lpips={loss.lpips}); '
                       'give another network, such as the VGG of ST-LPIPS (speech2lip convert --kind lpips)')


def reasons(record: dict, landmarker: str | None, lpips: str | None, judge: str | None) -> dict[str, str]:
  """Why each metric that is None in the record is None."""
  def why(name: str) -> str:
    if name in SYNC_METRICS:
      return ('no held-out run of the clips is long enough (2.2 s)' if judge else
              'no judge: give --judge, a folder of speech2lip expert or of convert --kind syncnet')
    if name in CLOSURE_METRICS and landmarker and record['opening_corr'] is not None:
      return "the subject has no landmarks to tell its closed mouth by, or the true mouth never shuts"
    if name in (*LANDMARK_METRICS, *CLOSURE_METRICS):
      return ('no run of a second in which a face is found and the mouth moves' if landmarker else
              why_no_landmarks())
    if not lpips and (why_not := why_no_weights(name)):
      return why_not
    return 'no frame shows the mouth region, or frames are smaller than 64 pixels'
  return {name: why(name) for name in METRICS if record[name] is None}


def _report(trained: Trained, record: dict, rows: metric_table.Rows, scores: dict[str, Scores], album: Album, film: bytes,
            workdir: str | os.PathLike | None) -> report_page.Report:
  subject, test = trained.subject, trained.split.test
  clip_ids = subject.clip_of_frames(test)
  starts = np.flatnonzero(np.diff(clip_ids, prepend=-1))
  heard = subject.sound[test].reshape(-1)
  sheet = cv2.imread(str(subject.folder / 'contact_sheet.png'))
  chosen = [name for name in ('model', 'mean_lips', 'truth') if name in scores]
  return report_page.Report(
      title=f'speech2lip: {subject.folder.resolve().name}',
      subtitle=f'{len(test)} held-out frames ({len(test) / schema.FPS:.0f} s) at {subject.meta.width}×{subject.meta.height} px, '
               f'checkpoint of step {trained.step}' + (f', {pathlib.Path(workdir).resolve().name}' if workdir else ''),
      names=metric_table.NAMES, record=record, rows=rows, album=album, film=film,
      frame_of_row=lambda row: (int(test[row]), subject.meta.clips[clip_ids[row]].name),
      histograms={metric: {name: scores[name].values[metric] for name in chosen} for metric in report_page.HISTOGRAMS},
      openings={name: scores[name].opening() for name in ('truth', 'model') if scores[name].landmarks is not None},
      sound=heard.astype(np.float32) / 32768, fps=schema.FPS,
      clip_starts=[(int(row), subject.meta.clips[clip_ids[row]].name) for row in starts],
      log=read_log(pathlib.Path(workdir, 'log.jsonl')) if workdir else [],
      contact_sheet=None if sheet is None else cv2.cvtColor(sheet, cv2.COLOR_BGR2RGB),
      settings=trained.config.to_yaml(), with_published=True)
