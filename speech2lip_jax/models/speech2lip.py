"""The whole model: speech → canonical lips → composed into the frame by GAMEM → refined by Blend-Net.

Images are NHWC RGB float32 in 0 … 1; B frames at once, each with its own speech, pose and background.
"""
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import FrozenConfigDict

from speech2lip_jax.gamem.compose import Composition, window_fade
from speech2lip_jax.gamem.depth import CanonicalDepth
from speech2lip_jax.gamem.module import gamem_of
from speech2lip_jax.gamem.subject import Geometry, SubjectConstants
from speech2lip_jax.models.audio_net import AudioNet, ResidualAudioNet
from speech2lip_jax.models.blend_net import BlendNet
from speech2lip_jax.models.linear_lips import LinearLips, LipOpening
from speech2lip_jax.models.lip_field import LipDecoder, LipField, ProductLipField, field_coords, local_ensemble
from speech2lip_jax.ops import fill, sampling

AUDIO_NETS = {'residual': ResidualAudioNet, 'strided': AudioNet}


class Speech2Lip(nn.Module):
  """Attributes: config (the whole frozen config), geometry, axis_name (pmap axis over which batch statistics agree)."""
  config: FrozenConfigDict
  geometry: Geometry
  axis_name: str | None = None

  def at(self, constants: SubjectConstants) -> 'Speech2Lip':
    """The model for the subject of those constants, where it was built for the shapes of several (`SubjectConstants.place`)."""
    return self if constants.place is None else self.clone(geometry=self.geometry.at(constants.place))

  def setup(self):
    field, blend = self.config.field, self.config.blend
    self.audio_net = AUDIO_NETS[self.config.audio.network](self.config.audio.num_features)
    if field.kind == 'product':
      self.lip_field = ProductLipField(width=field.width, depth=field.depth, rank=field.rank, use_time=field.use_time)
    elif field.kind == 'decoder':
      self.lip_field = LipDecoder(self.geometry.lip_size, field.width)
    else:
      self.lip_field = LipField(width=field.width, depth=field.depth, skip_after=field.skip_after, use_time=field.use_time)
    num_pixels = math.prod(self.geometry.lip_size)
    if self.config.linear.share:
      self.linear_lips = LinearLips(self.config.linear.num_components, num_pixels)
    if self.config.linear.amplitude:
      self.lip_opening = LipOpening(num_pixels)
    self.blend_net = BlendNet(blend.width, blend.residual, blend.align_corners, self.axis_name)
    self.canonical_depth = CanonicalDepth(self.config.depth.cell)
    self.gamem = gamem_of(self.geometry, self.config, self.canonical_depth)

  def initialise(self, audio_feat: jax.Array, constants: SubjectConstants) -> None:
    """Asks each network once, for little, so that `init(…, method='initialise')` makes all variables. audio_feat: [1, T, C]."""
    self.lips(audio_feat, jnp.zeros(1, jnp.int32), constants)
    self.blend_net(jnp.zeros((1, 8, 8, 3)))
    self.depth(constants)

  def audio_embedding(self, audio_feat: jax.Array) -> jax.Array:
    """The audio embedding a of each window [B, T, C], and behind it what else moves lips: [B, A].

    A is num_features; with `config.linear.share` num_components more, what the linear lips hear; with `config.linear.amplitude`
    one more, how much further the lips shall open than was learned, here 0: `rendering.articulation` knows.
    """
    parts = [self.audio_net(audio_feat)]
    if self.config.linear.share:
      parts.append(self.linear_lips.codes(audio_feat))
    if self.config.linear.amplitude:
      parts.append(jnp.zeros((len(audio_feat), 1)))
    return jnp.concatenate(parts, axis=1)

  def field_pixels(self, audio_embedding: jax.Array, frame_id: jax.Array, pixels: jax.Array, constants: SubjectConstants,
                   ensemble_shift: jax.Array | None = None) -> jax.Array:
    """The lip field's colours (Eq. 1), which are trained, at chosen pixels of the canonical lip image.

    Args:
      audio_embedding: [B, A] audio embedding of each frame.
      frame_id: [B] int32, read where the field has a time input.
      pixels: [P] int32 index row · w + column into the lip image, the same in all frames.
      constants: of the subject.
      ensemble_shift: [B] in 0 … 1, the random shift of continuous sampling (Eq. 2); None evaluates pixel centres.

    Returns:
      [B, P, 3] float32, not clamped.
    """
    _, _, height, width = self.geometry.lip_box
    coords, heard = constants.lip_coords.reshape(-1, 2)[pixels], audio_embedding[:, :self.config.audio.num_features]
    evaluate = lambda at: self.lip_field(at, heard, frame_id)
    if self.config.field.kind == 'decoder':
      rgb = self.lip_field(heard).reshape(len(heard), -1, 3)[:, pixels]
    elif ensemble_shift is None:
      rgb = evaluate(coords)
    else:
      everywhere = jnp.broadcast_to(coords, (len(audio_embedding), *coords.shape))
      rgb = local_ensemble(evaluate, everywhere, (height, width), ensemble_shift)
    if self.config.field.residual:
      rgb = rgb + constants.rgb_lip_mean.reshape(-1, 3)[pixels]
    return rgb

  def lip_pixels(self, audio_feat: jax.Array, frame_id: jax.Array, pixels: jax.Array, constants: SubjectConstants,
                 ensemble_shift: jax.Array | None = None) -> jax.Array:
    """`field_pixels` of the speech in audio_feat [B, T, C]: [B, P, 3]."""
    return self.field_pixels(self.audio_embedding(audio_feat), frame_id, pixels, constants, ensemble_shift)

  def paint(self, audio_embedding: jax.Array, frame_id: jax.Array, constants: SubjectConstants) -> jax.Array:
    """Whole canonical lip images of audio embeddings [B, A], as they are rendered: [B, h, w, 3]."""
    pixels = jnp.arange(math.prod(self.geometry.lip_size))
    rgb = self.field_pixels(audio_embedding, frame_id, pixels, constants)
    return (rgb + self._beside_field(rgb, audio_embedding, constants)).reshape(-1, *self.geometry.lip_size, 3)

  def openings(self, audio_embedding: jax.Array, frame_id: jax.Array, constants: SubjectConstants) -> jax.Array:
    """`LipOpening.measure` of what `paint` paints: [B]."""
    lips = self.paint(audio_embedding, frame_id, constants) - constants.rgb_lip_mean
    return self.lip_opening.measure(lips.reshape(len(lips), -1, 3))

  def _beside_field(self, rgb: jax.Array, audio_embedding: jax.Array, constants: SubjectConstants) -> jax.Array:
    """What rendered lips have besides the field's colours rgb [B, P, 3]: [B, P, 3].

    It is the linear lips' share, a wider opening, and stronger details.
    """
    linear, detail_gain, beside = self.config.linear, self.config.field.detail_gain, jnp.zeros_like(rgb)
    if linear.share:
      mean = constants.rgb_lip_mean.reshape(-1, 3)
      first = self.config.audio.num_features
      codes = audio_embedding[:, first:first + linear.num_components]
      beside += linear.share * (self.linear_lips.paint(codes, jnp.arange(len(mean))) + mean - rgb)
    if linear.amplitude:
      beside += self.lip_opening.colours(audio_embedding[:, -1])
    if detail_gain != 1:
      detail = sampling.fine_detail((rgb + beside).reshape(-1, *self.geometry.lip_size, 3))
      beside += (detail_gain - 1) * detail.reshape(rgb.shape)
    return beside

  def lips(self, audio_feat: jax.Array, frame_id: jax.Array, constants: SubjectConstants) -> jax.Array:
    """Whole canonical lip images of the speech in audio_feat [B, T, C]: [B, h, w, 3]."""
    return self.paint(self.audio_embedding(audio_feat), frame_id, constants)

  def depth(self, constants: SubjectConstants) -> jax.Array:
    """`Gamem.depth`: D_c [sH, sW]."""
    return self.gamem.depth(constants)

  def paint_at(self, audio_embedding: jax.Array, frame_id: jax.Array, coords_canonical: jax.Array, rgb_base: jax.Array
               ) -> jax.Array:
    """The lip field asked directly at canonical points (Eq. 1), between pixels too: no lip image of it is ever resampled.

    Args:
      audio_embedding: [B, A] audio embeddings.
      frame_id: [B] int32, read where the field has a time input.
      coords_canonical: [B, wh, ww, 2] (x, y) pixels of the canonical image; beyond the lip box its border counts.
      rgb_base: [B, h, w, 3] or [h, w, 3], what the field's colours are added to; read by a cubic spline.

    Returns:
      [B, wh, ww, 3] float32, not clamped.
    """
    box, shape = self.geometry.lip_box, coords_canonical.shape
    heard = audio_embedding[:, :self.config.audio.num_features]
    rgb = self.lip_field(field_coords(coords_canonical, box).reshape(shape[0], -1, 2), heard, frame_id)
    base = jnp.broadcast_to(rgb_base, (shape[0], *self.geometry.lip_size, 3))
    return rgb.reshape(*shape[:-1], 3) + self.gamem.read(base, coords_canonical)

  def compose(self, rgb_lip: jax.Array, rgb_face_observed: jax.Array, observed_from_canonical: jax.Array,
              depth_canonical: jax.Array) -> Composition:
    """Carries canonical lips into the frames by C2O, inside a window around the mouth (section "Compose" of [P] 3.3).

    Args:
      rgb_lip: [B, h, w, 3]. rgb_face_observed: [B, H, W, 3]. observed_from_canonical: [B, 4, 4].
      depth_canonical: [H, W].
    """
    return self.gamem.carry(rgb_lip, self.gamem.windows(rgb_face_observed, observed_from_canonical, depth_canonical))

  def blend(self, merged: jax.Array, train: bool = False, hole: jax.Array | None = None) -> jax.Array:
    """Blend-Net's picture of the window, fading back into `merged` at the rim. [B, wh, ww, 3].

    hole: [B, wh, ww] bool, pixels to be filled by `fill_holes`.
    """
    fade = window_fade(*self.geometry.window, edge=self.config.blend.edge * self.geometry.width)
    refined = self.blend_net(merged, train=train) if hole is None else self.fill_holes(merged, hole, train)
    return merged + fade * (refined - merged)

  def fill_holes(self, rgb: jax.Array, hole: jax.Array, train: bool = False) -> jax.Array:
    """Blend-Net's picture of rgb [B, h, w, 3] whose pixels in `hole` [B, h, w] bool were not seen: it sees them black.

    A residual is added to a smooth fill, so that a network that has learned nothing yet leaves that.
    """
    black = jnp.where(hole[..., None], 0.0, rgb)
    refined = self.blend_net(black, train=train)
    if self.config.blend.residual:
      refined = refined + jnp.where(hole[..., None], jax.vmap(fill.diffuse)(rgb, ~hole), 0.0)
    return refined

  def render(self, audio_embedding: jax.Array, frame_id: jax.Array, rgb_face_observed: jax.Array,
             observed_from_canonical: jax.Array, constants: SubjectConstants, train: bool = False, hole: jax.Array | None = None,
             residual: jax.Array | None = None, tone: jax.Array | None = None) -> tuple[Composition, jax.Array]:
    """Audio embeddings [B, A] and frames → the composition and its blended window [B, wh, ww, 3].

    The lips are painted on their grid and carried, or asked for at C2O, as `config.compose.sampling` says.
    residual: [B, h, w, 3], added to the canonical lips. tone: [h, w, 3], by which they are then multiplied.
    """
    windows = self.gamem.windows(rgb_face_observed, observed_from_canonical, self.depth(constants))
    added = 0.0 if residual is None else residual
    if self.config.compose.sampling == 'direct':
      base = constants.rgb_lip_mean if self.config.field.residual else jnp.zeros_like(constants.rgb_lip_mean)
      rgb = self.field_pixels(audio_embedding, frame_id, jnp.arange(math.prod(self.geometry.lip_size)), constants)
      beside = self._beside_field(rgb, audio_embedding, constants).reshape(-1, *self.geometry.lip_size, 3)
      lips = self.paint_at(audio_embedding, frame_id, windows.coords, base + added + beside)
      if tone is not None:
        lips = lips * self.gamem.read(jnp.broadcast_to(tone, beside.shape), windows.coords)
      composition = self.gamem.merge(lips, windows)
    else:
      lips = self.paint(audio_embedding, frame_id, constants) + added
      composition = self.gamem.carry(lips if tone is None else lips * tone, windows)
    return composition, self.blend(composition.merged, train=train, hole=hole)

  def __call__(self, audio_feat: jax.Array, frame_id: jax.Array, rgb_face_observed: jax.Array,
               observed_from_canonical: jax.Array, constants: SubjectConstants, train: bool = False,
               hole: jax.Array | None = None) -> tuple[Composition, jax.Array]:
    """`render` of the speech in audio_feat [B, T, C]."""
    return self.render(self.audio_embedding(audio_feat), frame_id, rgb_face_observed, observed_from_canonical, constants,
                       train=train, hole=hole)
