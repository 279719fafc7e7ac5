"""Scoring frame by frame, the report, and two videos of anyone's; the verb on a training run is in test_train."""
import base64
import html.parser
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import types
import weakref
import xml.etree.ElementTree

import av
import cv2
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.figures import svg
from speech2lip_jax.metrics import cpbd, image, seam
from speech2lip_jax.metrics import names as names_of_metrics
from speech2lip_jax.preprocess import landmarks
from speech2lip_jax.report import compare_videos, pictures, plots, scoring
from speech2lip_jax.report import page as report_page
from speech2lip_jax.report import table as metric_table
from speech2lip_jax.report.pictures import Album
from speech2lip_jax.report.side_by_side import SideBySide
from speech2lip_jax.report.verdict import verdict
from speech2lip_jax.sync import judge as sync_judge
from tests import shared

WINDOW = (40, 30, 60, 70)


def pairs(count=12, seed=0):
  """Pictures with edges, touched more and more inside the window."""
  rng = np.random.default_rng(seed)
  base = skimage.data.astronaut()[:128, :128]
  for i in range(count):
    true = np.roll(base, i, axis=1)
    rgb = true.copy()
    noise = rng.integers(-2 * i, 2 * i + 1, (60, 70, 3))
    rgb[40:100, 30:100] = np.clip(rgb[40:100, 30:100] + noise, 0, 255)
    mask = np.zeros((128, 128), bool)
    mask[60:80, 45:80] = True
    yield scoring.Pair(rgb, true, mask, WINDOW)


def test_scores_are_the_metrics_of_each_frame():
  album = Album(np.array([2, 7]))
  with scoring.Scorer(None, None) as scorer:
    scores, truth = scorer.run_with_truth(pairs(), album.keep)
  window = np.zeros((128, 128), bool)
  window[40:100, 30:100] = True
  for i, pair in enumerate(pairs()):
    value = {name: values[i] for name, values in scores.values.items()}
    assert value['psnr_lip'] == image.psnr(pair.rgb, pair.true, pair.mask_mouth)
    assert value['psnr_img'] == image.psnr(pair.rgb, pair.true)
    assert (value['ssim_img'], value['ssim_lip']) == image.ssim(pair.rgb, pair.true, pair.mask_mouth)
    assert (value['seam_levels'], value['seam_ratio']) == seam.seam(pair.rgb, pair.true, window)
    assert value['untouched_levels'] == 0
    crop = pair.true[38:102, 30:94]  # the 64×64 block about the mask
    assert truth.values['cpbd_lip'][i] == cpbd.cpbd(cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY))
  assert [shot.row for shot in album.chosen] == [2, 7]
  assert [shot.row for shot in album.worst()] == [11, 9], 'of ten in a row the worst alone'
  summary = scoring.with_nulls(scoring.summary(scores, truth, [np.arange(12)], 25))
  assert list(summary) == list(names_of_metrics.METRICS)
  assert summary['psnr_lip'] == pytest.approx(scores.values['psnr_lip'].mean())
  assert summary['lpips_lip'] is summary['lmd_px'] is summary['sync_conf'] is None


