"""Makes every picture and video of this gallery from a finished demo; the moving picture of the README is the first of them.

    apt install espeak-ng
    speech2lip demo --workdir demo
    python docs/gallery/make.py demo docs/gallery

    demo.webp          true held-out frames, ours from their sound, and another voice; below each head its mouth, enlarged
    voices.webp        the same head in four voices and languages, and NAME.mp4 of each, with sound
    poses.webp         the head where the video had it, turned, nodding, and nearer
    full_frame.webp    another take in a moving 16:9 picture of 30 frames a second beside its dub, and full_frame.mp4, with sound

What takes long lies in DEMO/gallery and is not made again. The head of the demo is a NASA portrait (public domain).
"""
import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator

import av
import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from speech2lip_jax import Person, open_person
from speech2lip_jax.common.files import open_atomic
from speech2lip_jax.data import schema
from speech2lip_jax.data.dataset import Subject
from speech2lip_jax.data.utterance import Utterance
from speech2lip_jax.dubbing.text import EspeakNg
from speech2lip_jax.preprocess import video
from speech2lip_jax.rendering import film
from speech2lip_jax.synthetic.subject import SyntheticSubject

VOICES = (  # file, what stands above it, espeak-ng's voice, what it says
    ('english', 'English', 'en-us', 'Good evening. This is a voice that the model has never heard.'),
    ('french', 'French, a woman', 'fr-fr+f3', 'Bonsoir. Voici une voix que ce modèle ne connaît pas.'),
    ('spanish', 'Spanish', 'es+m3', 'Buenas noches. Esta es una voz que el modelo no conoce.'),
    ('mandarin', 'Mandarin, a woman', 'cmn+f2', '晚上好。这是模型没有听过的声音。'))
POSES = (('as in the video', None), ('turned', 'sine:yaw=12,period=3'), ('nodding', 'sine:pitch=8,period=2'),
         ('beside, tilted', 'offset:x=0.06,roll=8'))
FULL_TEXT = 'The picture stays as it was. Only the mouth says something else.'
START_S, SECONDS = 3.0, 2.6  # where in the held-out frames; how long a moving picture plays
EVERY = 2  # frames from one picture to the next
COLUMN, MOUTH_HEIGHT, LABEL_HEIGHT, GAP = 200, 96, 24, 6  # pixels of a picture
HEAD = 0.86  # of the frame's side: what is shown of it
MOUTH = 0.30  # of the frame's side: width of the enlarged mouth
LIPS = [61, 291, 0, 17]  # landmarks: the corners, the middle of the upper and of the lower lip
QUALITY = 36
SCENE_WIDTH, SCENE_HEIGHT, SCENE_HEAD, SCENE_RATE = 640, 360, 300, 30


def read(path: pathlib.Path, rows: Iterable[int]) -> list[np.ndarray]:
  """The frames `rows` of a video, [H, W, 3] uint8 each."""
  wanted, found, info = set(rows), {}, video.probe(str(path))
  for index, (_, frame) in enumerate(video.read_frames(info, 0, info.num_frames)):
    if index in wanted:
      found[index] = np.array(frame)
  return [found[row] for row in rows]


def head(frame: np.ndarray) -> Image.Image:
  """What is shown of a frame."""
  side = frame.shape[0]
  margin = side * (1 - HEAD) / 2
  return Image.fromarray(frame).resize((COLUMN, COLUMN), Image.Resampling.LANCZOS, (margin, margin, side - margin, side - margin))


def over_mouth(frame: np.ndarray, mouth: np.ndarray) -> Image.Image:
  """A head over its mouth. mouth: [2] (x, y) pixels of the middle of the lips."""
  half = np.array([MOUTH / 2, MOUTH / 2 * MOUTH_HEIGHT / COLUMN]) * frame.shape[0]
  lips = Image.fromarray(frame).resize((COLUMN, MOUTH_HEIGHT), Image.Resampling.BICUBIC, (*(mouth - half), *(mouth + half)))
  result = Image.new('RGB', (COLUMN, COLUMN + GAP + MOUTH_HEIGHT), 'white')
  result.paste(head(frame), (0, 0))
  result.paste(lips, (0, COLUMN + GAP))
  return result


