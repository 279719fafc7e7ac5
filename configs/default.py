"""The default recipe: Speech2Lip [ICCV 2023] with the better ways that measured better (README, "Results").

    speech2lip train --config configs/default.py --workdir RUN --config.data.path=SUBJECT
"""
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Every field once, with its unit and range."""
  config = ConfigDict()
  config.seed = 0  # ≥ 0; initialisation, order of frames and all noise follow from it

  config.data = ConfigDict()
  config.data.path = ''  # the subject folder that `speech2lip preprocess` wrote
  config.data.split = 'auto'  # 'clips': every test_every-th is test; 'tail': the last test_fraction; 'auto': by clip from 12 on
  config.data.test_every = 6  # clips; clip 6, 12, 18 … in name order are test
  config.data.test_fraction = 0.1  # of all frames, for split 'tail'; 0 … 0.5
  config.data.val_fraction = 0.06  # of the training part, kept out of training to pick the best checkpoint; 0 … 0.5
  config.data.num_val_frames = 64  # validation frames looked at in each round, evenly spaced
  config.data.prefetch = 2  # batches made ahead by the loader thread, ≥ 1

  config.audio = ConfigDict()
  config.audio.window_steps = 32  # mel steps (80 a second) centred on the frame; 16, 32 or 64
  config.audio.num_features = 64  # length of the speech code a
  config.audio.noise_std = 0.5  # std of Gaussian noise on the mel (range −4 … 4) in training
  config.audio.gain_std = 0.0  # std of a constant added to a whole window in training, mel units: loudness

  config.field = ConfigDict()
  config.field.width = 128  # units of a hidden layer; the reference program has 256, four times the work for no gain here
  config.field.depth = 8  # hidden layers
  config.field.skip_after = 5  # the input is fed in again after this layer
  config.field.use_time = False  # frame index as input: memorises, costs held-out PSNR
  config.field.residual = True  # the field paints the difference to the subject's mean lips
  config.field.ensemble = False  # Eq. 2: the mean of four shifted evaluations in training, four times the work

  config.compose = ConfigDict()
  config.compose.feather = 0.06  # width of the soft rim inside the lip box, of the box's width
  config.compose.num_inverse_steps = 8  # fixed-point steps of C2O

  config.blend = ConfigDict()
  config.blend.residual = True  # Blend-Net predicts what to add to its input [P]; False: the image itself
  config.blend.context = 0.08  # margin of its window around the lips, of the frame's width
  config.blend.hole_fraction = 0.5  # of the windows in training have black holes, for Blend-Net to fill them at new poses
  config.blend.edge = 0.03  # width over which the window's rim fades back into the frame, of the frame's width

  config.depth = ConfigDict()
  config.depth.cell = 1 / 16  # distance of the nodes of the learned depth correction, of the canonical image's width
  config.depth.num_frames = 32  # training frames it is learned from, those with the most different poses; 0 keeps the tracked depth
  config.depth.data_weight = 100.0  # of their photometric error [P Eq. 9] against smoothness

  config.loss = ConfigDict()
  config.loss.lip_weight = 1.0  # L2 on canonical lips
  config.loss.frame_weight = 1.0  # L2 on the blended window

  config.train = ConfigDict()
  config.train.num_steps = 4000  # steps in all; the schedule ends there
  config.train.batch_size = 32  # frames a step over all devices; a multiple of devices × blend_every
  config.train.lip_pixels = 256  # random lip pixels of each frame in the lip loss; 0: all
  config.train.blend_start_step = 3000  # from here on every blend_every-th frame of the batch is also composed and blended
  config.train.blend_every = 8  # frames
  config.train.learning_rate = 1e-3  # peak of a warm-up and cosine schedule that ends at 0
  config.train.warmup_steps = 100
  config.train.weight_decay = 1e-4  # decoupled (AdamW)
  config.train.clip_norm = 1.0  # largest global norm of the gradient
  config.train.ema_decay = 0.998  # moving average of the weights that is evaluated and rendered
  config.train.log_every = 20  # steps
  config.train.eval_every = 250  # steps: validation metrics, sample image, checkpoint
  config.train.keep_checkpoints = 2  # newest ones kept; the best on the validation part is kept besides

  return config.lock()
