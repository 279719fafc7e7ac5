"""Who agreed to being made to speak: OUT/consent.json, {"consent": [{"text": as it was told, "recorded": when, UTC}, …]}.

The newest statement is last; an empty text says that the question was left open. No other stage reads it.
"""
import datetime
import json
import pathlib
import sys

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import write_text

MAX_LENGTH = 4000
QUESTION = ('Has the person in this video agreed to be made to speak? Say who, when and to what; it is kept in the subject folder '
            '(Enter leaves it open): ')


def told(out: pathlib.Path, text: str | None) -> str | None:
  """What is to be recorded: `text`, or the answer to `QUESTION` where somebody sits at a terminal and was not asked before.

  Raises:
    InputError: the text is empty or too long, or the record that is there is damaged.
  """
  if text is not None:
    if not 0 < len(text.strip()) <= MAX_LENGTH:
      raise InputError(f'--consent: has {len(text.strip())} characters; say who agreed, when and to what in 1 … {MAX_LENGTH}')
    statements(out)
    return text.strip()
  if statements(out) or not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
    return None
  try:
    return input(QUESTION).strip()[:MAX_LENGTH]
  except EOFError:
    return None


def record(out: pathlib.Path, text: str) -> None:
  """Adds a statement to a subject folder that is there; one that was made before stays."""
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  found = [*statements(out), {'text': text, 'recorded': now}]
  write_text(out / 'consent.json', json.dumps({'consent': found}, indent=1, ensure_ascii=False) + '\n')


def statements(out: pathlib.Path) -> list[dict[str, str]]:
  """What was recorded, oldest first.

  Raises:
    InputError: the file is damaged.
  """
  path = out / 'consent.json'
  try:
    return list(json.loads(path.read_text(encoding='utf-8'))['consent'])
  except FileNotFoundError:
    return []
  except (ValueError, KeyError, TypeError) as error:
    raise InputError(f'{path}: damaged ({error}); mend it or move it away') from error
