"""What does a model do with voices that are not its subject's, and where nobody speaks?

    python benchmarks/new_speech.py --workdir RUN [--other RUN_OF_ANOTHER_PERSON] --out DIR [a.wav b.wav …]

Each RUN is a column. Everything is measured on the canonical lips that the model paints:

  other voices    The subject's held-out clips, each by itself, in the ten voices of `voices.py`: the mouth is the same whoever
                  says it, so the truth is known. psnr: of the lip image, dB. corr, amplitude: of the opening against the true
                  one by landmarks, within clips (`speech2lip_jax/metrics/opening.py`).
  another person  RUN, driven by the sound of the other RUN's subject (its clips from the first on, up to 100 s), against *their*
                  true opening. corr: within clips, weighted by length, at the one lag of −2 … 2 frames that is best over all
                  clips (above 0 the mouth is late). loudness alone: the sound's level in place of the mouth.
  closed          Shares of frames below the closed threshold. The sounds m, b, p and the others are the synthetic subject's,
                  whose phoneme times are known: frames whose middle falls in one. Closures made: m, b and p with a closed
                  frame between 1 frame before and 1 after. Spoken frames and pauses are told by the detector of speech;
                  pauses last 0.3 to 1 s, their first and last 2 frames do not count.
  nobody          Ten seconds of digital silence and of room noise (pink, −50 dB of full scale). flicker: mean change of the
                  mouth's pixels between neighbouring frames over one and the same background, in grey levels.

The closed threshold is `metrics.opening.closed_threshold`, of the training frames and the closed mouths among them
(`silence.closed_frames`).

Openings of painted lips are read by a gauge: kernel ridge regression from the lip image (each brought to mean 0 and variance 1)
to the opening by landmarks, learned from 1500 training frames. On the true lips of held-out frames it must correlate with the
landmarks by .97; where it does not, lips are composed into one and the same frame, the canonical one, and the landmark model
reads that. A line says which. Frames of their own would not do: the landmark model sees the true jaw around the painted lips.

DIR gets a contact sheet of each sound and of the synthetic voice: every 4th frame's mouth with its time, the loudness below it,
an orange border where it is closed, and the phoneme where it is known.
"""
import argparse
import contextlib
import pathlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.kernel_ridge import KernelRidge

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import voices  # noqa: E402
from speech2lip_jax.data import schema, voice_activity  # noqa: E402
from speech2lip_jax.data.dataset import Subject, evenly_spaced, runs_of  # noqa: E402
from speech2lip_jax.data.utterance import read_utterance
from speech2lip_jax.metrics.opening import agreement, closed_threshold, lip_opening  # noqa: E402
from speech2lip_jax.preprocess import landmarks  # noqa: E402
from speech2lip_jax.rendering import film, silence  # noqa: E402
from speech2lip_jax.rendering.predictor import Prediction  # noqa: E402
from speech2lip_jax.rendering.trained import Trained, load_trained  # noqa: E402
from speech2lip_jax.synthetic import speech  # noqa: E402

GAUGE_FRAMES, GAUGE_COMPONENTS, GAUGE_RIDGE, GAUGE_WIDTH, GAUGE_CORRELATION = 1500, 128, 0.01, 0.1, 0.97
MAX_LAG, OTHER_SECONDS = 2, 100
PAUSE_S, PAUSE_MARGIN = (0.3, 1.0), 2
CLOSURE_MARGIN_S = 1 / schema.FPS
SYNTHETIC_FRAMES = 60 * schema.FPS
SILENT_FRAMES, ROOM_NOISE_DB = 10 * schema.FPS, -50
FLICKER_FRAMES = 100
COLUMNS, EVERY, TILE = 16, 4, 96


class Gauge:
  """Openings of canonical lips, learned from a subject's training frames."""

  def __init__(self, subject: Subject, train_ids: np.ndarray):
    self._subject = subject
    known = evenly_spaced(train_ids, GAUGE_FRAMES)
    self._pca = PCA(min(GAUGE_COMPONENTS, len(known)), svd_solver='randomized', random_state=0)
    places = self._pca.fit_transform(self._pictures(subject.rgb_lip_canonical[known]))
    self._ridge = KernelRidge(alpha=GAUGE_RIDGE, kernel='rbf', gamma=GAUGE_WIDTH / np.square(places).sum(1).mean())
    opening = lip_opening(np.asarray(subject.landmarks[known]))
    self._mean = opening.mean()
    self._ridge.fit(places, opening - self._mean)

  @staticmethod
  def _pictures(lips: np.ndarray) -> np.ndarray:
    pictures = lips.reshape(len(lips), -1).astype(np.float32)
    pictures -= pictures.mean(1, keepdims=True)
    return pictures / np.maximum(pictures.std(1, keepdims=True), 1e-6)

  def of_lips(self, lips: np.ndarray) -> np.ndarray:
    """Openings [n] of lips [n, h, w, 3] uint8."""
    return self._ridge.predict(self._pca.transform(self._pictures(lips))) + self._mean