def test_what_tells_a_frame_from_the_one_before_is_of_ours_and_of_the_truth(monkeypatch):
  distance = lambda rgb_0, rgb_1: np.abs(rgb_0.astype(float) - rgb_1).mean() / 255
  monkeypatch.setattr(scoring, '_lpips_of', lambda path: distance)
  points = np.stack(np.meshgrid(np.arange(45, 80), np.arange(60, 80)), -1).astype(np.float32)
  shown = [pair._replace(lip_points=points) for pair in pairs()]
  with scoring.Scorer(None, 'lpips.npz') as scorer:
    scores, truth = scorer.run_with_truth(shown)
  lips, block = (slice(60, 80), slice(45, 80)), (slice(38, 102), slice(30, 94))
  for side, values in (('rgb', scores.values), ('true', truth.values)):
    pictures = [getattr(pair, side).astype(float) for pair in shown]
    assert np.isnan(values['motion_lip'][0]) and np.isnan(values['lpips_step'][0])
    for i in range(1, 12):
      step = np.abs(pictures[i] - pictures[i - 1])
      assert values['motion_lip'][i] == pytest.approx(step[lips].mean())
      assert values['lpips_step'][i] == pytest.approx(step[block].mean() / 255)
  runs = [np.arange(5), np.arange(5, 12)]
  used = [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
  ours, true = (scoring.summary(side, truth, runs, 25) for side in (scores, truth))
  assert ours['motion_ratio'] == pytest.approx(scores.values['motion_lip'][used].mean() / truth.values['motion_lip'][used].mean())
  assert ours['laplacian_ratio'] == pytest.approx(scores.values['laplacian_lip'].mean() / truth.values['laplacian_lip'].mean())
  assert ours['lpips_flicker'] == pytest.approx(
      np.abs(scores.values['lpips_step'] - truth.values['lpips_step'])[used].mean())
  assert ours['lpips_flicker'] > 0 and ours['motion_ratio'] > 1.1
  assert {name: true[name] for name in ('motion_ratio', 'laplacian_ratio', 'lpips_flicker', 'lpips_lip', 'ssim_lip', 'seam_ratio')
          } == {'motion_ratio': 1, 'laplacian_ratio': 1, 'lpips_flicker': 0, 'lpips_lip': 0, 'ssim_lip': 1, 'seam_ratio': 1}


def test_a_pixel_touched_outside_the_window_is_found():
  pair = next(pairs(1))
  rgb = pair.rgb.copy()
  rgb[3, 5, 1] ^= 16
  with scoring.Scorer(None, None) as scorer:
    assert scorer.run([pair._replace(rgb=rgb)]).values['untouched_levels'].tolist() == [16]
    assert scorer.run([pair._replace(rgb=rgb, jaw=(3, 4, 9, 9))]).values['untouched_levels'].tolist() == [0]
    assert scorer.run([pair._replace(rgb=rgb, jaw=(4, 4, 9, 9))]).values['untouched_levels'].tolist() == [16]


def test_scoring_keeps_few_frames_however_long_the_video():
  alive, most = weakref.WeakSet(), 0

  class Frame(np.ndarray):
    __hash__ = object.__hash__

  def stream():
    nonlocal most
    for i in range(60):
      frame = np.full((32, 32, 3), i, np.uint8).view(Frame)
      alive.add(frame)
      most = max(most, len(alive))
      yield scoring.Pair(frame, frame, None, None)
      del frame

  with scoring.Scorer(None, None) as scorer:
    assert len(scorer.run(stream()).values['psnr_img']) == 60
  assert most <= scoring.MAX_WAITING + 4


class Page(html.parser.HTMLParser):
  """Collects what a page refers to and checks that its elements are closed."""
  VOID = {'meta', 'img'}

  def __init__(self, text):
    super().__init__()
    self.references, self.images, self.open = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.references += [attrs[name] for name in ('src', 'href') if name in attrs]
    if tag in ('img', 'video'):
      self.images.append(attrs['src'])
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  """A report with every part, and its text."""
  album = Album(np.array([1, 5, 9]))
  with scoring.Scorer(None, None) as scorer, SideBySide(('true frames', 'ours'), 25.0, np.zeros(7680, np.int16)) as film:
    scores, _ = scorer.run_with_truth(pairs(), lambda *shot: (album.keep(*shot), film.keep(*shot)))
    scorer.run(pairs(seed=1), album.keep_other('nearest_8_mean'))
    scorer.run(pairs(seed=2), album.keep_other('ridge'))
    shown = film.mp4()
  row = dict.fromkeys(names_of_metrics.METRICS)
  rows = {'truth': row | {'opening_corr': 1.0, 'sync_conf0': 0.6},
          'model': row | {'psnr_lip': 31.2, 'opening_corr': 0.95, 'opening_lag_ms': 61.0, 'opening_amplitude': 0.9,
                          'laplacian_ratio': 0.93, 'motion_ratio': 0.8, 'sync_conf0': 0.59,
                          'seam_ratio': 1.0, 'untouched_levels': 0.0},
          'mean_lips': row | {'psnr_lip': 29.0}, 'oracle': row | {'psnr_lip': 51.0}}
  times = np.arange(60)
  page = report_page.Report(
      title='toy <subject>', subtitle='60 frames', names=metric_table.NAMES,
      record={'num_frames': 60, 'reasons': {'lpips_lip': 'no weights'}, 'judge': {'name': 'xj', 'kind': 'own'}}, rows=rows,
      album=album, film=shown, frame_of_row=lambda row: (100 + row, 'clip<3>'),
      histograms={'psnr_lip': {'model': scores.values['psnr_lip']}},
      openings={'truth': 0.05 + 0.04 * np.sin(times / 3), 'model': 0.05 + 0.03 * np.sin(times / 3)},
      sound=np.sin(np.arange(60 * 640) / 9).astype(np.float32), fps=25.0, clip_starts=[(0, 'a'), (30, 'b')],
      log=[{'step': i, 'loss/lip': 1 / (1 + i), 'metric/psnr_lip_val': 20.0 + i} for i in range(9)],
      contact_sheet=skimage.data.astronaut(), settings='train:\n  seed: 0\n', with_published=True)
  path = tmp_path_factory.mktemp('report') / 'report.html'
  report_page.write_report(path, page)
  return page, path.read_text()


def test_the_report_is_one_small_file_that_asks_for_nothing_else(page):
  _, text = page
  parsed = Page(text)
  words = re.sub(r'base64,[^"]*', '', text)
  assert not parsed.open and 'http' not in words and 'nan' not in words and 'script' not in words
  assert parsed.references == parsed.images
  photographs, drawings = [], []
  film, = (source for source in parsed.images if source.startswith('data:video/mp4'))
  parsed.images.remove(film)
  with av.open(io.BytesIO(base64.b64decode(film.split(',')[1]))) as container:
    assert container.streams.video[0].codec_context.name == 'h264' and sum(1 for _ in container.decode(video=0)) == 12
  for source in parsed.images:
    kind, data = re.fullmatch(r'data:image/(jpeg|svg\+xml);base64,(.*)', source).groups()
    (photographs if kind == 'jpeg' else drawings).append(base64.b64decode(data))
  assert all(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None for data in photographs)
  assert len(photographs) == 2 + 1 + 1  # mouths and whole frames, worst frames, contact sheet
  for data in drawings:
    hrefs = [value for element in xml.etree.ElementTree.fromstring(data).iter() for name, value in element.items()
             if name.endswith('href')]
    assert all(value.startswith('#') for value in hrefs)
  assert len(drawings) == 1 + 1 + 2  # opening, histogram, losses, validation
  assert len(text) < 5e6 and 'toy &lt;subject&gt;' in text and 'clip&lt;3&gt;' in text


def test_the_report_says_what_was_found(page):
  given, text = page
  for part in ('Numbers', 'Published numbers, of another data set', 'Not comparable', 'worst frames', 'Lip opening over time',
               'Training', 'The subject', 'Made with', 'no weights', 'seed: 0', 'frame 111'):
    assert part in ' '.join(text.split()), part
  lines = {line.title: line for line in verdict(given.rows, given.record)}
  assert lines['Mouth 31.20 dB'].grade == 'good' and '+2.2 dB' in lines['Mouth 31.20 dB'].text
  assert lines['Opening 0.95'].grade == 'fair' and '61 ms late' in lines['Opening 0.95'].text
  assert lines['Detail 0.93 × true'].grade == 'fair' and 'move 0.80 ×' in lines['Detail 0.93 × true'].text
  assert 'xj' in lines['Sync 98 % of true'].text
  assert lines['Seam 1.000 × true'].grade == 'good' and 'No pixel outside' in lines['Seam 1.000 × true'].text


def test_mouths_are_shown_four_times_enlarged_in_named_rows():
  album = Album(np.array([1, 5, 9]))
  with scoring.Scorer(None, None) as scorer:
    scorer.run(pairs(), album.keep)
    scorer.run(pairs(seed=1), album.keep_other('ridge'))
  assert [len(shots) for shots in (album.chosen, album.others['ridge'])] == [3, 3]
  sheet, = pictures.mouth_sheets(album.chosen, ['one', 'two', 'three'], album.others, metric_table.NAMES)
  top, left, side = pictures.mouth_square(album.chosen[0].pair)
  assert side < 128 and top <= 60 and top + side >= 80 and left <= 45 and left + side >= 80, 'the mouth is in it'
  size, line, across = 4 * side, pictures.LINE, 4 * side + pictures.GAP
  assert sheet.shape == (line + 4 * (line + size), 3 * across - pictures.GAP, 3)
  tiles = [[sheet[2 * line + y * (line + size):][:size, x * across:][:, :size] for x in range(3)] for y in range(4)]
  enlarge = lambda rgb: cv2.resize(rgb[top:top + side, left:left + side], (size, size), interpolation=cv2.INTER_CUBIC)
  for x, shot in enumerate(album.chosen):
    shown = enlarge(shot.pair.true), enlarge(shot.pair.rgb)
    for y, expected in enumerate((*shown, pictures.difference(*shown), enlarge(album.others['ridge'][x]))):
      np.testing.assert_array_equal(tiles[y][x], expected)
  words = [sheet[y:y + line] for y in (0, *(line + y * (line + size) for y in range(4)))]
  assert all((band < 128).any() for band in words), 'columns and rows are named'
  assert pictures.mouth_sheets([], [], {}, metric_table.NAMES) == []


def test_as_many_mouths_stand_in_a_row_as_fit_the_page():
  mask = np.zeros((1080, 1920), bool)
  mask[500:700, 800:1100] = True
  frame = np.zeros((1080, 1920, 3), np.uint8)
  shots = [pictures.Shot(i, 30.0, scoring.Pair(frame, frame, mask)) for i in range(5)]
  sheets = pictures.mouth_sheets(shots, list('abcde'), {}, {'truth': 'talk.mp4', 'model': 'talk.mp4'})
  assert [sheet.shape[1] for sheet in sheets] == [964, 964, 480] and sheets[0].shape[1] <= pictures.PAGE_WIDTH
  assert sheets[0].shape[0] == pictures.LINE + 3 * (pictures.LINE + 480), 'two videos of one name are two rows'
  assert pictures.stacked(sheets).shape == (3 * (sheets[0].shape[0] + pictures.GAP), 964, 3)


def test_the_film_shows_true_and_ours_with_their_sound_and_stays_small():
  sound = np.round(9000 * np.sin(np.arange(16000 * 30) / 9)).astype(np.int16)
  rng = np.random.default_rng(0)
  true, ours = np.full((128, 160, 3), 200, np.uint8), np.full((128, 160, 3), 60, np.uint8)
  with SideBySide(('true', 'ours'), 25.0, sound[:16000]) as film:
    for row in range(25):
      film.keep(row, scoring.Pair(ours, true), {})
    data = film.mp4()
  with av.open(io.BytesIO(data)) as container:
    frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    assert container.streams.audio[0].duration * container.streams.audio[0].time_base == pytest.approx(1, abs=0.1)
  assert len(frames) == 25 and frames[0].shape == (24 + 128 + 160, 320, 3)
  np.testing.assert_allclose(frames[9][24:, :156], 200, atol=4)
  np.testing.assert_allclose(frames[9][24:, 164:], 60, atol=4)
  noise = rng.integers(0, 256, (7, 64, 64, 3), np.uint8)
  with SideBySide(('true', 'ours'), 25.0, sound) as film:
    for row in range(600):
      film.keep(row, scoring.Pair(noise[row % 7], noise[row % 5]), {})
    data = film.mp4()
  assert len(data) < 1.5e6, 'what no encoder can compress'
  with av.open(io.BytesIO(data)) as container:
    assert sum(1 for _ in container.decode(video=0)) == 500, 'the first 20 s'
  with SideBySide(('true', 'ours'), 25.0, None) as film:
    assert film.mp4() == b''


def test_the_same_plot_is_the_same_file():
  assert len({svg(plots.histogram({'ours': (np.arange(9.0), 'red')}, 'dB')) for _ in range(2)}) == 1


def test_no_legend_covers_axes_or_labels_or_leaves_the_plot():
  waves = np.sin(np.arange(500) / 3)
  breaks = [(0, 'one'), (75, 'a clip with a rather long name'), (300, 'three')]
  names = ['lip', 'residual_of_the_closed_mouth', 'face', 'silence', 'sync', 'depth', 'total']
  losses = [plots.Curve(name, np.arange(9), np.arange(1, 10) / 9, 'red') for name in names]
  figures = [plots.line_plot(losses, 'step', 'loss', True),
             plots.histogram({name: (waves, 'red') for name in metric_table.NAMES.values()}, 'PSNR mouth dB ↑'),
             plots.opening_plot([('true frames', 5 + waves, 'red'), ('ours', 4 + waves, 'blue')], waves, 25.0, breaks)]
  for figure in figures:
    figure.draw_without_rendering()
    legend, = figure.legends
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    assert len(legend.get_texts()) > 1 and not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)


