"""The table: each kind of input, what is done with it, and the line or the result that it must come to. A new kind is one entry.

`make` takes an empty folder and returns what `act` (of `acts`) is given. `expected` is a pattern of the one line that refuses it,
or a `Right` result.
"""

import os
import pathlib
import struct
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.hostile.makers import (
  HEIGHT,
  PICTURES,
  RATE,
  WIDTH,
  after,
  clip,
  faces,
  fifo,
  link,
  patched,
  png,
  sound_file,
  spoil,
  tone,
  wav,
  write,
)


class Right(NamedTuple):
  """A result, as far as it is told. seconds: of sound or pictures. size: (width, height). warns: pattern of the one warning."""

  seconds: float | None = None
  size: tuple[int, int] | None = None
  warns: str | None = None
  within: float = 0.1


class Kind(NamedTuple):
  act: str
  make: Callable[[pathlib.Path], Any]
  expected: str | Right


KINDS: dict[str, Kind] = {}


def add(name: str, act: str, make: Callable[[pathlib.Path], Any], expected: str | Right) -> None:
  assert name not in KINDS, name
  KINDS[name] = Kind(act, make, expected)


# ---- Sound: rates, layouts, containers

ONE = Right(seconds=1.0)
for _rate in (3_000, 8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000, 768_000):
  add(f'wav of {_rate} Hz', 'hear', lambda at, rate=_rate: write(at / 'a.wav', wav(tone(rate), rate)), ONE)
for _channels in (2, 3, 6, 8, 11, 24, 64):
  add(f'wav of {_channels} channels', 'hear', lambda at, count=_channels: write(at / 'a.wav', wav(tone(channels=count))), ONE)
add('wav of 255 channels', 'hear', lambda at: write(at / 'a.wav', wav(tone(channels=255))), 'has 255 channels; give 1 ... 64')
for _codec in ('pcm_u8', 'pcm_s24le', 'pcm_s32le', 'pcm_f32le', 'pcm_f64le', 'pcm_alaw', 'pcm_mulaw', 'adpcm_ms'):
  add(f'wav of {_codec}', 'hear', lambda at, codec=_codec: sound_file(at / 'a.wav', codec), ONE)
for _name, _codec, _options in (
  ('aiff', 'pcm_s16be', {}),
  ('au', 'pcm_s16be', {}),
  ('caf', 'pcm_s16le', {}),
  ('w64', 'pcm_s16le', {}),
  ('flac', 'flac', {}),
  ('ogg', 'libopus', {'rate': 48_000}),
  ('mp3', 'libmp3lame', {}),
  ('aac', 'aac', {}),
  ('m4a', 'aac', {}),
  ('mka', 'aac', {}),
  ('webm', 'libopus', {'rate': 48_000}),
  ('ac3', 'ac3', {'rate': 48_000}),
  ('mp2', 'mp2', {'rate': 48_000}),
  ('ts', 'aac', {'container': 'mpegts'}),
  ('mov', 'pcm_s16le', {}),
  ('avi', 'libmp3lame', {}),
  ('flv', 'aac', {'rate': 44_100}),
  ('tta', 'tta', {}),
  ('wv', 'wavpack', {}),
  ('3gp', 'aac', {}),
):
  add(
    f'sound in {_name}',
    'hear',
    lambda at, name=_name, codec=_codec, options=_options: sound_file(at / f'a.{name}', codec, **options),
    Right(seconds=1.0, within=0.13),
  )
add('alac in m4a', 'hear', lambda at: sound_file(at / 'a.m4a', 'alac'), ONE)
add(
  'mp3 named wav', 'hear', lambda at: sound_file(at / 'a.wav', 'libmp3lame', container='mp3'), Right(seconds=1.0, within=0.13)
)
add(
  'mono, then stereo of another rate',
  'hear',
  lambda at: write(
    at / 'a.mp3',
    b''.join(
      pathlib.Path(
        sound_file(at / f'{layout}.mp3', 'libmp3lame', rate=rate, layout=layout, write_xing='0', id3v2_version='0')
      ).read_bytes()
      for layout, rate in (('mono', 44_100), ('stereo', 48_000))
    ),
  ),
  Right(seconds=2.0, within=0.25),
)
add('one sample', 'hear', lambda at: write(at / 'a.wav', wav(tone(seconds=1 / RATE))), Right(seconds=0.0))
add('digital silence', 'hear', lambda at: write(at / 'a.wav', wav(0 * tone())), ONE)
add('float samples beyond ±1', 'hear', lambda at: write(at / 'a.wav', wav(tone().astype(np.float32), code=3)), ONE)
add(
  'tags that are no UTF-8',
  'hear',
  lambda at: patched(sound_file(at / 'a.flac', 'flac', metadata={'title': 'Grossek'}), b'Grossek', b'Gr\xf6\xdfe\xff!'),
  ONE,
)
add(
  'tags of the terminal', 'hear', lambda at: sound_file(at / 'a.flac', 'flac', metadata={'title': '\x1b[2J\x1b]0;x\x07'}), ONE
)
add(
  'a chunk of metadata behind the samples',
  'hear',
  lambda at: write(at / 'a.wav', wav(tone()) + b'LIST' + struct.pack('<I', 999) + bytes(999)),
  ONE,
)
add('wav written to a pipe', 'hear', lambda at: write(at / 'a.wav', wav(tone(), size=2**32 - 1)), ONE)