class Person(NamedTuple):
  """A trained workdir with what is true of its subject.

  own: [N] openings by landmarks of all frames. threshold: openings below are closed. opening: of mouths [n], → [n].
  """
  name: str
  trained: Trained
  own: np.ndarray
  threshold: float
  opening: Callable[[silence.Mouths], np.ndarray]


class Sound(NamedTuple):
  """mono: [m] int16, 16 kHz. phonemes: cover all of it in order, where they are known."""
  name: str
  mono: np.ndarray
  phonemes: tuple[speech.Phoneme, ...] = ()

  @property
  def num_frames(self) -> int:
    return max(1, round(len(self.mono) / schema.SAMPLES_PER_FRAME))

  @property
  def symbols(self) -> np.ndarray | None:
    """[num_frames] the phoneme in the middle of each frame, where they are known."""
    if not self.phonemes:
      return None
    ends = np.array([phoneme.end for phoneme in self.phonemes])
    places = np.minimum(np.searchsorted(ends, speech.frame_times(self.num_frames), side='right'), len(ends) - 1)
    return np.array([phoneme.symbol for phoneme in self.phonemes])[places]


def painted(trained: Trained, mouths: silence.Mouths) -> np.ndarray:
  """The canonical lips of mouths [n]: [n, h, w, 3] uint8."""
  return trained.predictor.painted_lips(np.full(len(mouths.rest), trained.subject.meta.canonical_frame), mouths)


def open_person(workdir: str, landmarker: str | None, by_landmarks: bool, opened: contextlib.ExitStack) -> Person:
  """Opens a workdir and prints how its openings are read; a landmark detector is closed with `opened`."""
  trained = load_trained(workdir)
  subject, split = trained.subject, trained.split
  own = lip_opening(np.asarray(subject.landmarks))
  closed = own[silence.closed_frames(subject, split.train)]
  threshold = closed_threshold(own[split.train], closed)
  gauge = Gauge(subject, split.train)
  read = gauge.of_lips(np.asarray(subject.rgb_lip_canonical[split.test]))
  quality = agreement(read, own[split.test], runs_of(subject, split.test), schema.FPS)
  alike = np.mean((read < threshold) == (own[split.test] < threshold))
  use_gauge = not by_landmarks and quality['opening_corr'] >= GAUGE_CORRELATION
  name = pathlib.Path(workdir).name
  print(f'{name}: gauge on the true lips of held-out frames: correlation {quality["opening_corr"]:.3f}, amplitude '
        f'{quality["opening_amplitude"]:.2f}, closed or open as by landmarks in {percent(alike)}; '
        f'openings by {"the gauge" if use_gauge else "landmarks in the canonical frame"}; '
        f'closed mouth {closed.mean():.4f}, threshold {threshold:.4f}', flush=True)
  if use_gauge:
    opening = lambda mouths: gauge.of_lips(painted(trained, mouths))
  else:
    detector = opened.enter_context(landmarks.Detector(landmarks.find_model(landmarker)))
    opening = lambda mouths: landmark_openings(trained, detector, mouths)
  return Person(name, trained, own, threshold, opening)


def landmark_openings(trained: Trained, detector: landmarks.Detector, mouths: silence.Mouths) -> np.ndarray:
  """Openings [n] by landmarks, all mouths in the canonical frame; between its neighbours where no face is found."""
  opening = np.full(len(mouths.rest), np.nan)
  frame_ids = np.full(len(opening), trained.subject.meta.canonical_frame)
  for i, prediction in enumerate(trained.predictor.from_mouths(frame_ids, mouths)):
    frame = prediction.rgb_face
    faces = detector.faces(frame)
    if len(faces):
      opening[i] = lip_opening(landmarks.to_pixels(faces[0], frame.shape[1], frame.shape[0]))
  known = np.flatnonzero(np.isfinite(opening))
  return np.interp(np.arange(len(opening)), known, opening[known])


