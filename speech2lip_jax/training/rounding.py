"""Shapes rounded up to a few, so that people whose sizes are alike share one compiled training.

Lip images get more rows and columns, in which their border is carried on; those pixels do not count in the lip loss, and are never
seen in a frame. What is not shape but number (where the lips lie, the focal length) goes to the device as arrays. A checkpoint has
a person's own shapes, so workdirs know nothing of this. Every training goes this way, of one person too: the results are the same.
"""
import concurrent.futures
import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict, FrozenConfigDict

from speech2lip_jax.data.input_pipeline import Resident
from speech2lip_jax.data.tracks import Speech
from speech2lip_jax.gamem.subject import Geometry, SubjectConstants
from speech2lip_jax.models.speech2lip import Speech2Lip
from speech2lip_jax.ops.boxes import LipBox
from speech2lip_jax.training import state as train_state
from speech2lip_jax.training import step as train_step
from speech2lip_jax.workdir.run import Run
from speech2lip_jax.workdir.state import TrainState

PIXELS, WINDOW_PIXELS = 16, 32  # sides of lip images, and of the windows of frames, are multiples of these
PROPORTION = 1 / 8  # lips are enlarged for a perceptual network with a multiple of it as width over height
OWN_FIELDS = ('data.path', 'audio.init')  # of a config, that no compiled function reads
PIXEL_PARAMETERS = ('components', 'probe', 'direction')  # of LinearLips and LipOpening: [..., P, 3], P the pixels of the lips
KEPT = 16  # compiled trainings


def rounded_count(count: int) -> int:
  """The next 2ⁿ or 3 · 2ⁿ, at least `count`."""
  power = 1 << max(count - 1, 1).bit_length()
  return power * 3 // 4 if power * 3 // 4 >= count else power


