"""The one exception that a user's mistake raises.

The command line prints its message as a single line and exits with status 2; a library caller can catch it.
"""


class InputError(Exception):
  """Bad input; the message is one line that names the file, the value found and the remedy."""
