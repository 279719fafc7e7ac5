"""Where pictures come from, and what is written about it: the one record that tags, manifest, mark and label are made from."""
import functools
import json
import os
import pathlib
import uuid
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

from speech2lip_jax.provenance import identity

if TYPE_CHECKING:
  from speech2lip_jax.provenance.label import Label
  from speech2lip_jax.provenance.mark import Mark

TOOL = 'speech2lip_jax'


class Origin(NamedTuple):
  """model: its folder's name. digest: SHA-256 of its weights, hexadecimal. source: of an edited video its path, else None.
  label: whose law's words are shown, 'eu', 'cn' or 'off'. signer: who signs. is_marked: whether the pictures carry the
  mark."""
  model: str
  digest: str
  signer: identity.Identity
  source: str | None = None
  label: str = 'off'
  is_marked: bool = True

  def tags(self) -> dict[str, str]:
    """Metadata of the container."""
    done = (f'AI-modified: the mouth of the person shown was painted by {TOOL} {tool_version()}' if self.source else
            f'AI-generated: the mouth of the person shown, and its movements, were painted by {TOOL} {tool_version()}')
    tags = {'comment': f'{done}, model {self.model} (sha256 {self.digest[:16]}…)', 'description': self.source_type}
    if self.label == 'cn':  # GB 45438-2025, annex E: 1 says that it is synthetic for certain
      tags['AIGC'] = json.dumps({
          'Label': '1', 'ContentProducer': TOOL if self.signer.name == identity.MADE_NAME else self.signer.name,
          'ProduceID': uuid.uuid4().hex, 'ReservedCode1': '', 'ContentPropagator': '', 'PropagateID': '', 'ReservedCode2': ''
      }, ensure_ascii=False)
    return tags

  @property
  def source_type(self) -> str:
    """IPTC's digital source type."""
    kind = 'compositeWithTrainedAlgorithmicMedia' if self.source else 'trainedAlgorithmicMedia'
    return f'http://cv.iptc.org/newscodes/digitalsourcetype/{kind}'

  def mark(self) -> 'Mark':
    """Puts the model's number into pictures."""
    from speech2lip_jax.provenance import code
    from speech2lip_jax.provenance.mark import Mark
    return Mark(code.number_of(self.digest))

  def words(self) -> 'Label | None':
    """The visible words, where they are asked for."""
    from speech2lip_jax.provenance.label import Label
    return None if self.label == 'off' else Label(self.label, self.source is not None)

  def sign(self, path: pathlib.Path) -> None:
    """Writes the manifest into a file that is otherwise complete."""
    from speech2lip_jax.provenance import manifest
    manifest.sign(path, self)


class Disclosure(NamedTuple):
  """The flags --provenance, --label, --certificate and --key."""
  is_on: bool = True
  label: str = 'off'
  certificate: str | None = None
  key: str | None = None

  def signer(self) -> identity.Identity | None:
    """Who signs, None where nothing is written; to be asked before long work.

    Raises:
      InputError: the certificate cannot be used, or words are asked for without the rest.
    """
    from speech2lip_jax.common.errors import InputError
    if not self.is_on:
      if self.label != 'off':
        raise InputError(f'--label={self.label}: needs --provenance; leave --noprovenance out')
      return None
    return identity.find(self.certificate, self.key)

  def origin(self, workdir: str | os.PathLike, digest: str, source: str | None = None) -> Origin | None:
    """Of pictures that this workdir's model paints; None where nothing is to be written."""
    signer = self.signer()
    return None if signer is None else Origin(pathlib.Path(workdir).absolute().name, digest, signer, source, self.label)


DISCLOSED = Disclosure()  # what is written where nothing else is asked for


@functools.cache
def tool_version() -> str:
  """This program's."""
  try:
    return metadata.version(TOOL)
  except metadata.PackageNotFoundError:
    return '0'
