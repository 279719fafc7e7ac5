"""Dubbing into full frames, where the truth is known: a synthetic head in moving 1080p video of several rates.

    python benchmarks/full_frame.py --out FOLDER [--rates 25 30000/1001 60] [--seconds 40] [--landmarker FILE]

The video's last part is held out; there the head says its own sound again, and every picture of the source is the truth.

ours: `speech2lip dub`. oracle: the true canonical lips of each picture, read at the source's resolution and carried back. square:
a subject of --size 256 rendered at 25 frames a second, its mouth enlarged and pasted into the nearest picture: what there was before.
mouth psnr: dB, mean over held-out pictures, of those pixels whose C2O lies in the lip box. lag: of the painted opening behind the true
one, ms. outside: the largest difference of any sample beside what was painted, before encoding; and the PSNR there after encoding,
with that of the unchanged source encoded alike. s a picture: decoding, painting and encoding.
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
from speech2lip_jax.preprocess import pipeline, projection
from speech2lip_jax.rendering.trained import load_trained
from speech2lip_jax.synthetic.subject import SyntheticSubject
from speech2lip_jax.training.loop import train_and_evaluate

HEIGHT, WIDTH, HEAD = 1080, 1920, 720  # of the picture, and of the square that the head is rendered in
TOP, LEFT = 240, 600
PAN_PX_S = 40.0  # the background's


def make_video(path, rate, seconds):
  """The head over a moving background."""
  head = SyntheticSubject(HEAD, round(seconds * rate), seed=3, rate=float(rate))
  rng = np.random.default_rng(0)
  wall = cv2.GaussianBlur(rng.uniform(0, 255, (HEIGHT, 2 * WIDTH, 3)).astype(np.float32), (0, 0), 12)
  wall = np.clip(128 + 6 * (wall - wall.mean()), 0, 255)
  ease = np.minimum(np.arange(HEAD), np.arange(HEAD)[::-1]) / 60
  share = np.clip(np.minimum(ease[:, None] + 99 * (np.arange(HEAD)[:, None] > HEAD // 2), ease[None]), 0, 1)[..., None]
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
      place = picture[TOP:TOP + HEAD, LEFT:LEFT + HEAD]
      place[:] = share * head.render(frame).rgb + (1 - share) * place
      if TOP + HEAD < HEIGHT:
        picture[TOP + HEAD:, LEFT:LEFT + HEAD] = picture[TOP + HEAD - 1, LEFT:LEFT + HEAD]
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

  def write(self, picture, time_s):
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


def measure(out, rate, seconds, landmarker):
  """One row of the table."""
  video = out / f'{float(rate):.2f}.mp4'
  if not video.is_file():
    make_video(video, rate, seconds)
  head = SyntheticSubject(HEAD, round(seconds * rate), seed=3, rate=float(rate))
  source = open_source(str(video))
  facts = source.facts
  trained = trained_person(out / f'{float(rate):.2f}', video, None, 0.0, landmarker)
  footage = film.open_footage(trained, source, trained.subject, find_source(trained.subject, facts))
  first_s = float(trained.subject.origin().source_time[trained.split.test[0]])
  rows = np.flatnonzero((facts.times_s >= first_s) & (footage.may_paint == 1))
  mono, _ = media.read_sound(str(video), schema.SAMPLE_RATE, mono=True)
  plan = timeline.Timeline(rows, facts.times_s[rows] - facts.times_s[rows[0]], facts.times_s[rows], np.ones(len(rows), np.float32),
                           facts.duration_s - float(facts.times_s[rows[0]]))

  square = footage.square
  clipped = [max(square.top, 0), max(square.left, 0)]
  height = min(square.top + square.side, facts.height) - clipped[0]
  width = min(square.left + square.side, facts.width) - clipped[1]
  part = lambda picture: crop_rgb(picture, facts, *clipped, height, width)
  truth = [part(picture) for picture in source.read(rows)]

  # The oracle, and where a mouth is.
  reel = film._Reel(footage, plan)
  predictor = trained.predictor.on(reel.backdrop(None))
  box, depth = trained.subject.meta.lip_box, np.asarray(trained.subject.depth_canonical)

  def true_lips(wanted):
    lips = []
    for row in wanted:
      picture, view = film.read_square(next(source.read([rows[row]])), facts, square), footage.view
      lips.append(projection.read_lips(picture, box, depth, view.observed_from_canonical[rows[row]], view.focal, view.canonical_scale))
    return np.stack(lips) / np.float32(255)
  inside = (slice(clipped[0] - square.top, clipped[0] - square.top + height),
            slice(clipped[1] - square.left, clipped[1] - square.left + width))
  oracle, masks = [], []
  for prediction in predictor.from_lips(np.arange(len(rows)), true_lips):
    masks.append(prediction.mask_mouth[inside])
    oracle.append(psnr(prediction.rgb_face[inside], truth[len(masks) - 1], masks[-1]))

  # Ours, before encoding.
  untouched = []

  def look(number, picture):
    original = next(source.read([rows[number]])) if number % 25 == 0 else None
    if original is not None:
      for plane, own in zip(planes_of(picture), planes_of(original)):
        changed = np.abs(plane.astype(int) - own)
        scale = facts.stored_height // own.shape[0]
        top, left = clipped[0] // scale, clipped[1] // scale
        changed[top:top + -(-height // scale), left:left + -(-width // scale)] = 0
        untouched.append(int(changed.max()))
    return psnr(part(picture), truth[number], masks[number])
  ours = Kept(look)
  film.write_dub(trained, footage, plan, mono[0], ours)
  mouths = trained.sound_mouths_at(mono[0], plan.speech_s)
  shown = trained.predictor.openings(mouths.audio_embedding)
  true = head.shapes.opening[rows[rows < head.num_frames]]
  lag = lag_ms(facts.times_s[rows][:len(true)], shown[:len(true)], true)

  # Encoded.
  started = time.monotonic()
  with FilmWriter(out / 'dub.mp4', facts, np.zeros((1, 16_000), np.int16), 16_000) as writer:
    film.write_dub(trained, footage, plan, mono[0], writer)
  took = (time.monotonic() - started) / len(rows)
  with FilmWriter(out / 'same.mp4', facts, np.zeros((1, 16_000), np.int16), 16_000) as writer:
    for picture, time_s in zip(source.read(rows), plan.time_s, strict=True):
      writer.write(picture, time_s)
  outside = {}
  for name in ('dub', 'same'):
    coded = open_source(str(out / f'{name}.mp4'))
    outside[name] = np.mean([psnr(planes_of(a)[0][:, :clipped[1]], planes_of(b)[0][:, :clipped[1]], np.s_[:])
                             for a, b in zip(coded.read(range(len(rows))), source.read(rows))])

  # As a square of 256 px and 25 frames a second.
  small = trained_person(out / f'{float(rate):.2f}-256', video, 256, 1.0, landmarker)
  subject, origin = small.subject, small.subject.origin()
  left, top, side = origin.crop[0].round().astype(int)
  frames = {int(i): np.array(p.rgb_face) for i, p in zip(small.split.test, small.predictor.from_mouths(
      small.split.test, small.subject_mouths(small.split.test)))}
  windows = {int(i): p.window for i, p in zip(small.split.test, small.predictor.from_mouths(
      small.split.test, small.subject_mouths(small.split.test)))}
  pasted = []
  for number, row in enumerate(rows):
    frame = int(np.argmin(np.abs(origin.source_time - facts.times_s[row])))
    if frame not in frames:
      continue
    y, x, h, w = windows[frame]
    scale = side / subject.meta.width
    large = cv2.resize(frames[frame], (side, side), interpolation=cv2.INTER_CUBIC)
    y0, y1, x0, x1 = (round(v * scale) for v in (y, y + h, x, x + w))
    result = next(source.read([row]))
    whole = crop_rgb(result, facts, top, left, side, side)
    whole[y0:y1, x0:x1] = large[y0:y1, x0:x1]
    shift = clipped[0] - top, clipped[1] - left
    cut = np.zeros_like(truth[number])
    cut[:] = truth[number]
    a, b = max(0, -shift[0]), max(0, -shift[1])
    piece = whole[max(0, shift[0]):, max(0, shift[1]):][:cut.shape[0] - a, :cut.shape[1] - b]
    cut[a:a + piece.shape[0], b:b + piece.shape[1]] = piece
    pasted.append(psnr(cut, truth[number], masks[number]))
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  return (f'| {float(rate):.2f} | {len(rows)} | {np.mean(ours.kept):.2f} | {np.mean(pasted):.2f} | {np.mean(oracle):.2f} | {lag} | '
          f'{max(untouched)} | {outside["dub"]:.2f} / {outside["same"]:.2f} | {took:.3f} | {memory:.1f} |')


def main():
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--out', required=True, type=pathlib.Path)
  parser.add_argument('--rates', nargs='+', type=Fraction, default=[Fraction(25), Fraction(30000, 1001), Fraction(60)])
  parser.add_argument('--seconds', type=float, default=40.0)
  parser.add_argument('--landmarker')
  arguments = parser.parse_args()
  arguments.out.mkdir(parents=True, exist_ok=True)
  rows = [measure(arguments.out, rate, arguments.seconds, arguments.landmarker) for rate in arguments.rates]
  print('| frames/s | held out | ours | square | oracle | lag ms | outside | outside, encoded: dub / source | s a picture | GiB |\n'
        '|---|---|---|---|---|---|---|---|---|---|')
  print('\n'.join(rows))


if __name__ == '__main__':
  main()