def beside(labels: Iterable[str], moments: Iterable[Iterable[Image.Image]]) -> Iterator[Image.Image]:
  """Pictures side by side, one row a moment, a label above each."""
  font = ImageFont.truetype(str(pathlib.Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')), 13)
  for moment in moments:
    parts = list(moment)
    step = parts[0].width + GAP
    row = Image.new('RGB', (len(parts) * step - GAP, LABEL_HEIGHT + parts[0].height), 'white')
    for i, (part, label) in enumerate(zip(parts, labels, strict=True)):
      row.paste(part, (i * step, LABEL_HEIGHT))
      ImageDraw.Draw(row).text((i * step + part.width // 2, LABEL_HEIGHT // 2), label, 'black', font, anchor='mm')
    yield row


def save(path: pathlib.Path, pictures: Iterable[Image.Image], picture_s: float) -> None:
  """A WebP that moves."""
  first, *others = pictures
  with open_atomic(path) as file:
    first.save(file, 'WEBP', save_all=True, append_images=others, duration=round(1000 * picture_s), loop=0, quality=QUALITY,
               method=6)
  print(f'{path}: {1 + len(others)} pictures of {first.size}, {path.stat().st_size / 1000:.0f} kB')


def moving_rows(start_s: float = 0.0) -> list[int]:
  """Frames that a moving picture shows."""
  return [round(start_s * schema.FPS) + EVERY * i for i in range(round(SECONDS * schema.FPS / EVERY))]


def mouths_at(subject: Subject, frames: np.ndarray) -> np.ndarray:
  """[n, 2] (x, y) pixels: the middle of the lips."""
  return np.asarray(subject.landmarks)[frames][:, LIPS].mean(1)


def demo_columns(person: Person, demo: pathlib.Path) -> Iterator[Iterable[Image.Image]]:
  """True, from its sound, from another voice."""
  subject, test = person.trained.subject, person.trained.split.test
  rows, foreign_rows = moving_rows(START_S), moving_rows()
  other = film.background_frames(subject, foreign_rows[-1] + 1, None)[foreign_rows]
  for frames, mouths in (([np.asarray(subject.frames[i]) for i in test[rows]], mouths_at(subject, test[rows])),
                         (read(demo / 'held_out.mp4', rows), mouths_at(subject, test[rows])),
                         (read(demo / 'foreign.mp4', foreign_rows), mouths_at(subject, other))):
    yield map(over_mouth, frames, mouths)


def speak(voice: str, text: str) -> Utterance:
  """What espeak-ng says."""
  sound, rate = EspeakNg(voice).speak(text)
  return Utterance.of(np.pad(sound, (rate // 5, rate // 2)), rate)


def voice_columns(person: Person, out: pathlib.Path) -> Iterator[Iterable[Image.Image]]:
  """The head in each voice; writes the voices' videos."""
  rows, subject = moving_rows(), person.trained.subject
  frames = film.background_frames(subject, rows[-1] + 1, None)[rows]
  for name, _, voice, text in VOICES:
    person.say(speak(voice, text)).write(out / f'{name}.mp4')
    yield map(over_mouth, read(out / f'{name}.mp4', rows), mouths_at(subject, frames))


def pose_columns(person: Person) -> Iterator[Iterable[Image.Image]]:
  """The head at each pose, saying what it says in the held-out frames."""
  for _, wanted in POSES:
    pictures = itertools.islice(person.held_out(pose=wanted), moving_rows()[-1] + 1)
    yield [head(picture) for number, picture in enumerate(pictures) if number % EVERY == 0]


def make_scene(path: pathlib.Path) -> None:
  """Another take of the head, in a picture whose background moves."""
  subject = SyntheticSubject(SCENE_HEAD, round(4 * SECONDS * SCENE_RATE), seed=7, rate=SCENE_RATE)
  noise = np.random.default_rng(0).uniform(0, 255, (SCENE_HEIGHT, 2 * SCENE_WIDTH)).astype(np.float32)
  wall = np.clip(120 + 12 * (cv2.GaussianBlur(noise, (0, 0), 15) - noise.mean()), 60, 180)
  wall = wall[..., None] * np.float32([0.9, 1.0, 1.1])
  top, left, ease = SCENE_HEIGHT - SCENE_HEAD, (SCENE_WIDTH - SCENE_HEAD) // 2, np.arange(SCENE_HEAD) / 30
  share = np.clip(np.minimum(ease, ease[::-1])[None], 0, 1) * np.clip(ease, 0, 1)[:, None]
  with av.open(str(path), 'w') as file:
    stream = file.add_stream('libx264', rate=SCENE_RATE, options={'crf': '16'})
    stream.width, stream.height, stream.pix_fmt = SCENE_WIDTH, SCENE_HEIGHT, 'yuv420p'
    audio = file.add_stream('aac', rate=schema.SAMPLE_RATE, layout='mono')
    for number in range(subject.num_frames):
      picture = wall[:, number:number + SCENE_WIDTH].copy()
      place = picture[top:, left:left + SCENE_HEAD]
      place += share[..., None] * (subject.render(number).rgb - place)
      file.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format='rgb24')))
    sound = av.AudioFrame.from_ndarray(subject.speech.sound[None], format='s16p', layout='mono')
    sound.sample_rate = schema.SAMPLE_RATE
    file.mux(audio.encode(sound))
    for one in (stream, audio):
      file.mux(one.encode(None))


def full_frame_columns(person: Person, demo: pathlib.Path, out: pathlib.Path) -> Iterator[Iterable[Image.Image]]:
  """A take and its dub; writes the dub's video."""
  scene, dub = demo / 'gallery' / 'take.mp4', out / 'full_frame.mp4'
  scene.parent.mkdir(exist_ok=True)
  if not scene.is_file():
    make_scene(scene)
  print(*person.dub(scene, speak('en-gb', FULL_TEXT), dub, crf=23), sep='\n')
  rows = range(0, round(SECONDS * SCENE_RATE), EVERY + 1)
  for path in (scene, dub):
    yield [Image.fromarray(frame).resize((SCENE_WIDTH * 5 // 8, SCENE_HEIGHT * 5 // 8), Image.Resampling.LANCZOS)
           for frame in read(path, rows)]


def main(argv: list[str]) -> None:
  """Reads a demo's folder, writes the gallery."""
  if len(argv) != 3:
    sys.exit(f'usage: python {argv[0]} DEMO_FOLDER OUT')
  demo, out = pathlib.Path(argv[1]), pathlib.Path(argv[2])
  person = open_person(demo / 'run')
  picture_s = EVERY / schema.FPS
  save(out / 'demo.webp', beside(('true, never seen in training', 'ours, from its sound', 'ours, another voice'),
                                 zip(*demo_columns(person, demo))), picture_s)
  save(out / 'voices.webp', beside([label for _, label, _, _ in VOICES],
                                   zip(*voice_columns(person, out))), picture_s)
  save(out / 'poses.webp', beside([label for label, _ in POSES], zip(*pose_columns(person))), picture_s)
  save(out / 'full_frame.webp', beside(('a take', 'dubbed'), zip(*full_frame_columns(person, demo, out))), (EVERY + 1) / SCENE_RATE)


if __name__ == '__main__':
  main(sys.argv)
