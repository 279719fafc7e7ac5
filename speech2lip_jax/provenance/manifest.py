"""C2PA manifests: signed into mp4, mov and png files without a network, and read from any file."""
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import temporary_beside

if TYPE_CHECKING:
  from speech2lip_jax.provenance.origin import Origin

FORMATS = {'.mp4': 'video/mp4', '.m4v': 'video/mp4', '.mov': 'video/quicktime', '.png': 'image/png', '.jpg': 'image/jpeg',
           '.jpeg': 'image/jpeg', '.webp': 'image/webp', '.avi': 'video/avi', '.m4a': 'audio/mp4'}
PARENTS = ('.mp4', '.m4v', '.mov', '.avi')  # what is named as the video that was edited, with its own manifest if it has one
# Nothing is fetched: no manifest from elsewhere, no revocation list, no time stamp.
_SETTINGS = {'verify': {'remote_manifest_fetch': False, 'ocsp_fetch': False}, 'builder': {'thumbnail': {'enabled': False}}}
_UNTRUSTED = 'signingCredential.untrusted'


def sign(path: pathlib.Path, origin: 'Origin') -> None:
  """Replaces a file by the same with a manifest.

  Raises:
    InputError: the certificate is refused.
    OSError: the file cannot be written.
  """
  import c2pa

  from speech2lip_jax.provenance.origin import TOOL, tool_version
  agent = {'name': TOOL, 'version': tool_version()}
  parent = pathlib.Path(origin.source) if origin.source else None
  is_named = parent is not None and parent.suffix.lower() in PARENTS
  what = ('the mouth was painted to say something else' if parent else 'a trained model painted the mouth to say something')
  action = {'action': 'c2pa.edited' if is_named else 'c2pa.created', 'digitalSourceType': origin.source_type,
            'softwareAgent': agent, 'description': what, 'parameters': {'model': origin.model, 'model_sha256': origin.digest}}
  actions: list[dict[str, Any]] = [action]
  if origin.is_marked:
    actions.append({'action': 'c2pa.watermarked.unbound', 'softwareAgent': agent,
                    'description': f'an invisible mark of 32 bits, model number {origin.mark().number}'})
  content = {'claim_generator_info': [agent], 'assertions': [{'label': 'c2pa.actions.v2', 'data': {'actions': actions}}]}
  signed = temporary_beside(path)
  try:
    with (c2pa.Settings.from_dict(_SETTINGS) as settings, c2pa.Context(settings) as context,
          c2pa.Signer.from_info(c2pa.C2paSignerInfo(origin.signer.algorithm, origin.signer.chain.encode(),
                                                    origin.signer.key.encode(), None)) as signer,
          c2pa.Builder(content, context) as builder):
      if is_named and parent:
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)  # adds that the source was opened
        with open(parent, 'rb') as file:
          builder.add_ingredient({'title': parent.name, 'relationship': 'parentOf'}, FORMATS[parent.suffix.lower()], file)
      with open(path, 'rb') as source, open(signed, 'w+b') as target:
        builder.sign(signer, FORMATS[path.suffix], source, target)
    os.replace(signed, path)
  except c2pa.C2paError as error:
    raise InputError(f'--certificate: C2PA cannot sign with it ({" ".join(str(error).split())}); its certificate must have '
                     'the extended key usage emailProtection and must not vouch for itself') from error
  finally:
    signed.unlink(missing_ok=True)


class Told(NamedTuple):
  """What a file's manifest says. is_valid: the signature fits and the file is as it was signed. is_trusted: somebody on the
  library's list vouches for the signer. problems: C2PA's codes."""
  is_valid: bool
  is_trusted: bool
  signer: str
  tool: str
  actions: list[str]
  model: str
  problems: list[str]


def read(path: os.PathLike | str) -> Told | None:
  """The manifest of a file; None where it has none or its container can hold none.

  Raises:
    InputError: there is one that cannot be read.
  """
  import c2pa
  kind = FORMATS.get(pathlib.Path(path).suffix.lower())
  if kind is None:
    return None
  try:
    with (c2pa.Settings.from_dict(_SETTINGS) as settings, c2pa.Context(settings) as context, open(path, 'rb') as file,
          c2pa.Reader(kind, file, context=context) as reader):
      record = json.loads(reader.json())
  except c2pa.C2paError.ManifestNotFound:
    return None
  except c2pa.C2paError as error:
    raise InputError(f'{path}: its C2PA manifest cannot be read ({" ".join(str(error).split())})') from error
  active = record['manifests'][record['active_manifest']]
  actions = [action for one in active.get('assertions', []) if one['label'].startswith('c2pa.actions')
             for action in one['data']['actions']]
  told = [' '.join([action['action'].removeprefix('c2pa.'), *(
      f'({value.rpartition("/")[2]})' for value in [action.get('digitalSourceType')] if value)]) for action in actions]
  models = [f'{given["model"]} (sha256 {str(given.get("model_sha256", ""))[:12]}…)' for given in (
      action.get('parameters', {}) for action in actions) if 'model' in given]
  made_by = (active.get('claim_generator_info') or [{}])[0]
  signature = active.get('signature_info', {})
  problems = sorted({one['code'] for one in record.get('validation_status', [])} - {_UNTRUSTED})
  return Told(record.get('validation_state') in ('Valid', 'Trusted'), record.get('validation_state') == 'Trusted',
              ', '.join(value for value in (signature.get('common_name'), signature.get('issuer')) if value) or 'unknown',
              f'{made_by.get("name", "unknown")} {made_by.get("version", "")}'.strip(), told, models[0] if models else '', problems)
