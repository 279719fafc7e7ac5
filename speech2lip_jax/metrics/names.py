"""The metrics of `metrics.json` by name: those of a frame, those of ours against the truth's over time, and those of sync.

The field's LSE-C is sync_conf and its LSE-D is sync_dist; sync_conf0 and sync_acc5 ask for a mouth in time (`metrics.sync`).
PERCEPTUAL names the networks that judge pictures: of each, its distance to the truth, that of neighbouring frames, and how much
the latter differs from the truth's (`metrics.detail.flicker`).
"""

PERCEPTUAL = ('lpips',)
DISTANCE_METRICS, STEP_METRICS, FLICKER_METRICS = (tuple(f'{network}_{of}' for network in PERCEPTUAL)
                                                   for of in ('lip', 'step', 'flicker'))
FRAME_METRICS = ('psnr_lip', 'psnr_img', 'ssim_lip', 'ssim_img', 'cpbd_lip', 'laplacian_lip', *DISTANCE_METRICS, 'seam_levels',
                 'seam_ratio', 'seam_lip_ratio', 'untouched_levels', 'motion_lip', *STEP_METRICS)
RATIO_METRICS = ('laplacian_ratio', 'motion_ratio', *FLICKER_METRICS)
LANDMARK_METRICS = ('lmd_px', 'opening_corr', 'opening_lag_ms', 'opening_amplitude', 'jitter_px', 'jitter_ratio')
CLOSURE_METRICS = ('closed_share', 'closed_ratio', 'closures_made')
SYNC_METRICS = ('sync_conf', 'sync_dist', 'sync_conf0', 'sync_acc5')
METRICS = (*FRAME_METRICS, *RATIO_METRICS, *LANDMARK_METRICS, *CLOSURE_METRICS, *SYNC_METRICS)