def test_nothing_reads_minus_zero():
  row = dict.fromkeys(names_of_metrics.METRICS) | dict.fromkeys(('opening_corr', 'opening_lag_ms', 'sync_conf0'), -0.0001)
  rows = {'truth': row | {'sync_conf0': 0.5}, 'model': row | {'psnr_lip': 29.98, 'opening_amplitude': 0.9},
          'mean_lips': row | {'psnr_lip': 30.0}}
  text = str(verdict(rows, {'num_frames': 9})) + metric_table.markdown(rows)
  assert '+0.0 dB against' in text and not re.search(r'[-−]0\.?0*(?![.0-9])', text)


def test_a_weak_judge_is_told_in_the_first_lines_and_grades_nothing():
  row = dict.fromkeys(names_of_metrics.METRICS)
  rows = {'truth': row | {'sync_conf0': 0.16}, 'model': row | {'sync_conf0': 0.338}}
  record = {'num_frames': 9, 'judge': {'name': 'judge', 'kind': 'own', 'warnings': ['a weak judge: …', 'it gives ours …']}}
  sync, weak = verdict(rows, record)
  assert (sync.grade, weak.grade, weak.text) == ('', 'poor', 'a weak judge: …; it gives ours ….')
  record['judge']['warnings'] = []
  assert [line.grade for line in verdict(rows, record)] == ['good']


