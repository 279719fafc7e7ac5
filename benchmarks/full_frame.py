"""Dubbing into full frames, where the truth is known: a synthetic head in moving 1080p video of several rates.

    python benchmarks/full_frame.py --out FOLDER [--rates 25 30000/1001 60] [--seconds 30] [--landmarker FILE] [--walk]
    python benchmarks/full_frame.py --run RUN [--clips 8]

--walk: the head is smaller and goes from side to side, further than a still square could hold it.

The video's last part is held out; there the head says its own sound again, and every picture of the source is the truth.

ours: `speech2lip dub`. oracle: the true canonical lips of each picture, read at the source's resolution and carried back. square: a
subject of --size 256 rendered at 25 frames a second, its mouth enlarged and pasted into the nearest picture: there was no other
way before. mouth psnr: dB, mean over held-out pictures, of those pixels whose C2O lies in the lip box. lag: of the painted opening
behind the true one, ms. outside: the largest difference of any sample beside what was painted, before encoding; and the PSNR there
after it, with that of the unchanged source encoded alike. s a picture: decoding, painting and encoding.
"""
import argparse
import pathlib
import resource
import time
from fractions import Fraction

import av
import cv2
import numpy as np
from scipy.interpolate import make_interp_spline

from speech2lip_jax.common import media, recipes
from speech2lip_jax.data import schema
from speech2lip_jax.dubbing import film, timeline
from speech2lip_jax.dubbing.close_up import find_source
from speech2lip_jax.dubbing.source import crop_rgb, open_source, planes_of
from speech2lip_jax.dubbing.target import FilmWriter
from speech2lip_jax.preprocess import pipeline, projection, video
from speech2lip_jax.rendering.trained import load_trained
from speech2lip_jax.synthetic.subject import SyntheticSubject
from speech2lip_jax.training.loop import train_and_evaluate

HEIGHT, WIDTH = 1080, 1920  # of the picture
HEAD, HEAD_WALKING = 720, 480  # of the square that the head is rendered in
PAN_PX_S = 40.0  # the background's


def head_of(rate, seconds, walks):
  """The head that is rendered."""
  return SyntheticSubject(HEAD_WALKING if walks else HEAD, round(seconds * rate), seed=3, rate=float(rate))


def place_of(time_s, walks):
  """(top, left) of the head's square at that time, pixels, between them too."""
  if not walks:
    return 240.0, 600.0
  return 300 + 25 * np.sin(2 * np.pi * time_s / 0.9), 720 + 600 * np.sin(2 * np.pi * time_s / 9.7)


def make_video(path, rate, seconds, walks):
  """The head over a moving background."""
  head = head_of(rate, seconds, walks)
  size = head.size
  rng = np.random.default_rng(0)
  wall = cv2.GaussianBlur(rng.uniform(0, 255, (HEIGHT, 2 * WIDTH, 3)).astype(np.float32), (0, 0), 12)
  wall = np.clip(128 + 6 * (wall - wall.mean()), 0, 255)
  ease = np.minimum(np.arange(size), np.arange(size)[::-1]) / 60
  share = np.clip(np.minimum(ease[:, None] + 99 * (np.arange(size)[:, None] > size // 2), ease[None]), 0, 1)
  sound, samples = head.speech.sound[None], schema.SAMPLE_RATE
  with av.open(str(path), 'w', options={'movflags': 'faststart'}) as file:
    stream = file.add_stream('libx264', rate=rate, options={'crf': '12', 'preset': 'veryfast'})
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
    for name, value in (('color_range', 1), ('colorspace', 1), ('color_primaries', 1), ('color_trc', 1)):
      setattr(stream.codec_context, name, value)
    audio = file.add_stream('aac', rate=samples, layout='mono')
    for frame in range(head.num_frames):
      shift = int(frame / float(rate) * PAN_PX_S) % WIDTH
      picture = wall[:, shift:shift + WIDTH].copy()
      top, left = place_of(frame / float(rate), walks)
      row, column, layer = int(top), int(left), np.dstack([head.render(frame).rgb, share]).astype(np.float32)
      if walks:  # between pixels
        layer = cv2.warpAffine(layer, np.array([[1, 0, left - column], [0, 1, top - row]]), (size, size), flags=cv2.INTER_CUBIC)
      layer = np.concatenate([layer, np.repeat(layer[-2:-1], max(0, HEIGHT - row - size), axis=0)])[:HEIGHT - row]
      place = picture[row:row + len(layer), column:column + size]
      place[:] = layer[..., 3:] * layer[..., :3] + (1 - layer[..., 3:]) * place
      picture = np.clip(np.rint(picture), 0, 255)
      file.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format='rgb24')))
    file.mux(stream.encode())
    sounding = av.AudioFrame.from_ndarray(sound, format='s16p', layout='mono')
    sounding.sample_rate = samples
    file.mux(audio.encode(sounding))
    file.mux(audio.encode())


