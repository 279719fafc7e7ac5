"""Visible words in the corner of a picture, as laws want them.

eu: Article 50 (4) of Regulation (EU) 2024/1689, from 2 August 2026: AI-GENERATED or AI-MODIFIED in every picture.
cn: GB 45438-2025: "AI生成", at least 5 % of the shorter side high, for at least the first 2 s; `provenance.origin` adds
`AIGC` to the container's metadata.
"""
import cv2
import numpy as np

HEIGHT = {'eu': 0.05, 'cn': 0.065}  # of the words, of the picture's shorter side
SECONDS = {'eu': float('inf'), 'cn': 3.0}  # that they are shown from the first picture on
# The characters 生 and 成 in strokes, on a square of 100 × 100.
_STROKES = {
    '生': [[(28, 8), (23, 24), (12, 40)], [(20, 30), (84, 30)], [(22, 58), (80, 58)], [(8, 90), (92, 90)], [(50, 8), (50, 90)]],
    '成': [[(16, 26), (88, 26)], [(16, 26), (16, 55), (13, 74), (5, 92)], [(17, 48), (42, 48), (41, 72), (37, 81), (27, 76)],
          [(54, 6), (56, 30), (62, 55), (72, 76), (84, 89), (92, 91), (93, 76)], [(82, 40), (72, 62), (56, 80), (40, 92)],
          [(66, 8), (80, 18)]]}


class Label:
  """Words for pictures of one film."""

  def __init__(self, law: str, is_edited: bool):
    """law: 'eu' or 'cn'. is_edited: of a video that somebody had filmed."""
    self._law, self._is_edited = law, is_edited

  def is_shown(self, time_s: float) -> bool:
    """Whether in a picture at that many seconds."""
    return time_s < SECONDS[self._law]

  def box(self, height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the words in a picture of that size, pixels; even numbers."""
    sign = self._words(height, width)
    return 2, 2, *(min(side - 2, whole - 2) // 2 * 2 for side, whole in zip(sign.shape, (height, width)))

  def draw(self, part: np.ndarray, height: int, width: int) -> np.ndarray:
    """What lies in the `box` of a picture [height, width], [h, w, 3] uint8, with white words on a darkened ground."""
    sign = self._words(height, width)[:part.shape[0], :part.shape[1], None]
    return np.rint(0.35 * part * (1 - sign) + 255 * sign).astype(np.uint8)

  def add(self, rgb: np.ndarray, time_s: float) -> np.ndarray:
    """A picture [H, W, 3] uint8 with the words, where they are to be shown."""
    if not self.is_shown(time_s):
      return rgb
    top, left, height, width = self.box(*rgb.shape[:2])
    labelled = rgb.copy()
    labelled[top:top + height, left:left + width] = self.draw(rgb[top:top + height, left:left + width], *rgb.shape[:2])
    return labelled

  def _words(self, height: int, width: int) -> np.ndarray:
    """How white each pixel is: [h, w] float32."""
    text = 'AI' if self._law == 'cn' else 'AI-MODIFIED' if self._is_edited else 'AI-GENERATED'
    size = max(10, round(HEIGHT[self._law] * min(height, width)))
    thick, margin, scale = max(1, size // 12), max(2, size // 4), size / 20  # 20: height of capitals at scale 1
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    characters = '生成' if self._law == 'cn' else ''
    sign = np.zeros((size + 2 * margin, text_width + 2 * margin + len(characters) * (size + margin // 2)), np.uint8)
    cv2.putText(sign, text, (margin, margin + size), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick, cv2.LINE_AA)
    for place, character in enumerate(characters):
      left = margin + text_width + place * (size + margin // 2)
      for stroke in _STROKES[character]:
        points = np.rint((np.array(stroke) * size / 100 + (left, margin)) * 16).astype(np.int32)  # in sixteenths of a pixel
        cv2.polylines(sign, [points], False, 255, thick, cv2.LINE_AA, 4)
    return sign.astype(np.float32) / 255