def test_reasons_are_told_once_with_every_metric_that_they_hold_for():
  text = metric_table.not_measured({'lpips_lip': 'give --lpips', 'sync_conf': 'give --judge', 'sync_dist': 'give --judge'})
  assert text == 'not measured: lpips_lip: give --lpips\nnot measured: sync_conf, sync_dist: give --judge\n'
  assert metric_table.not_measured({}) == ''


def test_the_best_row_is_told_among_ours_and_the_baselines():
  row = dict.fromkeys(names_of_metrics.METRICS)
  rows = {'truth': row | {'jitter_ratio': 1.0}, 'model': row | {'psnr_lip': 31.204, 'jitter_ratio': 0.7},
          'nearest': row | {'psnr_lip': 31.2, 'jitter_ratio': 1.2}, 'mean_lips': row | {'psnr_lip': 29.0, 'jitter_ratio': 0.4},
          'oracle': row | {'psnr_lip': 50.0}}
  assert metric_table.best_rows(rows, 'psnr_lip') == {'model', 'nearest'}, 'equal as shown'
  assert metric_table.best_rows(rows, 'jitter_ratio') == {'nearest'}
  assert metric_table.best_rows(rows, 'cpbd_lip') == set()
  assert '| model | 31.20 | 0.70 |' in metric_table.markdown(rows)


