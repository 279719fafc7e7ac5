"""Finds the mark of `provenance.mark` in a video that may have been re-encoded, rescaled, cut at its edges or in time.

Nothing about the film is needed. Over a few seconds each pixel is multiplied by the beat of the mark, as in a lock-in
amplifier, which leaves the pattern and cancels what stands still. Then two searches, each with half of the risk of error that
is accepted: where the picture is whole, at the scales of the usual sizes of pictures; and at all scales 0.45 … 1.6 and all
places of its edges.

Chance: a score is a sum of values with the signs `mark.SIGNS` over the root of the sum of their squares. For pictures that know
nothing of these signs it exceeds t with at most 3.18 times the probability of a normal variable (Bentkus and Dzindzalieta,
2015), and the largest of N scores with at most N times that. `Reading.log_chance` is this bound, which holds for any content.
"""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy import fft, stats
from scipy.ndimage import uniform_filter1d

from speech2lip_jax.provenance import code
from speech2lip_jax.provenance.mark import BITS, HALF_PERIOD_S, SIGNS, SQUARE, TILE

ACCEPTED_CHANCE = 1e-4  # of calling an unmarked video marked, at most
NUM_PICTURES = 100  # of a part, at 25 a second
MAX_SIDE = 2048  # pixels: a larger picture is made smaller
MAX_PARTS = 4  # of a video, evenly over its length, that are looked at
MAX_STEP = 2.0  # grey levels between a pixel and its mean over a period: more is a movement, and cut off
MAX_CONTRAST = 0.35  # grey levels of a square beside its neighbours, after the beat: more is no mark, and cut off
MIN_SCALE, MAX_SCALE, SCALE_STEP = 0.45, 1.6, 1.03
# Pixels on the shorter side.
USUAL_SIDES = (*range(64, 513, 4), 540, 576, 600, 640, 720, 768, 800, 960, 1024, 1080, 1200, 1280, 1440, 1600, 1920, 2048, 2160)
SIZES = (12, 16, 24, 32)  # squares on a side of the regions that are searched
PHASES = np.exp(2j * np.pi * np.arange(8) / 8)  # of the beat
SHORTLIST = 64  # places whose bits are read
TAIL = 3.18
_BAND = 64  # rows that are demodulated at once
_NEIGHBOURS = np.array([[1, 2, 1], [2, -12, 2], [1, 2, 1]], np.float32) / -12


class Reading(NamedTuple):
  """What was found.

  is_marked: by `ACCEPTED_CHANCE`. number: of the model. bits: [32] of −1 and 1, as they were read one by one. score: see the
  module. log_chance: natural logarithm of the chance of such a score in an unmarked video, at most. scale: of the video over the
  film that was marked. shift: (down, right) by how many pixels of that film, modulo 256, its corner was cut. is_whole: found
  without looking for a cut. region: (top, left, height, width) pixels of the video.
  """
  is_marked: bool
  number: int
  bits: np.ndarray
  score: float
  log_chance: float
  scale: float
  shift: tuple[int, int]
  is_whole: bool
  region: tuple[int, int, int, int]


class _Candidate(NamedTuple):
  """A place whose bits are to be read: scale, corner of the grid and size of the region in squares, shift in squares."""
  strength: float
  scale: float
  corner: tuple[int, int]
  shift: tuple[int, int]
  top: int
  left: int
  size: int


def beat(grey: Sequence[np.ndarray], times_s: np.ndarray) -> np.ndarray:
  """Pictures [n] of [h, w] uint8 at their times → how each pixel beats with the mark, grey levels: [h, w] complex64."""
  period = max(2, round(2 * HALF_PERIOD_S / max(float(np.median(np.diff(times_s))), 1e-3))) if len(grey) > 1 else 1
  wave = np.exp(-1j * np.pi * times_s / HALF_PERIOD_S) / len(grey)
  found = []
  for row in range(0, grey[0].shape[0], _BAND):
    values = np.stack([picture[row:row + _BAND] for picture in grey]).astype(np.float32)
    if len(grey) > 1:
      values -= uniform_filter1d(values, period, axis=0, mode='nearest')
      np.clip(values, -MAX_STEP, MAX_STEP, out=values)
    flat = values.reshape(len(grey), -1)
    found.append((wave.real.astype(np.float32) @ flat + 1j * (wave.imag.astype(np.float32) @ flat)).reshape(values.shape[1:]))
  return np.concatenate(found).astype(np.complex64)


