"""Names of files that would act on a page, a terminal or a log are shown as text."""
import os

import pytest

from speech2lip_jax.common import files, media
from speech2lip_jax.common.errors import InputError, one_line
from tests.hostile.makers import clip

HTML = '<img src=x onerror=alert(1)>&$x_{$'


def test_a_message_is_one_line_without_control_characters():
  line = str(InputError('a\nb\x1b[2J\x07\u202e.wav: no such file; give é漢😀'))
  assert line == 'a\\nb\\x1b[2J\\x07\\u202e.wav: no such file; give é漢😀'
  assert one_line(line) == line


def test_a_warning_is_one_line(caplog):
  media.warn_once('a\nb: damaged')
  assert caplog.records[0].getMessage() == 'a\\nb: damaged'


def test_a_text_file_takes_a_name_in_any_encoding(tmp_path):
  files.write_text(tmp_path / 'a.txt', os.fsdecode(b'caf\xe9 \xc3\xa9'))
  assert (tmp_path / 'a.txt').read_text('utf-8') == 'caf\\udce9 é'


@pytest.mark.slow
def test_a_report_shows_a_name_that_is_html_as_text(tmp_path):
  from speech2lip_jax.report import compare_videos
  for name in (HTML, 'b'):
    os.rename(clip(tmp_path / 'a.mp4', size=(64, 64)), tmp_path / f'{name}.mp4')
  compare_videos.compare(str(tmp_path / f'{HTML}.mp4'), str(tmp_path / 'b.mp4'), tmp_path / 'out')
  page = (tmp_path / 'out' / 'report.html').read_text()
  assert '<img src=x' not in page and '&lt;img src=x' in page