def trained_person(folder, video, size, scale, landmarker):
  """A person trained on the video by the default recipe."""
  if not (folder / 'checkpoints').is_dir():
    pipeline.preprocess([str(video)], folder / 'subject', size, landmarker, canonical_scale=scale)
    config = recipes.load('default').get_config().unlock()
    config.data.path = str(folder / 'subject')
    train_and_evaluate(config.lock(), str(folder))
  return load_trained(str(folder))


class Kept:
  """Takes the place of a writer: keeps what is asked of each picture."""

  def __init__(self, keep):
    self.kept, self._keep = [], keep

  def write(self, picture, time_s, alpha=None):
    self.kept.append(self._keep(len(self.kept), picture))


def psnr(a, b, mask):
  error = np.square(a.astype(np.float64) - b)[mask].mean()
  return 10 * np.log10(255**2 / max(error, 1e-9))


def lag_ms(times_s, shown, true):
  """By how much `shown` is behind `true`, at the best correlation."""
  follow = make_interp_spline(times_s, shown)
  inner = (times_s > times_s[0] + 0.2) & (times_s < times_s[-1] - 0.2)
  lags = np.arange(-120, 121, 1)
  return int(lags[np.argmax([np.corrcoef(follow(times_s[inner] + lag / 1000), true[inner])[0, 1] for lag in lags])])