def read(grey: Sequence[np.ndarray], times_s: np.ndarray, num_parts: int = 1) -> Reading:
  """Looks for a mark in consecutive pictures [n] of [h, w] uint8, upright and with square pixels, at times [n] seconds.

  num_parts: how many parts of the video are looked at; the chance counts them all.
  """
  beating = beat(grey, times_s)
  whole = search(beating, True, num_parts)
  return whole if whole.is_marked else best([whole, search(beating, False, num_parts)])


def best(readings: Sequence[Reading]) -> Reading:
  """The least likely by chance."""
  return min(readings, key=lambda found: (found.log_chance, -found.score))


def search(beating: np.ndarray, is_whole: bool, num_parts: int = 1) -> Reading:
  """The best place of one of the two searches, in what `beat` gives; num_parts as of `read`."""
  candidates, num_scores = [], 0
  for scale in _usual_scales(*beating.shape) if is_whole else _all_scales():
    found, count = (_at_the_corner if is_whole else _anywhere)(_squares(beating, scale), scale)
    candidates += found
    num_scores += count
  tried = 2 * num_parts * num_scores * len(PHASES) * code.NUM_MODELS
  readings = [_read_bits(beating, one, tried, is_whole) for one in sorted(candidates, reverse=True)[:SHORTLIST]]
  nothing = Reading(False, 0, np.ones(code.NUM_BITS, int), 0.0, 0.0, 1.0, (0, 0), is_whole, (0, 0, 0, 0))
  return best([nothing, *readings])


def _all_scales() -> Iterator[float]:
  """MIN_SCALE … MAX_SCALE, by way of 1."""
  first, last = (round(np.log(scale) / np.log(SCALE_STEP)) for scale in (MIN_SCALE, MAX_SCALE))
  return (SCALE_STEP ** step for step in range(first, last + 1))


def _usual_scales(height: int, width: int) -> list[float]:
  """Of a picture over those of the usual sizes that may have become it."""
  side = min(height, width)
  return sorted({1.0, *(side / usual for usual in USUAL_SIDES if MIN_SCALE <= side / usual <= MAX_SCALE)})


def _squares(beating: np.ndarray, scale: float) -> np.ndarray:
  """The mean of the 8 × 8 pixels of the film from each of its pixels on: [h, w, 2] float32."""
  planes: np.ndarray = np.ascontiguousarray(beating).view(np.float32).reshape(*beating.shape, 2)
  if scale != 1:
    size = tuple(max(1, round(side / scale)) for side in beating.shape[::-1])
    planes = cv2.resize(planes, size, interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC)
  return cv2.blur(planes, (SQUARE, SQUARE), anchor=(0, 0))