# ---- Sound: no file, no sound

NO_SOUND_FILE = r'not a readable sound file'
for _act, _end in (('hear', 'wav'), ('see', 'mp4')):
  add(f'{_end}: no such file', _act, lambda at, end=_end: str(at / f'none.{end}'), r'none\.\w+: no such file')
  add(f'{_end}: empty', _act, lambda at, end=_end: write(at / f'a.{end}', b''), 'is empty')
  add(f'{_end}: a folder', _act, lambda at: str(at), 'is a folder')
  add(f'{_end}: a pipe', _act, lambda at, end=_end: fifo(at / f'a.{end}'), 'is a device or a pipe')
  add(f'{_end}: /dev/zero', _act, lambda at: '/dev/zero', 'is a device or a pipe')
  add(f'{_end}: a link to /dev/zero', _act, lambda at, end=_end: link(at / f'a.{end}', '/dev/zero'), 'is a device or a pipe')
  add(
    f'{_end}: a link to itself',
    _act,
    lambda at, end=_end: link(at / f'a.{end}', at / f'a.{end}'),
    'Too many levels of symbolic links|no such file',
  )
  add(f'{_end}: a link to nothing', _act, lambda at, end=_end: link(at / f'a.{end}', at / 'gone'), 'no such file')
  add(
    f'{_end}: a name too long', _act, lambda at, end=_end: str(at / ('n' * 300 + f'.{end}')), 'File name too long|no such file'
  )
  add(
    f'{_end}: a name with a null',
    _act,
    lambda at, end=_end: f'{at}/a\0.{end}',
    r'a\\x00\.\w+: (cannot be looked at|no such file)',
  )
  add(f'{_end}: text', _act, lambda at, end=_end: write(at / f'a.{end}', 'hello ' * 999), 'not a readable')
  add(
    f'{_end}: a web page',
    _act,
    lambda at, end=_end: write(at / f'a.{end}', '<!DOCTYPE html><html><body>404</body></html>'),
    'not a readable',
  )
  add(f'{_end}: zeros', _act, lambda at, end=_end: write(at / f'a.{end}', bytes(100_000)), 'not a readable|no sound|no video')
  add(
    f'{_end}: noise',
    _act,
    lambda at, end=_end: write(at / f'a.{end}', np.random.default_rng(5).bytes(100_000)),
    'not a readable|no sound|cannot be decoded|no video|has 0 samples',
  )
  add(
    f'{_end}: a playlist of the web',
    _act,
    lambda at, end=_end: write(
      at / f'a.{end}', '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n'
    ),
    'not a readable|no sound|no video',
  )
  add(
    f'{_end}: a script of FFmpeg that names other files',
    _act,
    lambda at, end=_end: write(at / f'a.{end}', 'ffconcat version 1.0\nfile /etc/passwd\n'),
    'not a readable|no sound|no video',
  )
  add(
    f'{_end}: a session description',
    _act,
    lambda at, end=_end: write(
      at / f'a.{end}', 'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n'
    ),
    'not a readable|no sound|no video',
  )
add('a zip named wav', 'hear', lambda at: _zip(at / 'a.wav', {'x': b'x' * 99}), NO_SOUND_FILE)
add('a video without sound', 'hear', lambda at: clip(at / 'a.mp4', sound=None), 'has no sound stream')
add('a picture as a sound', 'hear', lambda at: write(at / 'a.png', png(16, 16)), 'has no sound stream')
add('wav: a header alone', 'hear', lambda at: write(at / 'a.wav', wav(tone()[:, :0])), 'holds no sound')
add('mp3: tags alone', 'hear', lambda at: write(at / 'a.mp3', b'ID3\x03\0\0\0\0\0\x0a' + bytes(10)), 'not a readable|no sound')
add(
  'mp3: tags of 200 MB',
  'hear',
  lambda at: write(at / 'a.mp3', b'ID3\x03\0\0\x5f\x7f\x7f\x7f' + bytes(50)),
  'not a readable|no sound',
)
add('m4a without its index', 'hear', lambda at: spoil(sound_file(at / 'a.m4a', 'aac'), 'cut', 0.5), NO_SOUND_FILE)
add(
  'mkv of an unknown codec',
  'hear',
  lambda at: patched(sound_file(at / 'a.mka', 'pcm_s16le'), b'A_PCM/INT/LIT', b'A_PCM/INT/XXX'),
  'FFmpeg does not know|0 samples|cannot be decoded|not a readable',
)
for _what, _fields, _line in (
  ('rate 0', {'rate': 0}, 'not a readable|has 0 samples a second'),
  ('rate 1', {'rate': 1}, 'has 1 samples a second'),
  ('rate 4 GHz', {'rate': 2**32 - 1}, 'samples a second|not a readable'),
  ('no channels', {'channels': 0}, 'has 0 channels|not a readable|0 samples'),
  ('65535 channels', {'channels': 65_535, 'align': 65_535}, 'has 0 channels|not a readable'),
  ('0 bits', {'bits': 0, 'align': 0}, 'does not know|not a readable'),
  ('an unknown format', {'code': 0x1234}, 'FFmpeg does not know|not a readable|cannot be decoded'),
  ('33 bits', {'bits': 33}, 'not a readable|cannot be decoded|does not know'),
):
  add(f'wav that says {_what}', 'hear', lambda at, fields=_fields: write(at / 'a.wav', wav(tone(), **fields)), _line)
