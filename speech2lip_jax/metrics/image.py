"""Picture metrics. Images [H, W, 3] uint8 RGB; masks [H, W] bool.

PSNR in dB and SSIM in −1 … 1: higher is better. A metric over the mouth looks at the mask's pixels alone.
"""
import cv2
import numpy as np

PSNR_OF_IDENTICAL = 100.0
SSIM_RADIUS = 5  # of the Gaussian window: 3.5 σ
_SSIM_SIGMA = 1.5
_SSIM_CONSTANTS = (0.01 * 255)**2, (0.03 * 255)**2


def psnr(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
  """Peak signal-to-noise ratio over the mask's pixels (all without a mask), dB; 100 where nothing differs, nan without pixels."""
  if mask is not None:
    image, reference = image[mask], reference[mask]
  if not image.size:
    return float('nan')
  error = cv2.norm(image, reference, cv2.NORM_L2SQR) / image.size
  return float(10 * np.log10(255**2 / error)) if error > 0 else PSNR_OF_IDENTICAL


def ssim_map(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
  """SSIM at every pixel, the mean over channels: [H, W] float64; pixels beyond the border are mirrored ones."""
  offset = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
  kernel = np.exp(-0.5 * (offset / _SSIM_SIGMA)**2)
  kernel /= kernel.sum()
  mean = lambda values: cv2.sepFilter2D(values, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REFLECT)
  x, y = image.astype(np.float64), reference.astype(np.float64)
  mean_x, mean_y = mean(x), mean(y)
  product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
  covariance, variances = mean(x * y) - product, mean(x**2 + y**2) - squares
  c1, c2 = _SSIM_CONSTANTS
  return ((2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))).mean(-1)


def _grown(places: np.ndarray, grow: int, size: int) -> slice:
  """From the first to the last of the places and `grow` more to either side, inside 0 … size."""
  return slice(max(places.min() - grow, 0), min(places.max() + grow + 1, size))


def ssim(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> tuple[float, float]:
  """Structural similarity (Wang et al. 2004: Gaussian window σ 1.5, population covariance), of the whole and the mask.

  Where two pictures agree it is 1, so only the part around what differs is computed: the same value, several times faster
  on frames that are touched in a window only. Agrees with scikit-image's to rounding.

  Returns:
    (mean over the image less the window's radius at its border, mean over the mask's pixels or nan without one).
  """
  per_pixel = np.ones(image.shape[:2])
  changed = cv2.absdiff(image, reference)
  rows, columns = (np.flatnonzero(cv2.reduce(changed, axis, cv2.REDUCE_MAX).any(-1)) for axis in (1, 0))
  if len(rows):
    reach, margin = SSIM_RADIUS, 2 * SSIM_RADIUS + 1
    height, width = image.shape[:2]
    crop, kept = ((_grown(rows, grow, height), _grown(columns, grow, width)) for grow in (margin, reach))
    inside = tuple(slice(k.start - c.start, k.stop - c.start) for k, c in zip(kept, crop, strict=True))
    per_pixel[kept] = ssim_map(image[crop], reference[crop])[inside]
  whole = per_pixel[SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS].mean()
  return float(whole), float(per_pixel[mask].mean()) if mask is not None and mask.any() else float('nan')


def blocks_around(mask: np.ndarray, block: int) -> tuple[slice, slice]:
  """The smallest rectangle of whole `block`×`block` pixels about the mask's, centred on them: (rows, columns) of the picture.

  At the picture's border it is moved inside; a side that is shorter than a block stays as it is. The mask must not be empty.
  """
  def span(axis: int) -> slice:
    size = mask.shape[axis]
    places = np.flatnonzero(mask.any(1 - axis))
    length = min(-(-(places[-1] + 1 - places[0]) // block) * block, max(size // block * block, min(size, block)))
    start = int(np.clip((places[0] + places[-1] + 1 - length) // 2, 0, size - length))
    return slice(start, start + int(length))
  return span(0), span(1)