def clips_mouths(trained: Trained, subject: Subject, ids: np.ndarray, runs: list[np.ndarray],
                 convert: Callable[[np.ndarray], np.ndarray]) -> silence.Mouths:
  """Mouths of the runs of frames of `subject`, each run's sound converted and heard by itself."""
  parts = [trained.sound_mouths(convert(subject.sound[ids[rows]].reshape(-1)), len(rows)) for rows in runs]
  return silence.Mouths(np.concatenate([part.audio_embedding for part in parts]), np.concatenate([part.rest for part in parts]),
                        parts[0].residual)


def rows_of(mouths: silence.Mouths, rows: slice) -> silence.Mouths:
  return silence.Mouths(mouths.audio_embedding[rows], mouths.rest[rows], mouths.residual)


def back_to_back(runs: list[np.ndarray]) -> list[np.ndarray]:
  """The rows of runs that stand one after another without a gap."""
  return np.split(np.arange(sum(map(len, runs))), np.cumsum([len(rows) for rows in runs])[:-1])


def other_voices(person: Person) -> dict[str, dict[str, float]]:
  """psnr, opening_corr and opening_amplitude for the own voice and each conversion, and the mean of the conversions."""
  trained, subject, test = person.trained, person.trained.subject, person.trained.split.test
  found = runs_of(subject, test)
  ids, runs = test[np.concatenate(found)], back_to_back(found)
  truth = np.asarray(subject.rgb_lip_canonical[ids]).astype(np.float32)
  result = {}
  for name, convert in {'own voice': lambda mono: mono, **voices.CONVERSIONS}.items():
    mouths = clips_mouths(trained, subject, ids, runs, convert)
    error = np.square(painted(trained, mouths) - truth).mean((1, 2, 3))
    result[name] = {'psnr': float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-6)))),
                    **agreement(person.opening(mouths), person.own[ids], runs, schema.FPS)}
  changed = [result[name] for name in voices.CONVERSIONS]
  result['mean of the ten'] = {key: float(np.mean([row[key] for row in changed])) for key in changed[0]}
  return result


def best_correlation(series: np.ndarray, truth: np.ndarray, runs: list[np.ndarray]) -> tuple[float, int]:
  """The correlation within runs, weighted by length, at the lag that is best over all of them, and that lag in frames."""
  runs = [rows for rows in runs if len(rows) > schema.FPS and min(series[rows].std(), truth[rows].std()) > 1e-6]

  def at(lag):
    pairs = [(series[rows[max(0, lag):len(rows) + min(0, lag)]], truth[rows[max(0, -lag):len(rows) - max(0, lag)]])
             for rows in runs]
    return float(np.average([np.corrcoef(a, b)[0, 1] for a, b in pairs], weights=[len(a) for a, _ in pairs]))
  return max((at(lag), lag) for lag in range(-MAX_LAG, MAX_LAG + 1))


def another_person(person: Person, speaker: Person) -> dict[str, float]:
  """corr and lag of `person`'s model driven by `speaker`'s sound against the speaker's opening, and loudness against it."""
  subject = speaker.trained.subject
  seen = np.flatnonzero(~subject.is_interpolated)
  taken, runs = 0, []
  for rows in runs_of(subject, seen):
    if taken < OTHER_SECONDS * schema.FPS:
      runs.append(rows)
      taken += len(rows)
  ids, runs = seen[np.concatenate(runs)], back_to_back(runs)
  mouths = clips_mouths(person.trained, subject, ids, runs, lambda mono: mono)
  corr, lag = best_correlation(person.opening(mouths), speaker.own[ids], runs)
  level, _ = best_correlation(loudness(subject.sound[ids].reshape(-1)), speaker.own[ids], runs)
  return {'corr': corr, 'lag': lag, 'loudness': level}


def loudness(mono: np.ndarray) -> np.ndarray:
  """dB of each whole frame's samples, not below −60."""
  count = len(mono) // schema.SAMPLES_PER_FRAME
  frames = mono[:count * schema.SAMPLES_PER_FRAME].reshape(count, -1).astype(np.float64) / 32768
  return 10 * np.log10(np.maximum(np.square(frames).mean(1), 1e-6))


def pause_frames(spoken: np.ndarray) -> np.ndarray:
  """[n] bool: the inside of the pauses of 0.3 to 1 s between spoken frames [n] bool."""
  inside = np.zeros(len(spoken), bool)
  for (run,) in ndimage.find_objects(ndimage.label(~spoken)[0]):
    if run.start > 0 and run.stop < len(spoken) and PAUSE_S[0] <= (run.stop - run.start) / schema.FPS <= PAUSE_S[1]:
      inside[run.start + PAUSE_MARGIN:run.stop - PAUSE_MARGIN] = True
  return inside


