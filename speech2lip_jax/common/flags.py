"""Command-line flags that several verbs share, defined once; a verb names those it reads by `flags.declare_key_flag`."""
import os
from collections.abc import Sequence

from absl import flags

WORKDIR = flags.DEFINE_string(
    'workdir', None, 'The folder that the verb writes into and continues from: checkpoints, logs, samples. '
    'For render and evaluate: the one that train wrote.')
OUT = flags.DEFINE_string(
    'out', None, 'What to write: a subject folder (preprocess), an mp4 (render), a folder (evaluate); convert says its own.')
VIDEO = flags.DEFINE_multi_string(
    'video', None, 'Video files of one person speaking, with sound: comma-separated, patterns allowed; the flag may repeat. '
    'For evaluate: one video, to be compared with --against.')
LANDMARKER = flags.DEFINE_string(
    'landmarker', None, 'face_landmarker.task of MediaPipe; by default $SPEECH2LIP_LANDMARKER, else a copy in the cache folder, '
    'which preprocess downloads once.')
CONSENT = flags.DEFINE_string(
    'consent', None, 'Who agreed to be made to speak, when and to what, in your words: kept in consent.json of the subject folder. '
    'Asked for once where a terminal is there.')
SIZE = flags.DEFINE_integer(
    'size', None, 'Side of the square face frames, pixels: at least 64, a multiple of 4; by default as large as the face square of '
    'the video, 96 ... 500, in the demo 256.')
AUDIO = flags.DEFINE_string(
    'audio', None, 'Any sound or video file: what the person is to say. For dub also several, with commas: then --out is a folder.')
FEATURES = flags.DEFINE_string(
    'features', None, 'The .npy of the features of --audio, where the model was trained on features from a file.')
PROVENANCE = flags.DEFINE_bool(
    'provenance', True, 'The video says what it is: tags, a C2PA manifest, and an invisible mark in the mouth. Leave it out only '
    'for measurements of the pictures.')
LABEL = flags.DEFINE_enum(
    'label', 'off', ['eu', 'cn', 'off'], "Visible words in the upper left corner: 'eu' in every picture (Article 50 of the AI "
    "Act), 'cn' in the first 3 s, with AIGC metadata (GB 45438).")
CERTIFICATE = flags.DEFINE_string(
    'certificate', None, 'PEM file of your certificate and those that vouch for it, which the manifest is signed with; by default '
    '$SPEECH2LIP_CERTIFICATE, else one that is made on first use.')
KEY = flags.DEFINE_string('key', None, "PEM file of the certificate's private key; by default $SPEECH2LIP_KEY.")
DISTRIBUTED = flags.DEFINE_bool(
    'distributed', False, 'One of several processes: found by itself on SLURM and TPU pods, else by the next three flags.')
COORDINATOR = flags.DEFINE_string('coordinator_address', None, 'HOST:PORT of process 0.')
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many processes work together.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')
START_TIMEOUT = flags.DEFINE_integer('start_timeout', 20, 'Seconds that a process waits for the others to start.', lower_bound=1)
DISTRIBUTED_FLAGS = ('distributed', 'coordinator_address', 'num_processes', 'process_id', 'start_timeout')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 8, 'Pictures a device renders at once.', lower_bound=1)


def split(values: Sequence[str]) -> list[str]:
  """The comma-separated parts of a flag's values; a file whose name has a comma is one part."""
  return [part for value in values for part in ([value] if os.path.exists(value) else value.split(',')) if part]
