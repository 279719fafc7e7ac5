"""The one exception that a user's mistake raises.

The command line prints its message as a single line and exits with status 2; a library caller can catch it.
"""


import re


def one_line(text: str) -> str:
  """The text with line breaks and other control characters of a file's name, which would act on the terminal, as escapes."""
  return re.sub(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]',
                lambda found: found[0].encode('unicode_escape').decode(), text)


class InputError(Exception):
  """Bad input. lines: one that names the file, the value found and the remedy; or one for each of several mistakes."""

  def __init__(self, *lines: str):
    super().__init__('\n'.join(map(one_line, lines)))
