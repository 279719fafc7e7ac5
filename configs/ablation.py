"""The paper's ablations (Tables 4 and 5) and ours, one row for each, on one subject: small enough for a CPU.

    speech2lip preprocess --video 'grid_s1/*.mpg' --out subjects/grid128 --size 128
    speech2lip expert --subject subjects/grid128 --workdir judge --recipe.data.test_every=24 --recipe.data.part=odd --recipe.seed=1
    speech2lip sweep --config configs/ablation.py --workdir runs/ablation --config.data.path=subjects/grid128 --judge judge

leaves runs/ablation/table.md, table.csv and plot.svg: mean ± standard deviation over two seeds. One to three minutes a trial
on a free core. The judge must not have seen the test clips, so it is given the same split.
"""
from ml_collections import ConfigDict

from speech2lip_jax.configs import default

SECONDS = (15, 30, 60, 120)  # of training video; the other rows have SECONDS_OF_ALL
SECONDS_OF_ALL = 300


def get_config() -> ConfigDict:
  """The default recipe, shorter and with fewer test clips."""
  config = default.get_config()
  config.data.test_every = 24
  config.data.max_train_seconds = float(SECONDS_OF_ALL)
  config.data.num_val_frames = 48
  config.train.num_steps = 800
  config.train.blend_start_step = config.train.get_ref('num_steps') * 13 // 16
  config.train.batch_size = 32
  config.train.lip_pixels = 0
  config.train.eval_every = 400
  config.train.keep_checkpoints = 1
  return config.lock()


def get_hyper(hyper):
  """The rows, each with two seeds; all rows by the first seed come first."""
  config = get_config()
  # The frame's loss alone teaches nothing before the frame is composed: from the first step on, twice as many frames.
  frames_from_start = {'train.blend_start_step': 0, 'train.blend_every': 8}
  frame_alone = {**frames_from_start, 'loss.lip_weight': 0.0}
  few_pixels = {'train.lip_pixels': 64}
  rows = [
      *hyper.named('L_w', {**frame_alone, 'depth.num_frames': 0}),
      *hyper.named('L_w + L_d', frame_alone),
      *hyper.named('L_w + L_d + L_m', frames_from_start),
      *hyper.named('ours: L_m, then L_w + L_d + L_m'),
      *hyper.named('ours + L_s', {'sync.expert': 'own', 'sync.start_step': config.train.num_steps // 4}),
      *hyper.named('64 pixels a frame', few_pixels),
      *hyper.named('64 pixels a frame, continuous sampling', {**few_pixels, 'field.ensemble': True}),
      *hyper.named('decoder for the implicit model', {'field.kind': 'decoder'}),
      *hyper.named('time input', {'field.use_time': True}),
      *hyper.named('no Blend-Net', {'train.blend_start_step': config.train.num_steps}),
      *hyper.named('Blend-Net of 64 channels', {'blend.width': 64}),
      *hyper.named('L_w + L_d + L_m, Blend-Net predicts the picture', {**frames_from_start, 'blend.residual': False}),
      *hyper.named('Blend-Net on the whole frame', {'blend.context': 1.0}),
      *hyper.named('direct sampling', {'compose.sampling': 'direct'}),
      *hyper.named('direct sampling, L_w + L_d', {**frame_alone, 'compose.sampling': 'direct'}),
      *(trial for seconds in SECONDS for trial in hyper.named(f'{seconds} s of video', {'data.max_train_seconds': float(seconds)}))]
  return [trial for seed in range(2) for trial in hyper.product(rows, hyper.sweep('seed', [seed]))]