def test_a_judge_finds_a_late_mouth_less_confident(monkeypatch):
  monkeypatch.setattr(sync_judge, 'CHUNK', 16)
  rng = np.random.default_rng(0)
  speech = rng.normal(size=(90, 8)).astype(np.float32)
  speech /= np.linalg.norm(speech, axis=-1, keepdims=True)
  faces = np.clip(np.round(128 + 100 * speech), 0, 255).astype(np.uint8)  # a frame carries its own 8 numbers

  def embed_faces(faces, boxes):
    codes = (faces.reshape(-1, 5, 96, 96, 3)[:, 0, 0, :8, 0] - 128 / 255)
    return codes / jnp.linalg.norm(codes, axis=-1, keepdims=True)

  boxes = np.tile([10.0, 20.0, 106.0, 116.0], (90, 1))
  runs = [np.arange(80), np.arange(80, 90)]
  judge = sync_judge.FaceJudge(types.SimpleNamespace(embed_faces=embed_faces), runs, speech, boxes)

  def views(order):
    shown = []
    for row, source in enumerate(order):
      frame = np.zeros((130, 140, 3), np.uint8)
      frame[10, 20:28, 0] = faces[source]
      shown.append(judge.view(row, frame))
      np.testing.assert_array_equal(shown[-1][0, :8, 0], faces[source])
    return shown

  true, late = judge.scores(views(range(90))), judge.scores(views(np.maximum(np.arange(90) - 3, 0)))
  assert true['sync_conf0'] == pytest.approx(true['sync_conf']) and true['sync_conf'] > 0.9 and true['sync_acc5'] > 0.99
  assert late['sync_conf'] > 0.8 and abs(late['sync_conf0']) < 0.2


def write_video(path, frames, fps=25):
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=fps, options={'crf': '12'})
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt = 'yuv420p'
    for frame in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24')))
    container.mux(stream.encode())
  return str(path)


@pytest.fixture(scope='module')
def frames():
  return [np.roll(skimage.data.astronaut()[:256, 96:352], i % 5, axis=1) for i in range(32)]