for _value in (np.nan, np.inf, -np.inf):
  add(
    f'a sample of {_value}',
    'hear',
    lambda at, value=_value: write(at / 'a.wav', wav(_with_sample(value), code=3)),
    r'a sample at 0\.5\d s is not a finite number',
  )
add(
  'm4a that says it lasts a year',
  'hear',
  lambda at: after(sound_file(at / 'a.m4a', 'aac'), b'mdhd', 20, struct.pack('>I', 16_000 * 134_000)),
  Right(seconds=1.0),
)

# ---- Sound: damage

for _name, _codec, _options in (
  ('wav', 'pcm_s16le', {}),
  ('mp3', 'libmp3lame', {}),
  ('m4a', 'aac', {'movflags': 'faststart'}),
  ('mka', 'aac', {}),
  ('flac', 'flac', {}),
):
  add(
    f'half of {_name}',
    'hear',
    lambda at, name=_name, codec=_codec, options=_options: spoil(
      sound_file(at / f'a.{name}', codec, seconds=4.0, **options), 'cut'
    ),
    Right(seconds=4.0, within=0.2, warns=r'become silence: [12]\.\d\d–[34]\.\d\d s'),
  )
for _name, _codec, _options in (
  ('mp3', 'libmp3lame', {}),
  ('m4a', 'aac', {'movflags': 'faststart'}),
  ('mka', 'aac', {}),
  ('flac', 'flac', {}),
  ('ts', 'aac', {'container': 'mpegts'}),
):
  add(
    f'noise over a part of {_name}',
    'hear',
    lambda at, name=_name, codec=_codec, options=_options: spoil(
      sound_file(at / f'a.{name}', codec, seconds=6.0, **options), 'overwrite', size=3000
    ),
    Right(seconds=6.0, within=0.2, warns=r'become silence: [1-4]\.\d\d–'),
  )
add(
  'noise in front of mp3',
  'hear',
  lambda at: spoil(sound_file(at / 'a.mp3', 'libmp3lame'), 'insert', 0.0),
  Right(seconds=1.0, within=0.3),
)
add(
  'a twentieth of a wav',
  'hear',
  lambda at: spoil(sound_file(at / 'a.wav', seconds=4.0), 'cut', 0.05),
  'damaged or missing; fetch',
)
add(
  'time stamps that jump ahead',
  'hear',
  lambda at: sound_file(at / 'a.mka', jump_s=1.5),
  Right(seconds=2.5, warns=r'become silence: 0\.5\d–2\.0\d s'),
)
add('time stamps that jump a day ahead', 'hear', lambda at: sound_file(at / 'a.mka', jump_s=86_400), ONE)

# ---- Video: containers, rates, sizes

for _name, _codec, _options in (
  ('mp4', 'libx264', {}),
  ('mov', 'libx264', {}),
  ('mkv', 'libx264', {}),
  ('webm', 'libvpx', {'sound': 'libopus', 'sound_rate': 48_000}),
  ('avi', 'mpeg4', {'sound': 'libmp3lame'}),
  ('mpg', 'mpeg2video', {'sound': 'mp2', 'sound_rate': 48_000}),
  ('ts', 'libx264', {'container': 'mpegts'}),
  ('flv', 'flv', {'sound_rate': 44_100}),
  ('wmv', 'wmv2', {'sound': 'libmp3lame', 'container': 'asf'}),
  ('3gp', 'mpeg4', {}),
):
  add(
    f'video in {_name}',
    'see',
    lambda at, name=_name, codec=_codec, options=_options: clip(at / f'a.{name}', codec, **options),
    Right(seconds=1.0, size=(WIDTH, HEIGHT)),
  )
