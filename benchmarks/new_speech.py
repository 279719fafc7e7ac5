"""What does a model do with speech of other people, and where nobody speaks?

    python benchmarks/new_speech.py --workdir RUN --landmarker FILE --out DIR a.wav b.wav …

Each sound is rendered, followed by ten seconds of digital silence, over the subject's longest clip; then ten seconds of digital
silence and of room noise (pink, −50 dB of full scale) alone. Rows: the subject's own speech in its held-out frames, the sounds,
the silences.

  opening     mean of the lips' opening by landmarks in the rendered frames (`speech2lip_jax/metrics/opening.py`), and its
              standard deviation: of the spoken part; of the silent part without the second next to the sound
  energy      correlation of opening and loudness (dB, both smoothed over 5 frames) in the spoken part, at its
              best lag within ± 5 frames; for own speech the mean over clips, and that of the true opening: the most to be asked
  flicker     mean change of the mouth's pixels between neighbouring frames over one and the same background, in grey levels

DIR gets a contact sheet of each sound: every 4th frame's mouth, its time and the loudness below it.
"""
import argparse
import pathlib
import sys

import cv2
import numpy as np
from scipy.io import wavfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from speech2lip_jax.data import schema  # noqa: E402
from speech2lip_jax.data.dataset import runs_of  # noqa: E402
from speech2lip_jax.metrics.opening import lip_opening  # noqa: E402
from speech2lip_jax.preprocess import landmarks  # noqa: E402
from speech2lip_jax.rendering import film, silence  # noqa: E402
from speech2lip_jax.rendering.trained import load_trained  # noqa: E402

SILENT_FRAMES = 10 * schema.FPS
MAX_LAG, SMOOTH = 5, 5
COLUMNS, EVERY, TILE = 16, 4, 96


def loudness(mono, num_frames):
  """dB of each video frame's samples, not below −60."""
  padded = np.zeros(num_frames * schema.SAMPLES_PER_FRAME)
  padded[:min(len(mono), len(padded))] = mono[:len(padded)]
  power = np.square(padded.reshape(num_frames, -1) / 32768).mean(1)
  return 10 * np.log10(np.maximum(power, 1e-6))


def follows(opening, level):
  """The correlation of opening and loudness at its best lag."""
  smooth = lambda x: np.convolve(x, np.ones(SMOOTH) / SMOOTH, 'same')
  a, b = smooth(opening), smooth(level)
  inner = slice(MAX_LAG, len(a) - MAX_LAG)
  return max(np.corrcoef(np.roll(a, lag)[inner], b[inner])[0, 1] for lag in range(-MAX_LAG, MAX_LAG + 1))


def room_noise(num_samples, db):
  spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(num_samples))
  noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 10)), num_samples)
  return (noise / noise.std() * 10 ** (db / 20) * 32768).astype(np.int16)


def contact_sheet(frames, level, path):
  """Every EVERY-th mouth in rows of COLUMNS, with its time and a bar of its loudness."""
  tiles = []
  for i in range(0, len(frames), EVERY):
    height, width = frames[i].shape[:2]
    mouth = frames[i][height // 2:, width // 5:-(width // 5)]
    tile = cv2.resize(mouth, (TILE, TILE), interpolation=cv2.INTER_AREA)
    cv2.putText(tile, f'{i / schema.FPS:.2f}', (2, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (255, 255, 255), 1, cv2.LINE_AA)
    tile[-4:] = 0
    tile[-4:, :int(TILE * (level[i] + 60) / 60)] = (80, 220, 80)
    tiles.append(tile)
  tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
  sheet = np.vstack([np.hstack(tiles[i:i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)])
  cv2.imwrite(str(path), sheet[..., ::-1])


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--landmarker')
  parser.add_argument('--out', required=True, type=pathlib.Path)
  parser.add_argument('sounds', nargs='+', type=pathlib.Path)
  arguments = parser.parse_args()
  arguments.out.mkdir(parents=True, exist_ok=True)
  trained = load_trained(arguments.workdir)
  subject, test = trained.subject, trained.split.test
  own = lip_opening(np.asarray(subject.landmarks))
  closed = silence.closed_frames(subject, trained.split.train)
  print(f'own closed mouth (`silence.closed_frames`): opening {own[closed].mean():.4f}; '
        f'training frames: mean {own[trained.split.train].mean():.4f}, std {own[trained.split.train].std():.4f}\n')

  with landmarks.Detector(landmarks.find_model(arguments.landmarker)) as detector:
    def opening_of(frame):
      faces = detector.faces(frame)
      return lip_opening(landmarks.to_pixels(faces[0], frame.shape[1], frame.shape[0])) if len(faces) else np.nan

    def rendered(ids, mouths):
      frames = [prediction.rgb_face for prediction in trained.predictor.from_mouths(ids, mouths)]
      opening = np.array([opening_of(frame) for frame in frames])
      known = np.isfinite(opening)
      return frames, np.interp(np.arange(len(opening)), np.flatnonzero(known), opening[known])

    def flicker(ids, mouths, count=100):
      frames = [p.rgb_face for p in trained.predictor.from_mouths(np.full(count, ids[0]), silence.Mouths(
          mouths.audio_embedding[-count:], mouths.rest[-count:], mouths.residual))]
      change = np.abs(np.diff(np.asarray(frames, np.float32), axis=0)).mean((0, 3))
      return change[change > 0].mean() if change.any() else 0.0

    numbers = lambda x: f'{x.mean():.4f} ± {x.std():.4f}'
    print('| sound | opening, spoken | energy | opening, silent | flicker, silent |\n|---|---|---|---|---|')
    _, opening = rendered(test, trained.subject_mouths(test))
    _, sound = wavfile.read(subject.folder / 'audio.wav', mmap=True)
    level = loudness(sound, subject.meta.num_frames)[test]
    runs = [rows for rows in runs_of(subject, test) if len(rows) > 4 * MAX_LAG]
    mean = lambda side: np.mean([follows(side[rows], level[rows]) for rows in runs])
    print(f'| own, held out | {numbers(opening)} | {mean(opening):.2f} (true {mean(own[test]):.2f}) | | |', flush=True)
    for path in arguments.sounds:
      mono = film.read_speech(str(path)).mono
      spoken = len(mono) // schema.SAMPLES_PER_FRAME
      mono = np.concatenate([mono, np.zeros(SILENT_FRAMES * schema.SAMPLES_PER_FRAME, np.int16)])
      ids = film.background_frames(subject, spoken + SILENT_FRAMES, None)
      mouths = trained.sound_mouths(mono, len(ids))
      frames, opening = rendered(ids, mouths)
      level = loudness(mono, len(ids))
      contact_sheet(frames, level, arguments.out / f'{path.stem}.png')
      silent = opening[spoken + schema.FPS:]
      print(f'| {path.stem} | {numbers(opening[:spoken])} | {follows(opening[:spoken], level[:spoken]):.2f} | {numbers(silent)} | '
            f'{flicker(ids, mouths):.3f} |', flush=True)
    num_samples = SILENT_FRAMES * schema.SAMPLES_PER_FRAME
    for name, mono in (('digital silence', np.zeros(num_samples, np.int16)), ('room noise', room_noise(num_samples, -50))):
      ids = film.background_frames(subject, SILENT_FRAMES, None)
      mouths = trained.sound_mouths(mono, len(ids))
      _, opening = rendered(ids, mouths)
      print(f'| {name} | | | {numbers(opening)} | {flicker(ids, mouths):.3f} |', flush=True)


if __name__ == '__main__':
  main()