def test_two_videos_without_a_landmark_model_are_compared_as_wholes(frames, tmp_path):
  ours = [np.clip(frame.astype(int) + 9, 0, 255).astype(np.uint8) for frame in frames[:30]]
  arguments = ['--video', write_video(tmp_path / 'a.mp4', ours, 30), '--against', write_video(tmp_path / 'b.mp4', frames, 30),
               '--out', str(tmp_path / 'out')]
  done = subprocess.run([sys.executable, '-m', 'speech2lip_jax', 'evaluate', *arguments], capture_output=True, text=True,
                        env=os.environ | {'XDG_CACHE_HOME': str(tmp_path), landmarks.MODEL_VARIABLE: ''})
  assert done.returncode == 0, done.stderr
  record = json.loads((tmp_path / 'out/metrics.json').read_text())
  assert record['num_frames'] == 30 and record['fps'] == 30, 'the rate is theirs, and two frames more are left out'
  assert 28 < record['psnr_img'] < 31 and record['ssim_img'] > 0.9
  nulls = {name for name in names_of_metrics.METRICS if record[name] is None}
  assert nulls == set(record['reasons']) == set(names_of_metrics.METRICS) - {'psnr_img', 'ssim_img'}
  remedy = '--landmarker' if importlib.util.find_spec('mediapipe') else '[preprocess]'
  assert remedy in record['reasons']['psnr_lip'] and '--lpips' in record['reasons']['lpips_lip']
  told = [line for line in done.stdout.splitlines() if line.startswith('not measured: ')]
  assert any('psnr_lip, ssim_lip, cpbd_lip' in line and remedy in line for line in told)
  assert any('sync_conf, sync_dist, sync_conf0, sync_acc5' in line and '--judge' in line for line in told)
  assert len(told) == len(set(record['reasons'].values()))
  assert (tmp_path / 'out/report.html').is_file() and (tmp_path / 'out/table.md').is_file()


def test_the_mouth_of_two_videos_is_found_by_landmarks(frames, tmp_path):
  model = shared.landmark_model()
  with landmarks.Detector(model) as detector:
    face = landmarks.to_pixels(detector.faces(np.ascontiguousarray(frames[0])), 256, 256)[0]
  mouth = scoring.mouth_rectangle(face, (256, 256))
  painted = [np.where(np.roll(mouth, i % 5, axis=1)[..., None], 255 - frame, frame) for i, frame in enumerate(frames)]
  true = write_video(tmp_path / 'b.mp4', frames)
  record = compare_videos.compare(write_video(tmp_path / 'a.mp4', painted), true, tmp_path / 'out', model)
  assert record['psnr_lip'] < 12 < record['psnr_img'] and record['ssim_lip'] < 0.3 < 0.9 < record['ssim_img']
  assert record['cpbd_lip'] is not None and record['mouth_region'] == compare_videos.MOUTH_REGION
  assert record['baselines']['truth']['lmd_px'] == 0
  blank = write_video(tmp_path / 'blank.mp4', [np.full((256, 256, 3), 90, np.uint8)] * 32)
  record = compare_videos.compare(true, blank, tmp_path / 'faceless', model)
  assert record['psnr_img'] is not None and record['psnr_lip'] is None
  assert 'no face is found in' in record['reasons']['lmd_px'] and 'blank.mp4' in record['reasons']['lmd_px']


@pytest.mark.parametrize('change,match', [
    (lambda frames: ([frame[:, :200] for frame in frames], 25), 'a.mp4: 200×256 pixels.*b.mp4: 256×256; scale'),
    (lambda frames: (frames, 30), 'a.mp4: 30 frames a second.*b.mp4: 25; bring'),
    (lambda frames: (frames[:20], 25), 'a.mp4: 20 frames.*b.mp4: 32; they may differ by 2: cut')])
def test_videos_that_do_not_fit_are_named_with_the_remedy(frames, tmp_path, change, match):
  ours, fps = change(frames)
  with pytest.raises(InputError, match=match):
    compare_videos.compare(write_video(tmp_path / 'a.mp4', ours, fps), write_video(tmp_path / 'b.mp4', frames), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_an_expert_of_one_subject_s_lips_cannot_judge_two_videos(frames, tmp_path):
  (tmp_path / 'expert.json').write_text('{"kind": "own"}')
  path = write_video(tmp_path / 'a.mp4', frames)
  with pytest.raises(InputError, match='convert --kind syncnet'):
    compare_videos.compare(path, path, tmp_path / 'out', judge=str(tmp_path))