for _codec, _pix_fmt, _name in (
  ('libx265', 'yuv420p10le', 'mp4'),
  ('libvpx-vp9', 'yuv420p', 'mkv'),
  ('libsvtav1', 'yuv420p', 'mp4'),
  ('ffv1', 'bgr0', 'mkv'),
  ('mjpeg', 'yuvj422p', 'avi'),
  ('prores_ks', 'yuv422p10le', 'mov'),
  ('qtrle', 'argb', 'mov'),
  ('rawvideo', 'yuv420p', 'avi'),
  ('rawvideo', 'gray', 'mkv'),
  ('huffyuv', 'rgb24', 'avi'),
):
  add(
    f'{_codec} of {_pix_fmt}',
    'see',
    lambda at, codec=_codec, pix_fmt=_pix_fmt, name=_name: clip(
      at / f'a.{name}',
      codec,
      pix_fmt=pix_fmt,
      sound='libmp3lame' if name == 'avi' else 'aac',
      size=(64, 64) if codec == 'libsvtav1' else (HEIGHT, WIDTH),
    ),
    ONE,
  )
for _fps, _count in ((1, 3), (5, 10), (23.976, 24), (60, 60), (240, 240), (1000, 1000)):
  add(
    f'{_fps} pictures a second',
    'see',
    lambda at, fps=_fps, count=_count: clip(at / 'a.mkv', fps=fps, count=count),
    Right(seconds=_count / _fps),
  )
for _size in ((2, 2), (16, 4096), (4096, 16)):
  add(
    f'pictures of {_size[1]}×{_size[0]}',
    'look',
    lambda at, size=_size: clip(at / 'a.mkv', 'ffv1', size=size, sound=None),
    Right(1.0, _size[::-1]),
  )
add(
  'an odd size',
  'look',
  lambda at: clip(at / 'a.mkv', 'ffv1', size=(33, 17), pix_fmt='yuv444p', sound=None),
  Right(1.0, (17, 33)),
)
add(
  'pictures at any time',
  'look',
  lambda at: clip(at / 'a.mkv', sound=None, times_s=np.cumsum([0.0] + [0.02, 0.06] * 12)),
  Right(seconds=1.0),
)
add(
  'a pause of the pictures',
  'look',
  lambda at: clip(at / 'a.mkv', sound=None, times_s=np.arange(25) / 25 + 3 * (np.arange(25) > 12)),
  Right(seconds=4.0),
)
add(
  'time stamps from a day on',
  'look',
  lambda at: clip(at / 'a.mkv', sound=None, times_s=86_400 + np.arange(25) / 25),
  Right(seconds=1.0),
)
add('video tags that are no UTF-8', 'look', lambda at: patched(_tagged(at), b'Grossek', b'Gr\xf6\xdfe\xff!'), ONE)

# ---- Video: none, and lies