class Scene:
  """Pictures `rows` of a source that a trained person says again, and what is true there."""

  def __init__(self, trained, source, frames, index, rows):
    self.trained, self.source, self.rows, facts = trained, source, rows, source.facts
    self.footage = film.open_footage(trained, source, frames, index)
    self.squares = [self.footage.squares[row] for row in rows]
    begin_s = facts.times_s[rows[0]]
    self.plan = timeline.Timeline(rows, facts.times_s[rows] - begin_s, facts.times_s[rows], np.ones(len(rows), np.float32),
                                  facts.duration_s - float(begin_s))
    sound, _ = media.read_sound(facts.path, schema.SAMPLE_RATE, mono=True)
    self.mono, self.truth = sound[0], [self.part(number, picture) for number, picture in enumerate(source.read(rows))]

  def box(self, number):
    """(top, left, height, width) of the square of a picture, as far as it lies in it."""
    (top, left, side), facts = self.squares[number], self.source.facts
    inside_top, inside_left = max(top, 0), max(left, 0)
    return inside_top, inside_left, min(top + side, facts.height) - inside_top, min(left + side, facts.width) - inside_left

  def inside(self, number):
    """That part of the square."""
    top, left, height, width = self.box(number)
    square = self.squares[number]
    return np.s_[top - square.top:top - square.top + height, left - square.left:left - square.left + width]

  def part(self, number, picture):
    """That part of a picture."""
    return crop_rgb(picture, self.source.facts, *self.box(number))

  def oracle(self):
    """PSNR of the true lips, carried back; and where mouths are."""
    trained, footage, facts = self.trained, self.footage, self.source.facts
    box, depth, view = trained.subject.meta.lip_box, np.asarray(trained.subject.depth_canonical), footage.view
    predictor = trained.predictor.on(film.Reel(footage, self.plan).backdrop(None))

    pictures, known = self.source.read(self.rows), {}

    def true_lips(wanted):
      for number in wanted:
        if number not in known:  # a batch is filled up with its last one
          picture = film.read_square(next(pictures), facts, self.squares[number])
          pose = view.observed_from_canonical[self.rows[number]]
          known[number] = projection.read_lips(picture, box, depth, pose, view.focal, view.canonical_scale)
      return np.stack([known[number] for number in wanted]) / np.float32(255)
    scores, masks = [], []
    for number, prediction in enumerate(predictor.from_lips(np.arange(len(self.rows)), true_lips)):
      masks.append(prediction.mask_mouth[self.inside(number)])
      scores.append(psnr(prediction.rgb_face[self.inside(number)], self.truth[number], masks[-1]))
    return scores, masks

  def ours(self, masks):
    """PSNR of mouths and of whole pictures before encoding, and the largest difference beside the square."""
    untouched, whole, originals = [], [], self.source.read(self.rows)

    def look(number, picture):
      original = next(originals)
      if number % 10 == 0:
        for plane, own in zip(planes_of(picture), planes_of(original)):
          changed = np.abs(plane.astype(int) - own)
          scale = self.source.facts.stored_height // own.shape[0]
          top, left, height, width = self.box(number)
          changed[top // scale:-(-(top + height) // scale), left // scale:-(-(left + width) // scale)] = 0
          untouched.append(int(changed.max()))
        whole.append(psnr(video.to_rgb(picture, self.source.facts), video.to_rgb(original, self.source.facts), np.s_[:]))
      return psnr(self.part(number, picture), self.truth[number], masks[number])
    kept = Kept(look)
    film.write_dub(self.trained, self.footage, self.plan, self.mono, kept)
    return kept.kept, whole, max(untouched)


def clips(run, count):
  """A row for the held-out clips of a run, each of a source of its own."""
  trained, mouths, wholes, oracles = load_trained(run), [], [], []
  test = [clip for clip in trained.subject.meta.clips if clip.start in trained.split.test]
  for clip in test[::max(1, len(test) // count)]:
    source = open_source(clip.source)
    scene = Scene(trained, source, trained.subject, clip.source_index, np.arange(len(source.facts.times_s)))
    oracle, masks = scene.oracle()
    ours, whole, _ = scene.ours(masks)
    mouths, wholes, oracles = mouths + ours, wholes + whole, oracles + oracle
  return f'| {run} | {len(mouths)} | {np.mean(mouths):.2f} | {np.mean(oracles):.2f} | {np.mean(wholes):.2f} |'


def measure(out, rate, seconds, landmarker, walks):
  """A row for a rate."""
  name = f'{float(rate):.2f}' + '-walk' * walks
  path = out / f'{name}.mp4'
  if not path.is_file():
    unfinished = path.with_suffix('.unfinished.mp4')
    make_video(unfinished, rate, seconds, walks)
    unfinished.replace(path)
  head = head_of(rate, seconds, walks)
  source = open_source(str(path))
  facts = source.facts
  trained = trained_person(out / name, path, None, 0.0, landmarker)
  first_s = float(trained.subject.origin().source_time[trained.split.test[0]])
  rows = np.flatnonzero(facts.times_s >= first_s)
  scene = Scene(trained, source, trained.subject, find_source(trained.subject, facts), rows)
  oracle, masks = scene.oracle()
  ours, _, untouched = scene.ours(masks)
  shown = trained.predictor.openings(trained.sound_mouths_at(scene.mono, scene.plan.speech_s).audio_embedding)
  rows_with_truth = rows[rows < head.num_frames]
  lag = lag_ms(facts.times_s[rows_with_truth], shown[:len(rows_with_truth)], head.shapes.opening[rows_with_truth])

  silence = np.zeros((1, 16_000), np.int16)
  started = time.monotonic()
  with FilmWriter(out / 'dub.mp4', facts, silence, 16_000) as writer:
    film.write_dub(trained, scene.footage, scene.plan, scene.mono, writer)
  took = (time.monotonic() - started) / len(rows)
  with FilmWriter(out / 'same.mp4', facts, silence, 16_000) as writer:
    for picture, time_s in zip(source.read(rows), scene.plan.time_s, strict=True):
      writer.write(picture, time_s)
  outside = {}
  far = np.ones(facts.width, bool)
  for square in scene.squares:
    far[max(square.left, 0):square.left + square.side] = False
  for kind in ('dub', 'same'):
    coded = open_source(str(out / f'{kind}.mp4')).read(range(len(rows)))
    outside[kind] = np.mean([psnr(planes_of(a)[0][:, far], planes_of(b)[0][:, far], np.s_[:])
                             for a, b in zip(coded, source.read(rows))])
  pasted = '–' if walks else f'{np.mean(squares(out / f"{name}-256", path, scene, masks, landmarker)):.2f}'
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  return (f'| {name} | {len(rows)} | {np.mean(ours):.2f} | {pasted} | {np.mean(oracle):.2f} | {lag} | '
          f'{untouched} | {outside["dub"]:.2f} / {outside["same"]:.2f} | {took:.3f} | {memory:.1f} |')


def squares(folder, path, scene, masks, landmarker):
  """PSNR of mouths that were rendered in squares of 256 px at 25 frames a second."""
  small, facts = trained_person(folder, path, 256, 1.0, landmarker), scene.source.facts
  subject, test, scores = small.subject, small.split.test, []
  origin = subject.origin()
  left, top, side = origin.crop[0].round().astype(int).tolist()
  scale = side / subject.meta.width
  predictions = {int(frame): prediction for frame, prediction in zip(
      test, small.predictor.from_mouths(test, small.subject_mouths(test)), strict=True)}
  for number, (row, picture) in enumerate(zip(scene.rows, scene.source.read(scene.rows), strict=True)):
    frame = int(np.argmin(np.abs(origin.source_time - facts.times_s[row])))
    if frame in predictions:
      y, x, height, width = predictions[frame].window
      large = cv2.resize(predictions[frame].rgb_face, (side, side), interpolation=cv2.INTER_CUBIC)
      place = np.s_[round(y * scale):round((y + height) * scale), round(x * scale):round((x + width) * scale)]
      whole = np.array(video.to_rgb(picture, facts))
      whole[top:top + side, left:left + side][place] = large[place]
      top_in, left_in, height_in, width_in = scene.box(number)
      scores.append(psnr(whole[top_in:top_in + height_in, left_in:left_in + width_in], scene.truth[number], masks[number]))
  return scores


def main():
  """Prints the tables."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--out', type=pathlib.Path, help='for the synthetic videos')
  parser.add_argument('--rates', nargs='+', type=Fraction, default=[Fraction(25), Fraction(30000, 1001), Fraction(60)])
  parser.add_argument('--seconds', type=float, default=30.0)
  parser.add_argument('--landmarker')
  parser.add_argument('--walk', action='store_true')
  parser.add_argument('--run', help='instead: a workdir whose held-out clips are dubbed with their own sound')
  parser.add_argument('--clips', type=int, default=8)
  arguments = parser.parse_args()
  if arguments.run:
    print('| run | pictures | mouth | oracle | whole picture |\n|---|---|---|---|---|')
    print(clips(arguments.run, arguments.clips))
    return
  arguments.out.mkdir(parents=True, exist_ok=True)
  print('| frames/s | held out | ours | square | oracle | lag ms | outside | outside, encoded: dub / source | s a picture | GiB |\n'
        '|---|---|---|---|---|---|---|---|---|---|')
  for rate in arguments.rates:
    print(measure(arguments.out, rate, arguments.seconds, arguments.landmarker, arguments.walk), flush=True)


if __name__ == '__main__':
  main()
