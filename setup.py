"""What setup.cfg cannot say: the README as a package index shows it, where relative links would lead nowhere."""
import configparser
import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent


def long_description() -> str:
  """The README, its relative links leading to the address that setup.cfg names; as it is while none is named."""
  setup = configparser.ConfigParser()
  setup.read(ROOT / 'setup.cfg', encoding='utf-8')
  readme = (ROOT / 'README.md').read_text(encoding='utf-8')
  addresses = dict(re.findall(r'^(.+?)\s*=\s*(.+)$', setup.get('metadata', 'project_urls', fallback=''), re.MULTILINE))
  if 'Source' not in addresses:
    return readme
  places = {'': f'{addresses["Source"]}/blob/HEAD/', '!': f'{addresses["Source"]}/raw/HEAD/'}  # a page, and a picture's own bytes
  return re.sub(r'(!?)(\[[^\]]*\])\((?!#|[a-z]+:)', lambda found: f'{found[1]}{found[2]}({places[found[1]]}', readme)


setuptools.setup(long_description=long_description())
