"""CPBD, how sharp a picture looks without a reference: the share of its edges that are too narrow for blur to be seen.

Cumulative probability of blur detection (Narvekar & Karam, IEEE Trans. Image Processing 20(9), 2011), 0 … 1, higher is sharper.
The width of an edge is Marziliano's; blur is seen with probability P = 1 − exp(−(width / w_jnb)^3.6), where the just noticeable
width w_jnb is 5 pixels in blocks of low contrast and 3 elsewhere; counted are edges with P ≤ 63 %, which widths of whole pixels
have exactly where width ≤ w_jnb. Details that the paper leaves open follow the implementation that the field quotes. NumPy.
"""
import numpy as np
from scipy import ndimage

BLOCK = 64  # pixels; only whole blocks are looked at
MIN_EDGE_SHARE = 0.002  # of a block's pixels, by Canny; a block with fewer is smooth and left out
LOW_CONTRAST = 50  # grey levels between a block's darkest and brightest pixel
JNB_WIDTHS = (5, 3)  # pixels, at low and at higher contrast
MAX_STEPS = 100  # to either side of an edge
CANNY_SIGMA = 1.0  # pixels
CANNY_THRESHOLDS = (0.1, 0.2)  # of the Sobel gradient's size (weights sum to 4), grey levels a pixel: an edge goes on, begins


def vertical_edges(grey: np.ndarray) -> np.ndarray:
  """[H, W] bool: thinned edges of the horizontal Sobel derivative of grey [H, W] float64."""
  strength = ndimage.convolve(grey, np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) / 8)**2
  strength[strength <= 2 * np.sqrt(strength.mean())] = 0
  around = np.pad(strength, 1)
  across = (strength > around[1:-1, :-2]) & (strength > around[1:-1, 2:])
  along = (strength > around[:-2, 1:-1]) & (strength > around[2:, 1:-1])
  return across | along


def _run_lengths(steps: np.ndarray) -> np.ndarray:
  """How many consecutive True end at each column of steps [H, W], at most `MAX_STEPS`: [H, W] int."""
  places = np.arange(1, steps.shape[1] + 1)
  last_false = np.maximum.accumulate(np.where(steps, 0, places), axis=1)
  return np.minimum(places - last_false, MAX_STEPS)


def edge_widths(grey: np.ndarray, edges: np.ndarray) -> np.ndarray:
  """Widths in pixels of the edges whose gradient lies within 22.5° of the row, 0 at all other pixels: [H, W] int.

  A width reaches from the neighbours of the edge pixel on as far as the grey values keep rising (falling) strictly.

  Args:
    grey: [H, W] float64. edges: [H, W] bool.
  """
  along_y, along_x = np.gradient(grey)
  angle = np.where(along_x == 0, 0.0, np.arctan2(along_y, along_x))  # as the usual implementation has it, 0 for upright ones too
  direction = np.round(np.degrees(angle) / 45)
  inner = np.zeros(grey.shape, bool)
  inner[1:-1, 1:-1] = edges[1:-1, 1:-1]
  step = np.diff(grey, axis=1)
  widths = np.zeros(grey.shape, int)
  for chosen, monotone in ((direction == 0, step > 0), (np.abs(direction) == 4, step < 0)):
    before = np.pad(_run_lengths(monotone), ((0, 0), (1, 0)))  # steps of the run that ends at each pixel
    after = np.pad(_run_lengths(monotone[:, ::-1])[:, ::-1], ((0, 0), (0, 1)))
    rows, columns = np.nonzero(chosen & inner)
    widths[rows, columns] = 2 + before[rows, columns - 1] + after[rows, columns + 1]
  return widths


def canny(grey: np.ndarray) -> np.ndarray:
  """[H, W] bool: the edges that Canny (1986) finds in grey [H, W] float64, the same as scikit-image's `feature.canny`.

  Pixels beyond the border are unknown: the blur is the mean of the known ones, and the border itself has no edge.
  """
  blur = lambda values: ndimage.gaussian_filter(values, CANNY_SIGMA, mode='constant')
  smooth = blur(grey) / (blur(np.ones_like(grey)) + np.finfo(float).eps)
  along_y, along_x = ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)
  size = np.sqrt(along_y * along_y + along_x * along_x)
  low, high = CANNY_THRESHOLDS
  candidate = size >= low
  candidate[[0, -1]] = candidate[:, [0, -1]] = False
  y, x = np.nonzero(candidate)
  here, along_y, along_x = size[y, x], along_y[y, x], along_x[y, x]
  down, right = np.where(along_y < 0, -1, 1), np.where(along_x < 0, -1, 1)
  steep = np.abs(along_y) > np.abs(along_x)
  step_y, step_x = np.where(steep, down, 0), np.where(steep, 0, right)  # to the neighbour on the gradient's nearer axis
  slope = np.minimum(np.abs(along_y), np.abs(along_x)) / np.maximum(np.abs(along_y), np.abs(along_x))
  is_ridge = np.ones(len(y), bool)
  for side in (1, -1):  # the gradient's size where its line leaves the pixel's neighbourhood, between two neighbours
    beside, diagonal = size[y + side * step_y, x + side * step_x], size[y + side * down, x + side * right]
    is_ridge &= diagonal * slope + beside * (1 - slope) <= here
  candidate[y, x] = is_ridge
  labels, _ = ndimage.label(candidate, np.ones((3, 3)))
  begins = np.unique(labels[candidate & (size >= high)])
  return candidate & np.isin(labels, begins)


def cpbd(grey: np.ndarray) -> float:
  """CPBD of grey [H, W] uint8, 0 … 1, higher is sharper; 0 without an edge, nan below 64×64 pixels."""
  height, width = (size // BLOCK * BLOCK for size in grey.shape)
  if not height or not width:
    return float('nan')
  values = grey.astype(np.float64)
  blocks = lambda array: array[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).swapaxes(1, 2)
  widths = blocks(edge_widths(values, vertical_edges(values)))
  is_edge_block = blocks(canny(values)).sum((2, 3)) > MIN_EDGE_SHARE * BLOCK**2
  contrast = np.ptp(blocks(values).reshape(*is_edge_block.shape, -1), axis=-1)
  noticeable = np.where(contrast <= LOW_CONTRAST, *JNB_WIDTHS)[..., None, None]
  counted = (widths > 0) & is_edge_block[..., None, None]
  return float((counted & (widths <= noticeable)).sum() / max(counted.sum(), 1))