NO_VIDEO = 'has no video stream'
add('a sound as a video', 'see', lambda at: sound_file(at / 'a.m4a', 'aac'), NO_VIDEO)
add('a wav as a video', 'see', lambda at: write(at / 'a.wav', wav(tone())), NO_VIDEO)
add('a video without sound for a subject', 'see', lambda at: clip(at / 'a.mp4', sound=None), 'has no sound')
add('a video of one picture', 'look', lambda at: clip(at / 'a.mp4', sound=None, count=1), r'only 0\.\d\d s long')
add('a picture as a video', 'look', lambda at: write(at / 'a.png', png(32, 32)), r'only 0\.\d\d s long')
add('mp4 without its index', 'see', lambda at: spoil(clip(at / 'a.mp4'), 'cut'), 'not a readable video')
TOO_LARGE = r'pixels, or do not tell|not a readable'
add('a PNG of 100000×100000, by its header', 'look', lambda at: write(at / 'a.png', png(100_000, 100_000, 1)), TOO_LARGE)
add('a PNG bomb of 14000×14000', 'look', lambda at: write(at / 'a.png', png(14_000, 14_000)), TOO_LARGE)
add(
  'a y4m of 100000×100000',
  'look',
  lambda at: write(at / 'a.y4m', b'YUV4MPEG2 W100000 H100000 F25:1\nFRAME\n' + bytes(999)),
  TOO_LARGE,
)
add(
  'a BMP of 100000×100000',
  'look',
  lambda at: write(
    at / 'a.bmp',
    b'BM' + struct.pack('<IHHIIiiHHIIiiII', 999, 0, 0, 54, 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(999),
  ),
  TOO_LARGE,
)
add(
  'a GIF of 65535×65535',
  'look',
  lambda at: write(at / 'a.gif', b'GIF89a\xff\xff\xff\xff\0\0\0,' + bytes(4) + b'\xff\xff\xff\xff\0\x08' + bytes(99)),
  TOO_LARGE + '|only',
)
add(
  'an AVI of 100000×100000',
  'look',
  lambda at: after(clip(at / 'a.avi', 'rawvideo', sound=None), b'strf', 12, struct.pack('<ii', 100_000, 100_000)),
  TOO_LARGE,
)
add('a Matroska of 65535×65535', 'look', lambda at: _matroska_of(at, 65_535), TOO_LARGE + '|none of its')
add(
  'an AVI that says it has 1e9 pictures',
  'look',
  lambda at: after(clip(at / 'a.avi', 'mpeg4', sound=None), b'avih', 24, struct.pack('<I', 10**9)),
  ONE,
)
add(
  'an AVI stream that says it has 1e9 pictures',
  'look',
  lambda at: after(clip(at / 'a.avi', 'mpeg4', sound=None), b'strh', 40, struct.pack('<I', 10**9)),
  r'lasts \S+ h|^$',
)
add(
  'an mp4 of 1e9 pictures by its table',
  'look',
  lambda at: after(clip(at / 'a.mp4', sound=None, options={'bf': '0'}), b'stts', 12, struct.pack('>I', 10**9)),
  r'lasts \S+ h|not a readable|^$',
)
add(
  'a jump of the time stamps by a year',
  'look',
  lambda at: clip(at / 'a.mkv', sound=None, times_s=np.arange(25) / 25 + 3e7 * (np.arange(25) > 12)),
  r'lasts 8333 h by its time stamps',
)
add(
  'an mp4 whose pictures last years',
  'look',
  lambda at: after(clip(at / 'a.mp4', sound=None, options={'bf': '0'}), b'stts', 16, struct.pack('>I', 2**31 - 1)),
  r'lasts \S+ h',
)
add(
  'a time scale of 0',
  'look',
  lambda at: after(clip(at / 'a.mp4', sound=None), b'mdhd', 16, bytes(4)),
  r'lasts \S+ h|only \d|not a readable|^$',
)
add('65 streams', 'look', lambda at: _streams(at, 65), 'no video stream')
add('pictures of noise', 'look', lambda at: _noise_pictures(at), 'none of its|not a readable|only|pixels')
for _name, _codec, _options in (
  ('mkv', 'libx264', {}),
  ('mpg', 'mpeg2video', {'sound': 'mp2', 'sound_rate': 48_000}),
  ('ts', 'libx264', {'container': 'mpegts'}),
  ('avi', 'mpeg4', {'sound': 'libmp3lame'}),
):
  add(
    f'half of a video in {_name}',
    'look',
    lambda at, name=_name, codec=_codec, options=_options: spoil(
      clip(at / f'a.{name}', codec, count=100, size=(96, 128), **options), 'cut'
    ),
    Right(seconds=2.0, within=1.7, warns='any'),
  )
for _name, _codec, _options in (
  ('mp4', 'libx264', {'movflags': 'faststart'}),
  ('mkv', 'libx264', {}),
  ('ts', 'libx264', {'container': 'mpegts'}),
  ('avi', 'mpeg4', {'sound': 'libmp3lame'}),
  ('mpg', 'mpeg2video', {'sound': 'mp2', 'sound_rate': 48_000}),
):
  add(
    f'noise over a part of a video in {_name}',
    'see',
    lambda at, name=_name, codec=_codec, options=_options: spoil(
      clip(at / f'a.{name}', codec, count=100, size=(96, 128), **options), 'overwrite', size=800
    ),
    Right(seconds=3.0, within=1.1, warns='any'),
  )

# ---- Video that is to be dubbed

add('a source of mp4', 'source', lambda at: clip(at / 'a.mp4'), ONE)
add(
  'a source with an alpha channel',
  'source',
  lambda at: clip(at / 'a.mov', 'qtrle', pix_fmt='argb', sound=None),
  'has an alpha channel',
)
add(
  'a source of grey', 'source', lambda at: clip(at / 'a.mkv', 'ffv1', pix_fmt='gray', sound=None), 'pixels of the format gray'
)
add(
  'a source of HDR',
  'source',
  lambda at: clip(at / 'a.mkv', 'libx265', pix_fmt='yuv420p10le', sound=None, context={'color_trc': 16}),
  r'is HDR \(PQ\)',
)
add(
  'a source of 8000×64',
  'source',
  lambda at: clip(at / 'a.mkv', 'ffv1', size=(64, 8000), sound=None, count=15),
  'more than 4096×2160',
)
add(
  'a source of which half is gone',
  'source',
  lambda at: spoil(clip(at / 'a.mkv', count=100), 'cut'),
  Right(seconds=2.0, within=1.7, warns='any'),
)
add('a source that is a PNG bomb', 'source', lambda at: write(at / 'a.png', png(14_000, 14_000)), TOO_LARGE)

# ---- Names

for _what, _name in (
  ('a line break', 'a\nb'),
  ('a quote', 'a"b\'c'),
  ('a dash', '-a'),
  ('other scripts', 'ü漢字😀'),
  ('a pattern', 'a%d'),
  ('a pattern of digits', 'a%03d'),
  ('HTML', '<img src=x onerror=alert(1)>'),
  ('255 bytes', 'n' * 251),
  ('dollars', '$x_1$'),
  ('a comma', 'a,b'),
  ('spaces', ' a '),
  ('a star', 'a*[b]?'),
  ('a colon', 'http:a'),
  ('a protocol', 'concat:a|b'),
  ('bytes that are no UTF-8', os.fsdecode(b'a\xff')),
  ('the terminal', 'a\x1b[2J'),
  ('right to left', 'a\u202egnp'),
):
  add(f'a sound whose name has {_what}', 'hear', lambda at, name=_name: write(at / f'{name}.wav', wav(tone())), ONE)
  add(
    f'a video whose name has {_what}',
    'look',
    lambda at, name=_name: str(pathlib.Path(clip(at / 'a.mp4', sound=None)).rename(at / f'{name}.mp4')),
    ONE,
  )
add('a bad file whose name has a line break', 'hear', lambda at: write(at / 'a\nb.wav', 'text'), r'a\\nb\.wav: not a readable')
add(
  'a bad file whose name speaks to the terminal',
  'see',
  lambda at: write(at / 'a\x1b[2J.mp4', 'text'),
  r'a\\x1b\[2J\.mp4: not a readable',
)

# ---- Landmarks of others

VIDEO_OF_TRACKS = 'v.mp4'


def tracks(name: str, make: Callable[[pathlib.Path], Any], expected: str | Right) -> None:
  def with_video(at):
    clip(at / VIDEO_OF_TRACKS)
    return make(at)

  add(f'tracks: {name}', 'tracks', with_video, expected)


def _saved(at, compressed=False, name='landmarks', **arrays):
  (np.savez_compressed if compressed else np.savez)(at / 'a.npz', **(arrays or {name: faces(PICTURES)}))
  return str(at / 'a.npz')


NO_NPZ = 'no .npz file with an array "landmarks"'
tracks('right', _saved, ONE)
tracks('compressed', lambda at: _saved(at, True), ONE)
tracks('column by column', lambda at: _saved(at, landmarks=np.asfortranarray(faces(PICTURES))), ONE)
tracks('half floats', lambda at: _saved(at, landmarks=faces(PICTURES).astype(np.float16)), ONE)
tracks('double floats', lambda at: _saved(at, landmarks=faces(PICTURES).astype(np.float64) * 1e-300 + faces(PICTURES)), ONE)
tracks('big endian', lambda at: _saved(at, landmarks=faces(PICTURES).astype('>f4')), ONE)
tracks('a bomb', lambda at: _bomb(at / 'a.npz', (600_000, 478, 3)), r'600000 rows, but .*v\.mp4 has 25 pictures')
tracks(
  'a header of 1e12 rows', lambda at: _zip(at / 'a.npz', {'landmarks.npy': _npy_header((10**12, 478, 3))}), r'holds 0 bytes'
)
tracks('a header of −1 rows', lambda at: _zip(at / 'a.npz', {'landmarks.npy': _npy_header((-1, 478, 3))}), NO_NPZ)
tracks('a header of code', lambda at: _zip(at / 'a.npz', {'landmarks.npy': _npy_header('__import__("os")')}), NO_NPZ)
tracks('Python objects', lambda at: _saved(at, landmarks=np.array([{}])), 'holds Python objects')
tracks('another name', lambda at: _saved(at, name='points'), NO_NPZ)
tracks('an empty zip', lambda at: _zip(at / 'a.npz', {}), NO_NPZ)
tracks('a zip of text', lambda at: _zip(at / 'a.npz', {'landmarks.npy': b'text'}), NO_NPZ)
tracks('a zip with a password', lambda at: after(_saved(at), b'PK\x01\x02', 8, b'\x01\0'), NO_NPZ)
tracks('a zip of an unknown packing', lambda at: after(_saved(at), b'PK\x01\x02', 10, b'\x63\0'), NO_NPZ)
tracks('half a zip', lambda at: spoil(_saved(at), 'cut'), NO_NPZ)
tracks('noise over a part', lambda at: spoil(_saved(at, True), 'overwrite'), NO_NPZ)
tracks('text', lambda at: write(at / 'a.npz', 'landmarks'), NO_NPZ)
tracks('a pipe', lambda at: fifo(at / 'a.npz'), 'is a device or a pipe')
tracks('/dev/zero', lambda at: link(at / 'a.npz', '/dev/zero'), 'is a device or a pipe')
tracks('integers', lambda at: _saved(at, landmarks=faces(PICTURES).astype(int)), 'landmarks are int64')
tracks('other landmarks', lambda at: _saved(at, landmarks=faces(PICTURES)[:, :68]), r'\[25, 68, 3\]')
tracks('no rows', lambda at: _saved(at, landmarks=faces(PICTURES)[:0]), '0 rows, but')
tracks('no face', lambda at: _saved(at, landmarks=faces(PICTURES) * np.nan), 'none of its 25 rows is finite')
tracks('infinity', lambda at: _saved(at, landmarks=faces(PICTURES) * np.inf), 'none of its 25 rows is finite')
tracks(
  'doubles too large', lambda at: _saved(at, landmarks=faces(PICTURES).astype(float) * 1e300), 'none of its 25 rows is finite'
)
tracks('fractions of the picture', lambda at: _saved(at, landmarks=faces(PICTURES) / 50), 'fractions')
tracks('a row too few', lambda at: _saved(at, landmarks=faces(PICTURES - 1)), '24 rows, but')

# ---- Features from a file, weights


def _npy(at, array, **options):
  np.save(at / 'a.npy', array, **options)
  return str(at / 'a.npy')


add('features: right', 'features', lambda at: _npy(at, np.zeros((25, 8), np.float32)), Right())
add('features: Python objects', 'features', lambda at: _npy(at, np.array([{}]), allow_pickle=True), 'cannot be read as .npy')
add('features: a pickle', 'features', lambda at: write(at / 'a.npy', b'cos\nsystem\n(S"false"\ntR.'), 'cannot be read as .npy')
add(
  'features: a header of 1e12 rows',
  'features',
  lambda at: write(at / 'a.npy', _npy_header((10**12, 8))),
  'cannot be read as .npy',
)
add(
  'features: a header of 10 kB of brackets',
  'features',
  lambda at: write(at / 'a.npy', _npy_header('(' * 9000)),
  'cannot be read as .npy',
)
add('features: half a file', 'features', lambda at: spoil(_npy(at, np.zeros((25, 8))), 'cut'), 'cannot be read as .npy')
add('features: integers', 'features', lambda at: _npy(at, np.zeros((25, 8), int)), 'must be one array of floats')
add('features: text in an array', 'features', lambda at: _npy(at, np.array(['a'])), 'must be one array of floats')
add('features: complex numbers', 'features', lambda at: _npy(at, np.zeros((25, 8), complex)), 'must be one array of floats')
add('features: NaN', 'features', lambda at: _npy(at, np.full((25, 8), np.nan)), 'row 0 holds NaN')
add('features: no rows', 'features', lambda at: _npy(at, np.zeros((0, 8))), 'is empty')
add('features: a number', 'features', lambda at: _npy(at, np.float64(1.0)), 'one number|must be')
add(
  'features: an npz', 'features', lambda at: str(pathlib.Path(_saved(at)).rename(at / 'a.npy')), 'several arrays|cannot be read'
)
add('features: a text', 'features', lambda at: write(at / 'a.npy', 'text'), 'cannot be read as .npy')
add('features: empty', 'features', lambda at: write(at / 'a.npy', b''), 'cannot be read as .npy')
add('features: a folder', 'features', lambda at: str(at), 'no such file')
add('features: a pipe', 'features', lambda at: fifo(at / 'a.npy'), 'no such file')
add('weights: a bomb', 'weights', lambda at: _bomb(at / 'a.npz', (500_000, 478, 3)), r'its arrays take 2\.9 GB')
add('weights: Python objects', 'weights', lambda at: _saved(at, w=np.array([{}])), 'holds Python objects')
add(
  'weights: a zip with a path out of it',
  'weights',
  lambda at: _zip(at / 'a.npz', {'../../w.npy': b'text'}),
  'cannot be read as weights',
)
add(
  'weights: a name within a name',
  'weights',
  lambda at: _saved(at, **{'a': np.zeros(1), 'a/b': np.zeros(1)}),
  'cannot be read as weights',
)
add(
  'weights: noise', 'weights', lambda at: write(at / 'a.npz', np.random.default_rng(0).bytes(5000)), 'cannot be read as weights'
)
add('a picture of a foreign subject: a PNG bomb', 'picture', lambda at: write(at / 'a.png', png(14_000, 14_000)), r'a\.png: ')
add(
  'a picture of a foreign subject: a header of 100000×100000',
  'picture',
  lambda at: write(at / 'a.png', png(100_000, 100_000, 1)),
  r'a\.png: ',
)
add('a picture of a foreign subject: text', 'picture', lambda at: write(at / 'a.png', 'text'), r'a\.png: ')
add(
  'a picture of a foreign subject: half', 'picture', lambda at: spoil(write(at / 'a.png', png(64, 64)), 'cut', 0.2), r'a\.png: '
)

# ---- Text that is spoken

CUE = '1\n00:00:00,000 --> 00:00:02,000\nHello.\n'
add('txt: right', 'text', lambda at: write(at / 'a.txt', 'Hello.'), Right())
add('txt: no such file', 'text', lambda at: str(at / 'a.txt'), 'no such file')
add('txt: a folder', 'text', lambda at: str(_folder(at / 'a.txt')), 'is a folder')
add('txt: a pipe', 'text', lambda at: fifo(at / 'a.txt'), 'is a device or a pipe')
add('txt: /dev/zero', 'text', lambda at: link(at / 'a.txt', '/dev/zero'), 'is a device or a pipe')
add('txt: empty', 'text', lambda at: write(at / 'a.txt', ''), 'is empty')
add('txt: dots', 'text', lambda at: write(at / 'a.txt', '... --- ...'), 'has no words')
add('txt: UTF-16', 'text', lambda at: write(at / 'a.txt', 'Hello.'.encode('utf-16')), 'no UTF-8')
add('txt: bytes', 'text', lambda at: write(at / 'a.txt', np.random.default_rng(0).bytes(999)), 'no UTF-8')
add('txt: 100 MB', 'text', lambda at: write(at / 'a.txt', 'word ' * 20_000_000), r'characters')
add('text that looks like a flag', 'text', lambda at: '--stdin -w /tmp/x', Right())
add('text with a null', 'text', lambda at: 'Hello\0there', Right())
add('text with half a character', 'text', lambda at: 'Hello \udcff there', Right())
add('srt: right', 'text', lambda at: write(at / 'a.srt', CUE), Right(seconds=2.0))
add(
  'srt: Windows and a mark of its encoding',
  'text',
  lambda at: write(at / 'a.srt', '\ufeff' + CUE.replace('\n', '\r\n')),
  Right(seconds=2.0),
)
add(
  'srt: tags',
  'text',
  lambda at: write(at / 'a.srt', CUE.replace('Hello.', '<script>x</script>{\\an8}Hello.')),
  Right(seconds=2.0),
)
add('srt: no subtitle', 'text', lambda at: write(at / 'a.srt', 'Hello.'), 'holds no subtitle')
add('srt: no time', 'text', lambda at: write(at / 'a.srt', CUE.replace('00:00:02,000', 'later')), 'line 2 is no time')
add(
  'srt: backwards',
  'text',
  lambda at: write(at / 'a.srt', '1\n00:00:02,000 --> 00:00:01,000\nHello.\n'),
  'ends before it begins',
)
add(
  'srt: too long for its room',
  'text',
  lambda at: write(at / 'a.srt', CUE + '\n2\n00:00:00,010 --> 00:00:03,000\nYes.\n'),
  'shorten it',
)
add(
  'srt: a cue in a century',
  'text',
  lambda at: write(at / 'a.srt', CUE.replace('00:00:02,000', '999999:00:02,000')),
  r'lasts \S+ h',
)
add('srt: arrows', 'text', lambda at: write(at / 'a.srt', '-->\n' * 999), 'line 1 is no time')
add('srt: a million numbers', 'text', lambda at: write(at / 'a.srt', '1' * 10**6 + CUE), Right(seconds=2.0))


def _folder(path):
  path.mkdir()
  return path


def _zip(path, members):
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return str(path)


def _npy_header(shape):
  text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
  return b'\x93NUMPY\x01\0' + struct.pack('<H', len(text)) + text


def _bomb(path, shape):
  with (
    zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    archive.open('landmarks.npy', 'w', force_zip64=True) as member,
  ):
    np.lib.format.write_array_header_1_0(member, {'descr': '<f4', 'fortran_order': False, 'shape': shape})
    rows = bytes(shape[1] * shape[2] * 4 * 1000)
    for _ in range(shape[0] // 1000):
      member.write(rows)
  return str(path)


def _with_sample(value):
  samples = tone().astype(np.float32) / 32768
  samples[0, round(0.55 * RATE)] = value
  return samples


def _tagged(at):
  return clip(at / 'a.mkv', sound=None, metadata={'title': 'Grossek'})


def _matroska_of(at, side):
  path = clip(at / 'a.mkv', 'rawvideo', sound=None, size=(300, 400))
  content = pathlib.Path(path).read_bytes()
  for name, number in ((b'\xb0\x82', 400), (b'\xba\x82', 300)):
    assert name + struct.pack('>H', number) in content
    content = content.replace(name + struct.pack('>H', number), name + struct.pack('>H', side), 1)
  return write(path, content)


def _streams(at, count):
  import av

  with av.open(str(at / 'a.mkv'), 'w') as file:
    streams = [file.add_stream('pcm_s16le', rate=RATE, layout='mono') for _ in range(count)]
    frame = av.AudioFrame.from_ndarray(tone()[:, :160], format='s16', layout='mono')
    frame.sample_rate = RATE
    for stream in streams:
      file.mux(stream.encode(frame))
  return str(at / 'a.mkv')


def _noise_pictures(at):
  path = clip(at / 'a.avi', 'mpeg4', sound=None, size=(96, 128))
  content = pathlib.Path(path).read_bytes()
  place = content.index(b'movi') + 4
  return write(path, content[: place + 8] + np.random.default_rng(0).bytes(len(content) - place - 8))
