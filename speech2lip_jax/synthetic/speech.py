"""What the synthetic subject says: recorded sentences with known phoneme times, and the mouth shapes that go with them.

The recordings are espeak-ng 1.51, voice en-us+f3 (145 words a minute) for the subject and en-us+m3 for the foreign sound;
its phoneme events gave the times. They are kept as 16 kHz Opus, with text and times in speech.json (milliseconds).
"""
import dataclasses
import functools
import json
import pathlib
from typing import Any

import numpy as np

from speech2lip_jax.common import media
from speech2lip_jax.data import schema
from speech2lip_jax.ops.boxes import smoothstep

ASSETS = pathlib.Path(__file__).resolve().parents[1] / 'assets'
PAUSE_S = (0.3, 0.8)  # between sentences
ROOM_NOISE = 6.0  # standard deviation, int16 steps: no room is silent
SMOOTHING_S = 0.035  # standard deviation of the Gaussian by which neighbouring phonemes colour each other
SHUT_RAMP_S = 0.055  # from shut lips to fully open ones
LIP_CLOSERS = frozenset('mbp')

# Columns: opening 0 … 1, width −1 (rounded) … 1 (spread), teeth 0 … 1 (upper lip raised), tongue 0 … 1 (raised), strength.
# A pair of rows is a diphthong: the first 55 % of its time and the rest.
_SHAPES: dict[str, Any] = {
    '_': (0.0, 0.0, 0.0, 0.0, 1.0),
    'm b p': (0.0, 0.0, 0.0, 0.0, 0.8),
    'f v': (0.09, 0.1, 0.9, 0.0, 0.9),
    'T D': (0.2, 0.1, 0.5, 1.0, 0.7),
    't d n t2 t# s z': (0.15, 0.3, 0.7, 0.7, 0.6),
    'l @L': (0.3, 0.1, 0.4, 1.0, 0.7),
    'S Z tS dZ': (0.2, -0.6, 0.9, 0.2, 0.9),
    'k g N h': (0.25, 0.1, 0.2, 0.2, 0.4),
    'r r-': (0.22, -0.5, 0.3, 0.2, 0.7),
    'w': (0.1, -1.0, 0.0, 0.0, 1.2),
    'j ;': (0.2, 0.5, 0.5, 0.3, 0.6),
    'i: i': (0.24, 0.9, 0.7, 0.3, 1.0),
    'I I2 I#': (0.34, 0.5, 0.5, 0.2, 0.9),
    'E e@': (0.58, 0.45, 0.4, 0.0, 1.0),
    'a aa': (0.85, 0.4, 0.4, 0.0, 1.0),
    'a# V': (0.62, 0.1, 0.2, 0.0, 1.0),
    'A: A@ 0': (1.0, -0.1, 0.1, 0.0, 1.1),
    '@ @2 3': (0.36, 0.0, 0.2, 0.1, 0.6),
    '3:': (0.38, -0.4, 0.2, 0.0, 1.0),
    'O: O@ o@ O2': (0.66, -0.7, 0.0, 0.0, 1.1),
    'U U@': (0.3, -0.7, 0.0, 0.0, 1.0),
    'u:': (0.2, -1.0, 0.0, 0.0, 1.2),
    'eI': ((0.55, 0.5, 0.5, 0.0, 1.0), (0.28, 0.8, 0.6, 0.2, 1.0)),
    'aI aI@': ((0.95, 0.15, 0.2, 0.0, 1.1), (0.35, 0.7, 0.5, 0.2, 0.9)),
    'aU': ((0.95, 0.1, 0.2, 0.0, 1.1), (0.3, -0.8, 0.0, 0.0, 1.0)),
    'oU': ((0.58, -0.5, 0.0, 0.0, 1.0), (0.2, -0.95, 0.0, 0.0, 1.1)),
    'OI': ((0.66, -0.8, 0.0, 0.0, 1.1), (0.32, 0.7, 0.5, 0.2, 0.9)),
}
SHAPES = {symbol: shape for symbols, shape in _SHAPES.items() for symbol in symbols.split()}


@dataclasses.dataclass(frozen=True)
class Phoneme:
  """One sound of espeak-ng's English ('_': silence), seconds."""
  symbol: str
  start: float
  end: float


@dataclasses.dataclass(frozen=True)
class Speech:
  """sound: [n] int16, 16 kHz; phonemes cover all of it in order; texts: the sentences said."""
  sound: np.ndarray
  phonemes: tuple[Phoneme, ...]
  texts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class MouthShapes:
  """Mouth of each frame, [N] float64: opening 0 (lips shut) … 1; width −1 … 1; teeth 0 … 1; tongue 0 … 1."""
  opening: np.ndarray
  width: np.ndarray
  teeth: np.ndarray
  tongue: np.ndarray


