"""Lips by regression from the sound: what closed forms reach without a network.

Ridge regression, and kernel ridge regression with a Gaussian kernel, take the flattened mel window to principal components of the
canonical lips. What they are free in, the penalty and the kernel's width, is what gives validation frames the best PSNR after
a fit to training frames; then they are fitted to both parts. Both work on differences of windows, so that a mean
spectrum taken off all of them changes nothing; windows of equal variance in every place measured no better (± 0.05 dB).
"""
import itertools
from collections.abc import Callable

import numpy as np

from speech2lip_jax.data.dataset import Split, Subject, evenly_spaced, subject_mel_windows
from speech2lip_jax.data.regression import NUM_COMPONENT_FRAMES, KernelRidge, LipComponents, Ridge

NUM_COMPONENTS = 96  # at most
NUM_CHOICE_FRAMES = 3000  # at most, of training and of validation, on which penalty and width are chosen
NUM_FRAMES = 8000  # at most, evenly spaced, in the final fit: 5 minutes, 0.3 GB of a kernel

# By name in the table: the method, and what it may be called with.
METHODS: dict[str, tuple[type[Ridge] | type[KernelRidge], list[tuple[float, ...]]]] = {
    'ridge': (Ridge, [(penalty,) for penalty in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)]),
    'kernel_ridge': (KernelRidge, list(itertools.product((0.1, 0.3, 1.0), (0.5, 0.7, 1.0, 1.4))))}


def regressed_lips(subject: Subject, split: Split, num_steps: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
  """By name of `METHODS`: rows of `split.test` [b] → canonical lips [b, h, w, 3] float32 0 … 1. num_steps: of a mel window."""
  lips, windows = subject.rgb_lip_canonical, lambda ids: subject_mel_windows(subject, ids, num_steps).reshape(len(ids), -1)
  components = LipComponents.of(lips[evenly_spaced(split.train, NUM_COMPONENT_FRAMES)], NUM_COMPONENTS)
  train, val = (evenly_spaced(part, NUM_CHOICE_FRAMES) for part in (split.train, split.val))
  known = evenly_spaced(np.sort(np.concatenate([split.train, split.val])), NUM_FRAMES)
  (true, unpainted), (of_train, _), (of_known, _) = (components.coefficients(lips, ids) for ids in (val, train, known))

  def psnr(coefficients):
    """Of validation frames, less a constant."""
    return -np.log10((np.square(coefficients - true).sum(1) + unpainted) + 1e-9).mean()

  painters: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
  for name, (method, settings) in METHODS.items():
    tried, heard = method(windows(train), of_train), windows(val)
    best = max(settings, key=lambda setting: psnr(tried(heard, *setting)))
    painted = method(windows(known), of_known)(windows(split.test), *best)
    painters[name] = components.painter(painted)
  return painters