def _grid(means: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
  """The contrast of each square of the chessboard with that corner, cut off where it is too large: [rows, columns] complex."""
  height, width = ((side - first) // SQUARE * SQUARE for side, first in zip(means.shape, corner))
  squares: np.ndarray = means[corner[0]:corner[0] + height:SQUARE, corner[1]:corner[1] + width:SQUARE]
  if not squares.size:
    return np.zeros((0, 0), np.complex64)
  contrast: np.ndarray = cv2.filter2D(squares, -1, _NEIGHBOURS, borderType=cv2.BORDER_REFLECT_101)
  contrast = np.ascontiguousarray(contrast).view(np.complex64)[..., 0]
  size = np.abs(contrast)
  return contrast * np.minimum(1, MAX_CONTRAST / np.maximum(size, 1e-6))


def _regions(rows: int, columns: int, overlap: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
  """Sizes of square regions, and the rows and columns at which they begin, `overlap` to a side."""
  for size in SIZES:
    if size <= min(rows, columns):
      step = size // overlap
      yield size, np.arange(0, rows - size + 1, step), np.arange(0, columns - size + 1, step)


def _sums(values: np.ndarray, size: int, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
  """Sums of values [..., rows, columns] over regions: [..., tops, lefts]."""
  total = np.zeros((*values.shape[:-2], values.shape[-2] + 1, values.shape[-1] + 1), np.result_type(values.dtype, np.float64))
  total[..., 1:, 1:] = values.cumsum(-1).cumsum(-2)
  at = lambda rows, columns: total[..., rows[:, None], columns]
  return at(tops + size, lefts + size) - at(tops, lefts + size) - at(tops + size, lefts) + at(tops, lefts)


def _at_the_corner(means: np.ndarray, scale: float) -> tuple[list[_Candidate], int]:
  """Where the picture is whole: the strongest place, and how many were looked at."""
  grid = _grid(means, (0, 0))
  place = np.ix_(*(np.arange(side) % TILE for side in grid.shape))
  signed, bits = grid * SIGNS[place], BITS[place]
  found, count = [], 0
  for size, tops, lefts in _regions(grid.shape[0], grid.shape[1], 4):
    norm = np.sqrt(_sums(np.abs(grid)**2, size, tops, lefts)) + 1e-9
    each = np.stack([_sums(np.where(bits == bit, signed, 0), size, tops, lefts) for bit in range(code.NUM_BITS)])
    pilot = (each[:code.NUM_PILOT] * code.bits_of(0)[:code.NUM_PILOT, None, None]).sum(0)
    turned = each[code.NUM_PILOT:] * np.exp(-1j * np.angle(pilot))
    strength = (np.abs(pilot) + np.abs(turned.real).sum(0)) / norm
    count += strength.size
    for place_index in np.argsort(strength.ravel())[-2:]:
      row, column = np.unravel_index(place_index, strength.shape)
      found.append(_Candidate(float(strength[row, column]), scale, (0, 0), (0, 0), int(tops[row]), int(lefts[column]), size))
  return found, count


_PILOT_TILE = np.where(BITS < code.NUM_PILOT, SIGNS * np.append(code.bits_of(0)[:code.NUM_PILOT], np.zeros(16, int))[BITS], 0)
_PILOT_SPECTRUM = np.conj(fft.fft2(_PILOT_TILE)).astype(np.complex64)
_FINE = 2  # pixels between the corners that are tried


def _anywhere(means: np.ndarray, scale: float) -> tuple[list[_Candidate], int]:
  """Wherever the picture was cut: the strongest places, and how many were looked at."""
  found, count = [], 0
  for down in range(0, SQUARE, _FINE):
    for right in range(0, SQUARE, _FINE):
      grid = _grid(means, (down, right))
      for size, tops, lefts in _regions(grid.shape[0], grid.shape[1], 3):
        views = np.lib.stride_tricks.sliding_window_view(grid, (size, size))[tops[:, None], lefts]
        norm = np.sqrt((np.abs(views)**2).sum((-1, -2))) + 1e-9
        found_there = fft.ifft2(fft.fft2(views, s=(TILE, TILE)) * _PILOT_SPECTRUM, overwrite_x=True)
        scores = (found_there.real**2 + found_there.imag**2) / (norm**2)[..., None, None]
        count += scores.size
        at = int(scores.argmax())
        row, column, up, back = np.unravel_index(at, scores.shape)
        top, left = int(tops[row]), int(lefts[column])
        # Square (i, j) of the region lies over square (i − up, j − back) of the pattern.
        shift = int(-up - top) % TILE, int(-back - left) % TILE
        found.append(_Candidate(float(np.sqrt(scores.ravel()[at])), scale, (down, right), shift, top, left, size))
  return sorted(found, reverse=True)[:SHORTLIST], count


def _read_bits(beating: np.ndarray, one: _Candidate, tried: int, is_whole: bool) -> Reading:
  """tried: how many scores the largest is chosen from."""
  grid = _grid(_squares(beating, one.scale), one.corner)[one.top:one.top + one.size, one.left:one.left + one.size]
  place = np.ix_(*((np.arange(first, first + one.size) + shift) % TILE for first, shift in zip((one.top, one.left), one.shift)))
  signed, bits = grid * SIGNS[place], BITS[place]
  each = np.bincount(bits.ravel(), signed.real.ravel(), code.NUM_BITS) + 1j * np.bincount(
      bits.ravel(), signed.imag.ravel(), code.NUM_BITS)
  pilot = code.bits_of(0)[:code.NUM_PILOT]
  found = (-np.inf, 0, np.ones(code.NUM_BITS, int))
  for phase in PHASES:
    values = (each * phase).real
    norm = float(np.sqrt(((grid * phase).real**2).sum())) + 1e-9
    fits = code.words() @ values[code.NUM_PILOT:]
    score = float(pilot @ values[:code.NUM_PILOT] + fits.max()) / norm
    if score > found[0]:
      found = score, int(fits.argmax()), np.where(values > 0, 1, -1)
  score, number, read_bits = found
  log_chance = min(0.0, float(np.log(TAIL * tried) + stats.norm.logsf(score)))
  down, right = ((squares * SQUARE - corner) % (TILE * SQUARE) for squares, corner in zip(one.shift, one.corner))
  top, left, side = (round(one.scale * length) for length in (
      one.corner[0] + one.top * SQUARE, one.corner[1] + one.left * SQUARE, one.size * SQUARE))
  return Reading(log_chance <= np.log(ACCEPTED_CHANCE), number, read_bits, score, log_chance, one.scale, (down, right), is_whole,
                 (top, left, side, side))
