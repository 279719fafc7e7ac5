"""Command-line flags that several verbs share, defined once."""
from absl import flags

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a training run: config, checkpoints, logs, samples.')
OUT = flags.DEFINE_string('out', None, 'What to write: a subject folder (preprocess), an mp4 (render), a folder (evaluate).')
VIDEO = flags.DEFINE_multi_string(
    'video', None, 'Video files of one person speaking, with sound: comma-separated, patterns allowed; the flag may repeat. '
    'For evaluate: one video, to be compared with --against.')
LANDMARKER = flags.DEFINE_string(
    'landmarker', None,
    'face_landmarker.task of MediaPipe; by default $SPEECH2LIP_LANDMARKER, else a copy cached or downloaded once.')