def share(closed: np.ndarray, where: np.ndarray) -> float:
  """Share of closed frames among those; nan where there is none."""
  return float(closed[where].mean()) if where.any() else float('nan')


def own_closed(person: Person) -> dict[str, dict[str, float]]:
  """Closed shares in the subject's held-out speech: the truth's and ours, spoken and in pauses."""
  subject, test = person.trained.subject, person.trained.split.test
  found = runs_of(subject, test)
  ids, runs = test[np.concatenate(found)], back_to_back(found)
  mouths = clips_mouths(person.trained, subject, ids, runs, lambda mono: mono)
  heard = [voice_activity.speech_frames(subject.sound[ids[rows]].reshape(-1), len(rows)) for rows in runs]
  spoken, pauses = np.concatenate(heard), np.concatenate([pause_frames(part) for part in heard])
  return {name: {'spoken': share(closed, spoken), 'pauses': share(closed, pauses)} for name, closed in (
      ('own speech, the truth', person.own[ids] < person.threshold),
      ('own speech, ours', person.opening(mouths) < person.threshold))}


def driven_by(person: Person, sound: Sound, out: pathlib.Path) -> dict[str, float]:
  """Closed shares with a sound, of which a contact sheet is written."""
  trained, count = person.trained, sound.num_frames
  ids = film.background_frames(trained.subject, count, None)
  mouths = trained.sound_mouths(sound.mono, count)
  closed = person.opening(mouths) < person.threshold
  shown = list(trained.predictor.from_mouths(ids[::EVERY], rows_of(mouths, slice(None, None, EVERY))))
  padded = np.pad(sound.mono, (0, max(0, count * schema.SAMPLES_PER_FRAME - len(sound.mono))))
  contact_sheet(shown, loudness(padded)[::EVERY], closed[::EVERY], sound.symbols, out / f'{person.name}_{sound.name}.png')
  spoken = voice_activity.speech_frames(padded, len(padded) // schema.SAMPLES_PER_FRAME)[:count]
  result = {'spoken': share(closed, spoken), 'pauses': share(closed, pause_frames(spoken))}
  if sound.symbols is None:
    return result
  closers = [phoneme for phoneme in sound.phonemes if phoneme.symbol in speech.LIP_CLOSERS]
  times = speech.frame_times(count)
  made = [closed[(times > phoneme.start - CLOSURE_MARGIN_S) & (times < phoneme.end + CLOSURE_MARGIN_S)].any()
          for phoneme in closers]
  at = np.isin(sound.symbols, list(speech.LIP_CLOSERS))
  return result | {'m b p': share(closed, at), 'other sounds': share(closed, ~at & (sound.symbols != '_')),
                   'made': float(np.mean(made))}


def contact_sheet(shown: list[Prediction], level: np.ndarray, closed: np.ndarray, symbols: np.ndarray | None,
                  path: pathlib.Path) -> None:
  """The mouths of every EVERY-th frame in rows of COLUMNS, as the module says. symbols: of all frames."""
  tiles = []
  text = lambda tile, words, place: cv2.putText(tile, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.33, (255, 255, 255), 1, cv2.LINE_AA)
  for i, prediction in enumerate(shown):
    top, left, height, width = prediction.window
    tile = cv2.resize(prediction.rgb_face[top:top + height, left:left + width], (TILE, TILE), interpolation=cv2.INTER_AREA)
    if closed[i]:
      cv2.rectangle(tile, (0, 0), (TILE - 1, TILE - 5), (255, 150, 0), 2)
    text(tile, f'{i * EVERY / schema.FPS:.2f}', (4, 12))
    if symbols is not None:
      text(tile, symbols[i * EVERY], (4, TILE - 10))
    tile[-4:] = 0
    tile[-4:, :int(TILE * (level[i] + 60) / 60)] = (80, 220, 80)
    tiles.append(tile)
  tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
  sheet = np.vstack([np.hstack(tiles[i:i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)])
  cv2.imwrite(str(path), sheet[..., ::-1])


def nobody(person: Person, mono: np.ndarray) -> dict[str, float]:
  """Opening and flicker where nobody speaks."""
  trained = person.trained
  ids = film.background_frames(trained.subject, SILENT_FRAMES, None)
  mouths = trained.sound_mouths(mono, SILENT_FRAMES)
  opening = person.opening(mouths)
  still = np.full(FLICKER_FRAMES, ids[0])
  frames = [p.rgb_face for p in trained.predictor.from_mouths(still, rows_of(mouths, slice(-FLICKER_FRAMES, None)))]
  change = np.abs(np.diff(np.asarray(frames, np.float32), axis=0)).mean((0, 3))
  return {'mean': float(opening.mean()), 'std': float(opening.std()), 'closed': float((opening < person.threshold).mean()),
          'flicker': float(change[change > 0].mean()) if change.any() else 0.0}


def percent(value: float) -> str:
  return '–' if np.isnan(value) else f'{100 * value:.1f} %'


def print_table(title: str, people: list[Person], rows: dict[str, list[str]]) -> None:
  """One row a name, one cell a person."""
  print(f'\n| {title} | ' + ' | '.join(person.name for person in people) + ' |\n' + '|---' * (len(people) + 1) + '|')
  for name, cells in rows.items():
    print(f'| {name} | ' + ' | '.join(cells) + ' |', flush=True)


def measure(people: list[Person], sounds: list[Sound], out: pathlib.Path) -> None:
  """Prints the tables, each as soon as it is measured, and writes the contact sheets."""
  measured = [other_voices(person) for person in people]
  print_table('other voices: psnr dB, corr, amplitude', people, {name: [
      f'{numbers[name]["psnr"]:.2f}, {numbers[name]["opening_corr"]:.3f}, {numbers[name]["opening_amplitude"]:.2f}'
      for numbers in measured] for name in measured[0]})
  if len(people) == 2:
    crossed = [another_person(person, speaker) for person, speaker in zip(people, people[::-1], strict=True)]
    print_table('another person', people, {
        'corr with their opening, lag in frames': [f'{numbers["corr"]:.3f}, {numbers["lag"]:+d}' for numbers in crossed],
        'loudness alone': [f'{numbers["loudness"]:.3f}' for numbers in crossed]})

  own = [own_closed(person) for person in people]
  said = speech.make_speech(SYNTHETIC_FRAMES, 0)
  synthetic = [driven_by(person, Sound('synthetic', said.sound, said.phonemes), out) for person in people]
  print_table('closed, of the synthetic voice', people, {title: [percent(numbers[key]) for numbers in synthetic] for title, key in (
      ('at m, b, p', 'm b p'), ('at other sounds', 'other sounds'), ('closures made', 'made'))})
  rows = {name: [numbers[name] for numbers in own] for name in own[0]}
  rows['synthetic voice'] = synthetic
  rows |= {sound.name: [driven_by(person, sound, out) for person in people] for sound in sounds}
  base = [numbers['own speech, ours']['spoken'] for numbers in own]
  print_table('closed: spoken frames (as a share of own speech\'s, ours), pauses of 0.3 to 1 s', people, {name: [
      f'{percent(numbers["spoken"])} ({numbers["spoken"] / max(share_of_own, 1e-9):.2f}), {percent(numbers["pauses"])}'
      for numbers, share_of_own in zip(row, base, strict=True)] for name, row in rows.items()})

  num_samples = SILENT_FRAMES * schema.SAMPLES_PER_FRAME
  noise = np.round(voices.pink_noise(num_samples) * 10 ** (ROOM_NOISE_DB / 20) * 32768).astype(np.int16)
  rows = {name: [nobody(person, mono) for person in people]
          for name, mono in (('digital silence', np.zeros(num_samples, np.int16)), ('room noise', noise))}
  print_table('nobody: opening, closed frames, flicker', people, {name: [
      f'{numbers["mean"]:.4f} ± {numbers["std"]:.4f}, {percent(numbers["closed"])}, {numbers["flicker"]:.3f}' for numbers in row]
      for name, row in rows.items()})


def main() -> None:
  """Opens what is asked for and measures it."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--workdir', required=True, help='of speech2lip train')
  parser.add_argument('--other', help='the same of another person')
  parser.add_argument('--out', required=True, type=pathlib.Path, help='for the contact sheets')
  parser.add_argument('--by_landmarks', action='store_true', help='openings by landmarks in the canonical frame, not by the gauge')
  parser.add_argument('--landmarker', help='face_landmarker.task, where openings are by landmarks')
  parser.add_argument('sounds', nargs='*', type=pathlib.Path)
  options = parser.parse_args()
  sounds = [Sound(path.stem, read_utterance(str(path)).mono) for path in options.sounds]
  options.out.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as opened:
    measure([open_person(workdir, options.landmarker, options.by_landmarks, opened)
             for workdir in (options.workdir, options.other) if workdir], sounds, options.out)


if __name__ == '__main__':
  main()
