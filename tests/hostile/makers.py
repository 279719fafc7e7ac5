"""Small files of every kind, good and bad, made by code."""

import os
import pathlib
import struct
import zlib
from fractions import Fraction

import av
import numpy as np

RATE, TONE_HZ, SECONDS = 16_000, 500, 1.0
HEIGHT, WIDTH, FPS, PICTURES = 48, 64, 25, 25


def tone(rate=RATE, channels=1, seconds=SECONDS):
  """[channels, n] int16."""
  wave = 8000 * np.sin(2 * np.pi * TONE_HZ * np.arange(round(seconds * rate)) / rate)
  return np.repeat(np.rint(wave).astype(np.int16)[None], channels, axis=0)


def wav(samples, rate=RATE, code=1, **fields):
  """Bytes of a wav of samples [channels, n]; `fields` replace what its header says: channels, rate, bits, align, size, code."""
  channels, bits = len(samples), samples.dtype.itemsize * 8
  told = {
    'code': code,
    'channels': channels,
    'rate': rate,
    'bits': bits,
    'align': channels * bits // 8,
    'size': samples.nbytes,
  } | fields
  header = struct.pack(
    '<HHIIHH', told['code'], told['channels'], told['rate'], told['rate'] * told['align'] % 2**32, told['align'], told['bits']
  )
  body = b'fmt ' + struct.pack('<I', 16) + header + b'data' + struct.pack('<I', told['size']) + samples.T.tobytes()
  return b'RIFF' + struct.pack('<I', min(4 + len(body), 2**32 - 1)) + b'WAVE' + body


def write(path, content):
  """Writes bytes or text; returns the path as a string."""
  path = pathlib.Path(path)
  path.write_bytes(content.encode() if isinstance(content, str) else content)
  return str(path)


def sound_file(
  path, codec='pcm_s16le', rate=RATE, layout='mono', seconds=SECONDS, container=None, metadata=None, jump_s=0.0, **options
):
  """A tone, encoded; from its middle on `jump_s` later."""
  with av.open(str(path), 'w', format=container, options=options) as file:
    file.metadata.update(metadata or {})
    stream = file.add_stream(codec, rate=rate, layout=layout)
    _mux_tone(file, stream, rate, layout, seconds, jump_s)
  return str(path)


def _mux_tone(file, stream, rate, layout, seconds=SECONDS, jump_s=0.0):
  channels = av.AudioLayout(layout).nb_channels
  resampler = av.AudioResampler(
    format=stream.format, layout=layout, rate=rate, frame_size=stream.codec_context.frame_size or 1024
  )
  for start in range(0, round(seconds * rate), 1024):
    frame = av.AudioFrame.from_ndarray(
      np.ascontiguousarray(tone(rate, channels, seconds)[:, start : start + 1024]), format='s16p', layout=layout
    )
    frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
    for out in resampler.resample(frame):
      _encode(file, stream, out, rate, seconds, jump_s)
  for out in resampler.resample(None):
    _encode(file, stream, out, rate, seconds, jump_s)
  file.mux(stream.encode(None))


def _encode(file, stream, frame, rate, seconds, jump_s):
  if frame.pts is not None and frame.pts >= seconds * rate / 2:
    frame.pts += round(jump_s * rate)
  file.mux(stream.encode(frame))


def clip(
  path,
  codec='libx264',
  size=(HEIGHT, WIDTH),
  fps=FPS,
  count=PICTURES,
  pix_fmt='yuv420p',
  sound='aac',
  times_s=None,
  container=None,
  sound_rate=RATE,
  sound_layout='mono',
  options=None,
  context=None,
  metadata=None,
  **container_options,
):
  """A video whose pictures grow lighter, with a tone. context: attributes of the encoder's context."""
  height, width = size
  with av.open(str(path), 'w', format=container, options=container_options) as file:
    file.metadata.update(metadata or {})
    stream = file.add_stream(codec, rate=Fraction(fps).limit_denominator(100_000), options=options or {})
    stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
    for name, value in (context or {}).items():
      setattr(stream.codec_context, name, value)
    if times_s is not None:
      stream.codec_context.time_base = Fraction(1, 1000)
    heard = file.add_stream(sound, rate=sound_rate, layout=sound_layout) if sound else None
    for number in range(count):
      image = np.full((height, width, 3), 40 + 150 * number // max(count, 1), np.uint8)
      frame = av.VideoFrame.from_ndarray(image, format='rgb24')
      if times_s is not None:
        frame.pts, frame.time_base = round(times_s[number] * 1000), Fraction(1, 1000)
      file.mux(stream.encode(frame))
    file.mux(stream.encode(None))
    if heard:
      _mux_tone(file, heard, sound_rate, sound_layout, count / fps)
  return str(path)


def spoil(path, kind, at=0.5, size=2000):
  """Spoils a file: 'cut' its end off, 'overwrite' or 'insert' noise, or 'zero' a part; at: a share of its length."""
  content = pathlib.Path(path).read_bytes()
  place, noise = int(len(content) * at), np.random.default_rng(0).bytes(size)
  return write(
    path,
    {
      'cut': content[:place],
      'overwrite': content[:place] + noise + content[place + size :],
      'insert': content[:place] + noise + content[place:],
      'zero': content[:place] + bytes(size) + content[place + size :],
    }[kind][: max(len(content) + size, 0)],
  )


def patched(path, old, new, every=False):
  """Replaces bytes of a file, the first or every time; they must be there."""
  content = pathlib.Path(path).read_bytes()
  assert old in content and len(old) == len(new)
  return write(path, content.replace(old, new, -1 if every else 1))


def after(path, name, offset, new):
  """Replaces bytes `offset` after the first `name` in a file."""
  content = bytearray(pathlib.Path(path).read_bytes())
  place = content.index(name) + offset
  content[place : place + len(new)] = new
  return write(path, bytes(content))


def png(width, height, rows=None):
  """Bytes of a PNG that says it is that large; rows: how many black ones it holds."""

  def part(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

  packer = zlib.compressobj(1)
  row = bytes(width * 3 + 1)
  data = b''.join(packer.compress(row) for _ in range(height if rows is None else rows)) + packer.flush()
  return (
    b'\x89PNG\r\n\x1a\n'
    + part(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    + part(b'IDAT', data)
    + part(b'IEND', b'')
  )


def fifo(path):
  """A pipe that nobody writes to."""
  os.mkfifo(path)
  return str(path)


def link(path, target):
  """A symbolic link."""
  os.symlink(target, path)
  return str(path)


def faces(count):
  """[count, 478, 3] float32: landmarks that are pixels."""
  return np.random.default_rng(0).uniform(5, 45, (count, 478, 3)).astype(np.float32)
