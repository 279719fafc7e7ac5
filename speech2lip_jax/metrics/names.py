"""The metrics of `metrics.json` by name: those of a frame, those by landmarks, and those of sync.

The field's LSE-C is sync_conf and its LSE-D is sync_dist; sync_conf0 and sync_acc5 ask for a mouth in time (`metrics.sync`).
"""

FRAME_METRICS = ('psnr_lip', 'psnr_img', 'ssim_lip', 'ssim_img', 'cpbd_lip', 'lpips_lip', 'seam_levels', 'seam_ratio',
                 'seam_lip_ratio', 'untouched_levels')
LANDMARK_METRICS = ('lmd_px', 'opening_corr', 'opening_lag_ms', 'opening_amplitude', 'jitter_px', 'jitter_ratio')
SYNC_METRICS = ('sync_conf', 'sync_dist', 'sync_conf0', 'sync_acc5')
METRICS = (*FRAME_METRICS, *LANDMARK_METRICS, *SYNC_METRICS)
