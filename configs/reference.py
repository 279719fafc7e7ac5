"""The released program's recipe: for parity with it, and for checkpoints that `speech2lip convert --kind speech2lip` imports.

    speech2lip train --config configs/reference.py --workdir RUN --config.data.path=SUBJECT

What it reproduces depends on who reads it.
- `speech2lip_jax/released/step.py` takes the program's whole step from it, every term and slip, `config.reference` included; the
  tests hold its losses, gradients and batch statistics against the program's own.
- `speech2lip train` takes the networks, the optimiser's numbers and the sampling: width 256, a time input, no mean lips, four
  shifted evaluations, Blend-Net predicting the picture, lips and frame from the first step on, one frame a step, no
  averaging; first weights as PyTorch's layers draw them, and a constant rate. Composition, the window and the warps stay this
  project's (one rigid depth instead of stored coordinates; the lip box alone is pasted, where the program pastes a grown
  rectangle of the canonical face). The perceptual term is left out until its weights are given (config.loss.lpips,
  config.loss.perceptual_weight=0.01), the sync term until an expert is (config.sync.expert); there it is Eq. 6, where gradients
  come from the negatives too.
- An imported workdir is this recipe with the sizes that its weights have.

By this recipe a subject needs about 30 h on one GPU (the paper).
"""
from ml_collections import ConfigDict

from speech2lip_jax.configs import default


def get_config() -> ConfigDict:
  """The default recipe with the released program's choices, and what only the program has in `config.reference`."""
  config = default.get_config().unlock()
  config.audio.window_steps = 16
  config.audio.normalise = False  # imported networks heard DeepSpeech's logits as they are
  config.audio.noise_std = 0.0
  config.audio.network = 'strided'
  config.audio.voice_fraction = 0.0
  config.audio.smoothing = 0.0
  config.silence.close = False
  config.field.kind = 'reference'
  config.field.width = 256
  config.field.depth = 8
  config.field.use_time = True
  config.field.render_time = 'own'
  config.field.residual = False
  config.field.detail_gain = 1.0
  config.field.ensemble = True
  config.linear.share = 0.0
  config.linear.amplitude = 0.0
  config.compose.feather = 0.0
  config.compose.jaw = False
  config.blend.width = 64
  config.blend.residual = False
  config.blend.align_corners = True
  config.loss.lip_perceptual_weight = 0.0
  config.loss.lpips = ''
  config.depth.num_frames = 0  # its learned depth is used by none of its warps
  config.sync.start_step = 100_000
  config.train.num_steps = 200_000  # the program has no end; its sync term begins at half of this
  config.train.batch_size = 1
  config.train.lip_pixels = 0
  config.train.blend_start_step = 0
  config.train.blend_every = 1
  config.train.initial_weights = 'torch'
  config.train.learning_rate = 1e-4
  config.train.schedule = 'constant'
  config.train.warmup_steps = 0
  config.train.weight_decay = 0.0
  config.train.clip_norm = 1e9  # never reached
  config.train.ema_decay = 0.0
  config.train.log_every = 100
  config.train.eval_every = 5000

  config.reference = ConfigDict()  # read by speech2lip_jax/released/step.py alone
  config.reference.learning_rate = 1e-4  # of Adam, constant
  config.reference.paste_offset_px = 0  # −1 for all but three subjects: lips go one pixel up and left of their place
  config.reference.expand_divisor = 5  # the lip box grows by its width over this at top, left and right, twice that below
  config.reference.lpips_weight = 0.01  # of the sum over lips and frame
  config.reference.depth_weight = 1.0
  config.reference.sync_weight = 0.01
  config.reference.sync_start_step = 100_000  # from here on the sync term counts and Blend-Net's weights get no gradient

  return config.lock()