@functools.cache
def _recording(name: str) -> tuple[np.ndarray, list[dict]]:
  """Samples [n] int16 at 16 kHz of all sentences, one after another, and for each its text, place and phonemes."""
  sound, _ = media.read_sound(ASSETS / f'{name}.opus', schema.SAMPLE_RATE, mono=True)
  return sound[0], json.loads((ASSETS / 'speech.json').read_text())[name]


def foreign_sound() -> np.ndarray:
  """Another voice saying three other sentences, [n] int16, 16 kHz, 11 s."""
  return _recording('foreign')[0]


def make_speech(num_frames: int, seed: int) -> Speech:
  """`num_frames` (25 a second) of sentences in an order drawn from `seed`, with pauses; all are said before one returns."""
  sound, sentences = _recording('sentences')
  rng = np.random.default_rng([seed, 1])
  num_samples = num_frames * schema.SAMPLES_PER_FRAME
  parts: list[np.ndarray] = []
  phonemes: list[Phoneme] = []
  texts: list[str] = []
  order: list[int] = []
  at = 0
  while at < num_samples:
    pause = int(rng.uniform(*PAUSE_S) * schema.SAMPLE_RATE)
    parts.append(np.zeros(pause))
    order = order or rng.permutation(len(sentences)).tolist()
    sentence = sentences[order.pop()]
    first = (at + pause) / schema.SAMPLE_RATE + sentence['phonemes'][0][1] / 1000
    phonemes.append(Phoneme('_', at / schema.SAMPLE_RATE, first))
    at += pause
    parts.append(sound[sentence['start']:sentence['start'] + sentence['num_samples']].astype(np.float64))
    phonemes += [Phoneme(symbol, at / schema.SAMPLE_RATE + start / 1000, at / schema.SAMPLE_RATE + end / 1000)
                 for symbol, start, end in sentence['phonemes']]
    if at < num_samples:
      texts.append(sentence['text'])
    at += sentence['num_samples']
  mixed = np.concatenate(parts)[:num_samples] + rng.normal(0, ROOM_NOISE, num_samples)
  end = num_samples / schema.SAMPLE_RATE
  kept = tuple(dataclasses.replace(phoneme, end=min(phoneme.end, end)) for phoneme in phonemes if phoneme.start < end)
  return Speech(np.clip(np.round(mixed), -32768, 32767).astype(np.int16), kept, tuple(texts))


def frame_times(num_frames: int) -> np.ndarray:
  """The moment each frame shows, seconds: the middle of its 40 ms."""
  return (np.arange(num_frames) + 0.5) / schema.FPS


def mouth_shapes(phonemes: tuple[Phoneme, ...], times: np.ndarray) -> MouthShapes:
  """The mouth at `times` [N] seconds, from the phonemes' times alone.

  A mean of the phonemes' shapes under a Gaussian around the moment, weighted by how much each insists on its shape;
  m, b and p then shut the lips whatever stands beside them.
  """
  times_of: list[tuple[float, float]] = []
  shapes_of: list[tuple[float, ...]] = []
  for phoneme in phonemes:
    shape = SHAPES[phoneme.symbol]
    middle = phoneme.start + 0.55 * (phoneme.end - phoneme.start)
    if isinstance(shape[0], tuple):
      times_of += [(phoneme.start, middle), (middle, phoneme.end)]
      shapes_of += shape
    else:
      times_of.append((phoneme.start, phoneme.end))
      shapes_of.append(shape)
  spans, shapes = np.array(times_of), np.array(shapes_of)
  from scipy.special import ndtr
  share = ndtr((spans[:, 1] - times[:, None]) / SMOOTHING_S) - ndtr((spans[:, 0] - times[:, None]) / SMOOTHING_S)
  share = share * shapes[:, 4]
  mean = share @ shapes[:, :4] / np.maximum(share.sum(1, keepdims=True), 1e-9)
  opening = mean[:, 0]
  for phoneme in phonemes:
    if phoneme.symbol in LIP_CLOSERS:
      middle, half = (phoneme.start + phoneme.end) / 2, (phoneme.end - phoneme.start) / 2
      away = np.abs(times - middle) - max(0.02, half - 0.03)
      opening = opening * smoothstep(away / SHUT_RAMP_S)
  opening = np.where(opening < 0.025, 0.0, opening)
  return MouthShapes(opening, mean[:, 1], mean[:, 2] * np.minimum(1, opening / 0.08), mean[:, 3])
