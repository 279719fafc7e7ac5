"""The package's speech encoder: seconds a minute of sound, memory of long sounds, what int8 costs, and agreement with its origin.

    python benchmarks/speech_encoder.py --audio speech.wav                                # seconds, GiB
    python benchmarks/speech_encoder.py --audio speech.wav --onnx smart-turn-v3.2-cpu.onnx # pip install onnx onnxruntime
    python benchmarks/speech_encoder.py --audio speech.wav --float tiny_en_encoder_f16.npz # OpenAI's, names as CTranslate2 has them

The sound is repeated to each length of `--minutes`, a process each; the 80 components that training and rendering hear are asked
for. `--onnx`: hidden states of the second layer over the sound's first 8 s, against the model that the weights are from, whose
activations are int8 too. `--float`: the first two layers of float16 weights, against the same weights in int8, a scale a row.
"""
import argparse
import os
import pathlib
import platform
import resource
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from speech2lip_jax.data import whisper_speech  # noqa: E402
from speech2lip_jax.data.schema import SAMPLE_RATE  # noqa: E402
from speech2lip_jax.data.utterance import read_utterance
from speech2lip_jax.models.whisper import WhisperEncoder  # noqa: E402

ONNX_STATES = 'add_268'  # the second layer's output in the graph of smart-turn v3.2
NUM_CHANNELS, NUM_HEADS, NUM_HIDDEN, NUM_LAYERS = 384, 6, 1536, 2


def seconds_of(sound: np.ndarray) -> float:
  """Of encoding the sound once, when everything is compiled and loaded."""
  encoder, axes = whisper_speech.own_encoder(), np.eye(NUM_CHANNELS, 80, dtype=np.float32)
  encoder(sound[:SAMPLE_RATE], 0.1, axes=axes)
  start = time.perf_counter()
  encoder(sound, whisper_speech.speech_level(sound), axes=axes)
  return time.perf_counter() - start


def correlation(ours: np.ndarray, theirs: np.ndarray) -> str:
  """Over all states, each channel about its mean: the channels differ in size."""
  parts = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T, strict=True)]
  return f'{np.mean(parts):.4f} in the mean of channels, {np.min(parts):.4f} in the worst'


def against_onnx(sound: np.ndarray, path: str) -> str:
  """`correlation` with the graph's own states."""
  import onnx
  import onnxruntime
  model = onnx.load(path)
  model.graph.output.append(onnx.helper.make_tensor_value_info(ONNX_STATES, onnx.TensorProto.FLOAT, None))
  session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
  encoder = whisper_speech.own_encoder()
  mel = encoder.window_mel(sound, 0, whisper_speech.speech_level(sound))
  theirs, = session.run([ONNX_STATES], {session.get_inputs()[0].name: mel.T[None]})
  return correlation(np.asarray(encoder.encode(mel[None]))[0], theirs[0])


def float_weights(path: str) -> dict[str, np.ndarray]:
  """Weights of the first layers in the names of `models.whisper`, float32."""
  file = np.load(path, allow_pickle=False)
  read = lambda name: file[f'encoder/{name}'].astype(np.float32)
  weights = {f'{conv}.{kind}': read(f'{conv}/{kind}') for conv in ('conv1', 'conv2') for kind in ('weight', 'bias')}
  weights['embed_positions.weight'] = read('position_encodings/encodings')
  for i in range(NUM_LAYERS):
    theirs, ours = f'layer_{i}', f'layers.{i}'
    for kind in ('weight', 'bias'):
      for name, part in zip('qkv', np.split(read(f'{theirs}/self_attention/linear_0/{kind}'), 3), strict=True):
        weights[f'{ours}.self_attn.{name}_proj.{kind}'] = part
      weights[f'{ours}.self_attn.out_proj.{kind}'] = read(f'{theirs}/self_attention/linear_1/{kind}')
      weights[f'{ours}.fc1.{kind}'] = read(f'{theirs}/ffn/linear_0/{kind}')
      weights[f'{ours}.fc2.{kind}'] = read(f'{theirs}/ffn/linear_1/{kind}')
    for block, norm in (('self_attention', 'self_attn_layer_norm'), ('ffn', 'final_layer_norm')):
      weights[f'{ours}.{norm}.weight'] = read(f'{theirs}/{block}/layer_norm/gamma')
      weights[f'{ours}.{norm}.bias'] = read(f'{theirs}/{block}/layer_norm/beta')
  return weights


def packed(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The inverse of `whisper_speech.unpacked`: matrices as int8 and a scale for each row."""
  result = {}
  for name, value in weights.items():
    if value.ndim > 1:
      scale = np.abs(value).reshape(len(value), -1).max(1) / 127
      result[f'{name}/scale'] = scale
      value = np.round(value / scale.reshape(-1, *[1] * (value.ndim - 1))).astype(np.int8)
    result[name] = value
  return result


def against_float(sound: np.ndarray, path: str) -> str:
  """`correlation` of int8 with float16 weights over the whole sound."""
  weights = float_weights(path)
  encoder = WhisperEncoder(NUM_CHANNELS, NUM_HEADS, NUM_HIDDEN, NUM_LAYERS, len(weights['embed_positions.weight']))
  level = whisper_speech.speech_level(sound)
  return correlation(*(whisper_speech.WhisperSpeech(encoder, some)(sound, level)
                       for some in (whisper_speech.unpacked(packed(weights)), weights)))


def main() -> None:
  """Prints what is asked for."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--audio', required=True)
  parser.add_argument('--minutes', type=float, nargs='*', default=[1, 10, 120])
  parser.add_argument('--onnx')
  parser.add_argument('--float')
  parser.add_argument('--one', type=float, help=argparse.SUPPRESS)  # a length, measured in this process
  options = parser.parse_args()
  sound = read_utterance(options.audio).mono
  if options.one:
    seconds = seconds_of(np.resize(sound, round(options.one * 60 * SAMPLE_RATE)))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f'| {options.one:g} min | {seconds / options.one:.2f} | {memory:.2f} |')
    return
  print(f'{platform.machine()}, {os.cpu_count()} cores, {time.strftime("%Y-%m-%d")}\n\n'
        '| sound | s a minute of it | GiB at most |\n|---|---|---|', flush=True)
  for minutes in options.minutes:
    subprocess.run([sys.executable, __file__, '--audio', options.audio, '--one', str(minutes)], check=True)
  if options.onnx:
    print(f'\nthe ONNX model, correlation: {against_onnx(sound, options.onnx)}')
  if options.float:
    print(f'\nint8 against float16 weights, correlation: {against_float(sound, options.float)}')


if __name__ == '__main__':
  main()
