"""The 32 bits of a mark: which of them are always the same, and how a model's number is written into the others.

Bits 0 … 15 are `PILOT`, by which a mark is found and told from chance. Bits 16 … 31 are a word of the extended Hamming code
(16, 11, 4), read as the most likely of all 2048 words: it mends one wrong bit for certain, and more where they are faint.
"""
import functools

import numpy as np

NUM_BITS, NUM_PILOT, NUM_MODELS = 32, 16, 2048
PILOT = np.array([1, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0])


@functools.cache
def words() -> np.ndarray:
  """All words of the code, [2048, 16] of −1 and 1, at the place of the number that each stands for."""
  numbers = (np.arange(NUM_MODELS)[:, None] >> np.arange(11)) & 1
  places = [place for place in range(1, 16) if place & (place - 1)]  # of the 11 bits; the powers of two hold parities
  bits = np.zeros((NUM_MODELS, 16), int)
  bits[:, places] = numbers
  for parity in (1, 2, 4, 8):
    bits[:, parity] = bits[:, [place for place in range(1, 16) if place & parity and place != parity]].sum(1) % 2
  bits[:, 0] = bits.sum(1) % 2
  return 2 * bits - 1


def bits_of(number: int) -> np.ndarray:
  """The bits that say `number`, 0 … 2047: [32] of −1 and 1."""
  return np.concatenate([2 * PILOT - 1, words()[number]])


def number_of(digest: str) -> int:
  """The number that stands for a model: the first 11 bits of its SHA-256 in hexadecimal digits."""
  return int(digest[:3], 16) >> 1
