"""The default recipe: Speech2Lip [ICCV 2023] with the better ways that measured better (docs/results.md).

    speech2lip train --config configs/default.py --workdir RUN --config.data.path=SUBJECT
"""
from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
  """Every field once, with its unit; its type and range stand in schema.py."""
  num_steps = FieldReference(1500)  # the phases below begin at shares of it, so that they scale with config.train.num_steps
  config = ConfigDict()
  config.seed = 0  # initialisation, order of frames and all noise follow from it

  config.data = ConfigDict()
  config.data.path = ''  # the subject folder that `speech2lip preprocess` wrote
  config.data.split = 'auto'  # 'clips': every test_every-th is test; 'tail': the last test_fraction; 'auto': by clip from 12 on
  config.data.test_every = 6  # clips; clip 6, 12, 18 … in name order are test
  config.data.test_fraction = 0.1  # of all frames, for split 'tail'
  config.data.val_fraction = 0.06  # of the training part, kept out of training to pick the best checkpoint
  config.data.val_blocks = 5  # stretches of time that it comes from, for split 'tail'; 1: the end of the training part
  config.data.max_train_seconds = 0.0  # the first so many seconds of the training part are used, as if there were no more; 0: all
  config.data.num_val_frames = 64  # validation frames looked at in each round, evenly spaced
  config.data.prefetch = 2  # batches made ahead by the loader thread

  config.audio = ConfigDict()
  config.audio.features = 'mel+whisper'  # or 'mel', 'whisper', a .npy computed elsewhere, 'hf:FOLDER_OR_NAME' (data/features.py)
  config.audio.features_rate = 0.0  # steps a second of a .npy of steps [M, C]; 0: it holds windows [N, T, C], one a frame
  config.audio.window_steps = 32  # steps centred on the frame (mel: 80 a second; encoders: 50, where 16 fit)
  config.audio.num_features = 64  # length of the audio embedding a
  config.audio.noise_std = 0.5  # std of Gaussian noise on the features in training; mel has range −4 … 4, std 1.2, others std 1
  config.audio.normalise = True  # mel less its recording's mean spectrum: microphone and room go; others to mean 0, std 1
  config.audio.network = 'residual'  # or 'strided', AudioNet of the released program
  config.audio.init = ''  # a workdir: training begins from its audio network, such as one of `train --shared audio_net`; '': anew
  config.audio.voice_fraction = 0.5  # of the windows in training sound like another voice, by the next three (mel only)
  config.audio.voice_warp = 0.15  # largest shift of their frequencies, log scale: other vocal tracts
  config.audio.voice_tilt_std = 0.3  # std of a smooth equaliser of 5 knots on them, mel units: other voices and microphones
  config.audio.voice_gain_std = 0.3  # std of a constant added to them, mel units: loudness
  config.audio.smoothing = 0.5  # std of a Gaussian over the audio embeddings of neighbouring frames in rendering, frames

  config.silence = ConfigDict()
  config.silence.close = True  # where nobody speaks, the rendered mouth is the subject's own closed one, still
  config.silence.lead = 0.6  # s before speech in which the mouth may move already. Pauses up to lead + hold stay open
  config.silence.hold = 0.6  # s after speech in which it may still move
  config.silence.ramp = 0.2  # s that closing and opening take, outside of lead and hold

  config.field = ConfigDict()
  config.field.kind = 'product'  # Σ g(x) h(a, t), asked once for all frames; or 'reference', one network of x, a and t;
  # or 'decoder', no implicit function but convolutions that make the whole lip image, at its own pixels only
  config.field.width = 128  # units of a hidden layer; the released program has 256
  config.field.depth = 4  # hidden layers; the released program has 8
  config.field.rank = 64  # products of kind 'product'
  config.field.skip_after = 5  # of kind 'reference': the input is fed in again after this layer
  config.field.use_time = False  # frame index as input: memorises, costs held-out PSNR
  config.field.render_time = 'middle'  # with use_time, all is rendered at the time of the middle training frame, or 'own' index
  config.field.residual = True  # the field paints the difference to the subject's mean lips
  config.field.detail_gain = 2.25  # details of a pixel's size are rendered so many times as strong as they are painted
  config.field.real_detail = 0.0  # of rendered lips' fine detail, is that of the subject's own nearest mouth in training
  config.field.ensemble = False  # Eq. 2: the mean of four shifted evaluations in training, four times the work

  config.linear = ConfigDict()
  config.linear.share = 0.4  # of what is added to the mean lips, by ridge regression; the field paints the rest
  config.linear.num_components = 48  # main components of the lips that it predicts
  config.linear.amplitude = 1.2  # rendered lips' opening and closing, of the true; 0 leaves them as learned, which mumbles

  config.compose = ConfigDict()
  config.compose.sampling = 'grid'  # a canonical lip image is painted and read at C2O; 'direct': the field is asked there
  config.compose.feather = 0.06  # width of the soft rim inside the lip box, of the box's width
  config.compose.num_inverse_steps = 8  # fixed-point steps of C2O
  config.compose.jaw = True  # the frame's lower face is moved to fit the painted lips, where the subject has landmarks

  config.blend = ConfigDict()
  config.blend.width = 16  # channels at full size, twice as many below; the released program has 64
  config.blend.align_corners = False  # doubling keeps the ends (released program): then the window's rim matters everywhere
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
  config.loss.lip_perceptual_weight = 0.01  # perceptual distance on canonical lips; 0 leaves it out
  config.loss.perceptual_weight = 0.0  # perceptual distance on the blended window; 0 leaves it out
  config.loss.lpips = 'own'  # the distance: 'own', ST-LPIPS of the package; FILE.npz of `speech2lip convert --kind lpips`;
  # '': of edges, which needs no weights
  config.loss.sync_weight = 0.002  # contrastive sync loss (Eq. 6)

  config.perceptual = ConfigDict()
  config.perceptual.start_step = num_steps * 3 // 4  # step; from here until Blend-Net joins lips are compared by it too
  config.perceptual.num_frames = 2  # frames a step whose whole lips are, over all devices
  config.perceptual.height = 68  # pixels that the lip box is enlarged to for it, times the canonical scale

  config.sync = ConfigDict()
  config.sync.expert = ''  # folder of `speech2lip expert`, several with commas between, or of `convert --kind syncnet`;
  # 'own': experts trained first, into the workdir
  config.sync.num_own = 2  # experts of 'own', which judge together
  config.sync.start_step = num_steps // 4  # step; from here on windows of 5 consecutive frames come to each batch
  config.sync.num_windows = 8  # windows a step over all devices; that many devices, or a divisor of it, can be used
  config.sync.num_negatives = 8  # other times of its clip that a mouth is held against
  config.sync.max_shift = 15  # the furthest of them, frames
  config.sync.negative_weight = 1.0  # of the negatives against the positives; 0 leaves them out

  config.train = ConfigDict()
  config.train.num_steps = num_steps  # steps in all; the schedule ends there
  config.train.batch_size = 64  # frames a step over all devices; what does not divide by them leaves some idle
  config.train.lip_pixels = 512  # random lip pixels in a step's lip loss, the same in its frames; 0: all
  config.train.blend_start_step = num_steps + 0  # step; from here on every blend_every-th frame is also blended, and rendering
  # uses Blend-Net; num_steps: never, as it wins nothing (docs/results.md)
  config.train.blend_every = 16  # frames
  config.train.initial_weights = 'own'  # each network draws its first weights by its own rule; 'torch': as PyTorch's layers do
  config.train.learning_rate = 2e-3  # peak, after the warm-up
  config.train.schedule = 'cosine'  # after the warm-up the learning rate falls to 0 at the last step; or 'constant'
  config.train.warmup_steps = 100  # steps until the learning rate is at its peak
  config.train.weight_decay = 1e-4  # decoupled (AdamW)
  config.train.clip_norm = 1.0  # largest global norm of the gradient
  config.train.ema_decay = 0.995  # moving average of the weights that is evaluated and rendered
  config.train.log_every = 20  # steps
  config.train.eval_every = 400  # steps: validation metrics, sample image, checkpoint
  config.train.keep_checkpoints = 2  # newest ones kept; the best on the validation part is kept besides

  return config.lock()