def _multiple(pixels: int, of: int) -> int:
  return -(-pixels // of) * of


def _composes(config: ConfigDict) -> bool:
  """Whether training steps put lips into frames."""
  return bool(config.sync.expert) or config.train.blend_start_step < config.train.num_steps


def rounded_geometry(geometry: Geometry, config: ConfigDict) -> Geometry:
  """The shapes that a person of that geometry shares with others, with numbers that are nobody's.

  Lips of a decoder or for a sync expert, whose networks have the box's own size, and windows that steps compose stay as they are.
  """
  rows, columns = geometry.lip_size
  if not config.sync.expert and config.field.kind != 'decoder':
    rows, columns = _multiple(rows, PIXELS), _multiple(columns, PIXELS)
  height, width = geometry.window
  if not _composes(config):
    height = min(_multiple(height, WINDOW_PIXELS), geometry.height)
    width = min(_multiple(width, WINDOW_PIXELS), geometry.width)
  proportion = max(PROPORTION, round(geometry.lip_proportion / PROPORTION) * PROPORTION)
  return geometry._replace(lip_box=LipBox(0, 0, rows, columns), lip_size=(rows, columns), lip_proportion=proportion,
                           window=(height, width), focal=1.0, lip_pixel=1.0)  # (the numbers come as arrays)


class Rounded(NamedTuple):
  """A run's model and constants in rounded shapes. own: rows and columns of the person's lip images."""
  model: Speech2Lip
  constants: SubjectConstants
  own: tuple[int, int]

  @classmethod
  def of(cls, run: Run) -> 'Rounded':
    """The model is equal, and hashes alike, for all people who can share its compiled functions."""
    config, geometry = copy.deepcopy(run.config).unlock(), run.model.geometry
    for name in OWN_FIELDS:
      section, _, field = name.partition('.')
      config[section][field] = ''
    model = Speech2Lip(FrozenConfigDict(config), rounded_geometry(geometry, config), run.model.axis_name)
    rounded = cls(model, run.constants, geometry.lip_size)
    constants = run.constants._replace(rgb_lip_mean=jnp.asarray(rounded.images(run.constants.rgb_lip_mean)),
                                       lip_coords=jnp.asarray(rounded.images(run.constants.lip_coords)),
                                       place=jax.tree.map(np.asarray, geometry.place))
    return rounded._replace(constants=constants)

  def compiled(self, num_channels: int, devices: Sequence[jax.Device]) -> 'Compiled':
    """`Compiled`, the same one for all who can share it."""
    geometry = self.model.geometry
    if not _composes(self.model.config):
      geometry = geometry._replace(window=(0, 0))  # only validation has windows
    return _compiled(self.model.clone(geometry=geometry), num_channels, tuple(devices))

  def images(self, images: Any) -> np.ndarray:
    """Lip images [..., h, w, C] with the border carried on to the rounded shape."""
    images, more = np.asarray(images), [size - own for size, own in zip(self.model.geometry.lip_size, self.own, strict=True)]
    return np.pad(images, [(0, 0)] * (images.ndim - 3) + [(0, count) for count in more] + [(0, 0)], 'edge') if any(more) else images

  def resident(self, resident: Resident) -> Resident:
    """With frames and steps filled up by repetitions of the last one, which no batch names."""
    def filled(array, axis):
      return np.pad(array, [(0, (rounded_count(size) - size) * (i == axis)) for i, size in enumerate(array.shape)], 'edge')
    speech = resident.speech
    return Resident(Speech(filled(speech.steps, 1), filled(speech.first, 0)), self.images(filled(resident.rgb_lip_canonical, 0)))

  def state(self, state: TrainState) -> TrainState:
    """A person's own state in rounded shapes."""
    return _of_pixels(state, lambda leaf: self.images(leaf.reshape(*leaf.shape[:-2], *self.own, 3)))

  def own_state(self, state: TrainState) -> TrainState:
    """A state in rounded shapes as the person's own."""
    size, (height, width) = self.model.geometry.lip_size, self.own
    return _of_pixels(state, lambda leaf: leaf.reshape(*leaf.shape[:-2], *size, 3)[..., :height, :width, :])


def _of_pixels(state: TrainState, change: Callable[[np.ndarray], np.ndarray]) -> TrainState:
  """The state with those parameters changed that have a value for each pixel of the lips, and what the optimizer keeps of them."""
  def one(path, leaf):
    if getattr(path[-1], 'key', None) not in PIXEL_PARAMETERS:
      return leaf
    changed = change(np.asarray(leaf))
    return changed.reshape(*changed.shape[:-3], -1, 3)
  return jax.tree_util.tree_map_with_path(one, state)


class Compiled:
  """What is compiled for a training: the same for all people of equal shapes.

  create: constants → the state at step 0.
  """

  def __init__(self, model: Speech2Lip, num_channels: int, devices: Sequence[jax.Device]):
    config = model.config
    self.optimizer: optax.GradientTransformation
    self.optimizer, self.schedule = train_state.make_optimizer(config.train)
    self.create = train_state.state_creator(model, self.optimizer, config, num_channels)
    self._step_of = functools.cache(
        lambda num_people: train_step.make_train_step(model, self.optimizer, config, devices, num_people))
    self._steps: dict[tuple, concurrent.futures.Future[Callable]] = {}

  def step(self, phase: train_step.Phase, num_people: int, arguments: Sequence[Any]) -> concurrent.futures.Future[Callable]:
    """The step of `step.make_train_step` for that phase and arguments of these shapes; a thread compiles it where none has yet.

    Of several processes, each compiles it in its first call, where pmap knows the shapes over all of them.
    """
    if jax.process_count() > 1:
      uncompiled: concurrent.futures.Future[Callable] = concurrent.futures.Future()
      uncompiled.set_result(self._step_of(num_people))
      return uncompiled
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, 'sharding', None)), tuple(arguments))
    key = phase, num_people, tuple(leaf.shape for leaf in jax.tree.leaves(shapes))
    if key not in self._steps:
      self._steps[key] = _compiler().submit(lambda: self._step_of(num_people).lower(*shapes).compile())
    return self._steps[key]


@functools.cache
def _compiler() -> concurrent.futures.ThreadPoolExecutor:
  """Two steps at once, which take a core each for most of it."""
  return concurrent.futures.ThreadPoolExecutor(2, 'compiler')


@functools.lru_cache(maxsize=KEPT)
def _compiled(model: Speech2Lip, num_channels: int, devices: tuple[jax.Device, ...]) -> Compiled:
  return Compiled(model, num_channels, devices)


def forget() -> None:
  """Drops what is compiled."""
  _compiled.cache_clear()
