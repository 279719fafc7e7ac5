"""Picture metrics. Images [H, W, 3] uint8 RGB; masks [H, W] bool.

PSNR in dB and SSIM in −1 … 1: higher is better. A metric over the mouth looks at the mask's pixels alone.
"""
import numpy as np
from skimage.metrics import structural_similarity

PSNR_OF_IDENTICAL = 100.0
_SSIM_RADIUS = 5  # scikit-image's Gaussian window: 3.5 σ, σ = 1.5


def psnr(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
  """Peak signal-to-noise ratio over the mask's pixels (all without a mask), dB; 100 where nothing differs."""
  difference = image.astype(np.float64) - reference
  error = np.mean(np.square(difference if mask is None else difference[mask]))
  return float(10 * np.log10(255**2 / error)) if error > 0 else PSNR_OF_IDENTICAL


def ssim(image: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> tuple[float, float]:
  """Structural similarity (Wang et al. 2004: Gaussian window σ 1.5, population covariance), of the whole and the mask.

  Where two pictures agree it is 1, so only the part around what differs is computed: the same value, several times faster
  on frames that are touched in a window only.

  Returns:
    (mean over the image less the window's radius at its border, mean over the mask's pixels or nan without one).
  """
  per_pixel = np.ones(image.shape[:2])
  rows, columns = np.nonzero((image != reference).any(-1))
  if len(rows):
    reach, margin = _SSIM_RADIUS, 2 * _SSIM_RADIUS + 1
    span = lambda places, grow, size: slice(max(places.min() - grow, 0), min(places.max() + grow + 1, size))
    crop = tuple(span(places, margin, size) for places, size in zip((rows, columns), per_pixel.shape, strict=True))
    kept = tuple(span(places, reach, size) for places, size in zip((rows, columns), per_pixel.shape, strict=True))
    _, values = structural_similarity(image[crop], reference[crop], channel_axis=-1, gaussian_weights=True, sigma=1.5,
                                      use_sample_covariance=False, data_range=255, full=True)
    inside = tuple(slice(k.start - c.start, k.stop - c.start) for k, c in zip(kept, crop, strict=True))
    per_pixel[kept] = values.mean(-1)[inside]
  whole = per_pixel[_SSIM_RADIUS:-_SSIM_RADIUS, _SSIM_RADIUS:-_SSIM_RADIUS].mean()
  return float(whole), float('nan') if mask is None else float(per_pixel[mask].mean())
