"""Who signs manifests: the user's certificate, or one that is made once and kept in the user's configuration folder."""
import contextlib
import datetime
import os
import pathlib
from typing import NamedTuple

from absl import logging

from speech2lip_jax.common.errors import InputError
from speech2lip_jax.common.files import temporary_beside

CERTIFICATE_VARIABLE, KEY_VARIABLE = 'SPEECH2LIP_CERTIFICATE', 'SPEECH2LIP_KEY'
ORGANISATION, MADE_NAME = 'speech2lip_jax', 'made on first use, vouched for by nobody'
YEARS = 10


class Identity(NamedTuple):
  """chain, key: PEM, the signer's certificate first. algorithm: C2PA's name. name: of the certificate's holder."""
  chain: str
  key: str
  algorithm: str
  name: str


def find(certificate: str | None = None, key: str | None = None) -> Identity:
  """The user's identity, by these files or those that the environment names; without them the one made on first use.

  Args:
    certificate: PEM file with the certificate and those that vouch for it, in that order.
    key: PEM file of its private key.

  Raises:
    InputError: only one of the two is given, a file cannot be read, they do not belong together, or the time is over.
  """
  certificate = certificate or os.environ.get(CERTIFICATE_VARIABLE)
  key = key or os.environ.get(KEY_VARIABLE)
  if bool(certificate) != bool(key):
    raise InputError(f'--certificate={certificate}, --key={key}: give both, or neither for one that is made on first use')
  if certificate and key:
    return _parsed(_read(certificate), _read(key), certificate, key)
  path = made_path()
  try:
    made = path.read_text()
  except OSError:
    made = _make(path)
  try:
    return _parsed(made, made, str(path), str(path))
  except InputError as error:
    raise InputError(f'{error}; delete {path}, and the next command makes a new one') from error


def made_path() -> pathlib.Path:
  """Where the identity lies that is made on first use: key and certificates in one file."""
  config = os.environ.get('XDG_CONFIG_HOME') or os.path.expanduser('~/.config')
  return pathlib.Path(config, 'speech2lip', 'identity.pem')


def _read(path: str) -> str:
  try:
    return pathlib.Path(path).read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f'{path}: cannot be read as PEM ({error}); give the certificate chain with --certificate, its private key '
                     'with --key') from error


def _parsed(chain: str, key: str, chain_file: str, key_file: str) -> Identity:
  from cryptography import x509
  from cryptography.hazmat.primitives import serialization
  from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
  try:
    certificates = x509.load_pem_x509_certificates(chain.encode())
  except ValueError as error:
    raise InputError(f'{chain_file}: holds no certificate that can be read ({error}); give a PEM file') from error
  try:
    private = serialization.load_pem_private_key(key.encode(), None)
  except (ValueError, TypeError) as error:
    raise InputError(f'{key_file}: holds no private key that can be read ({error}); give a PEM file without password') from error
  if private.public_key() != certificates[0].public_key():
    raise InputError(f'{key_file}: is not the key of the first certificate in {chain_file}; give the two that belong together')
  if certificates[0].not_valid_after_utc < datetime.datetime.now(datetime.UTC):
    raise InputError(f'{chain_file}: valid until {certificates[0].not_valid_after_utc:%Y-%m-%d}; give one that is still valid')
  if isinstance(private, ec.EllipticCurvePrivateKey):
    algorithm = {256: 'es256', 384: 'es384', 521: 'es512'}.get(private.key_size, '')
  else:
    algorithm = 'ed25519' if isinstance(private, ed25519.Ed25519PrivateKey) else 'ps256' if isinstance(
        private, rsa.RSAPrivateKey) else ''
  if not algorithm:
    raise InputError(f'{key_file}: C2PA signs by elliptic curves (P-256, P-384, P-521), Ed25519 or RSA; give such a key')
  names = certificates[0].subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
  return Identity('\n'.join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates),
                  private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                        serialization.NoEncryption()).decode(),
                  algorithm, str(names[0].value) if names else certificates[0].subject.rfc4514_string())


def _make(path: pathlib.Path) -> str:
  """Makes an identity and keeps it, for its owner's eyes alone; of two processes that do so at once both return the first one's."""
  made, temporary = _new(), temporary_beside(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), 'w') as file:
      file.write(made)
    try:
      os.link(temporary, path)  # unlike a rename, never replaces what is there
    except FileExistsError:
      return path.read_text()
  except OSError as error:
    logging.warning('%s: cannot be written (%s); pictures are signed by a certificate made for this once', path, error.strerror)
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink()
  return made


def _new() -> str:
  """A key, its certificate and the one that vouches for it, PEM. C2PA takes no certificate that vouches for itself."""
  from cryptography import x509
  from cryptography.hazmat.primitives import hashes, serialization
  from cryptography.hazmat.primitives.asymmetric import ec
  root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
  named = lambda name: x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, ORGANISATION),
                                  x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
  now = datetime.datetime.now(datetime.UTC)

  def certificate(name: str, public, is_root: bool) -> 'x509.Certificate':
    builder = x509.CertificateBuilder(
        named('root'), named(name), public, x509.random_serial_number(), now - datetime.timedelta(days=1),
        now + datetime.timedelta(days=365 * YEARS))
    usages = dict.fromkeys(('content_commitment', 'key_encipherment', 'data_encipherment', 'key_agreement', 'encipher_only',
                            'decipher_only'), False)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(is_root, None), True),
        (x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **usages), True),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False)]
    if not is_root:
      extensions.append((x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), False))  # what C2PA asks for
    for extension, critical in extensions:
      builder = builder.add_extension(extension, critical)
    return builder.sign(root_key, hashes.SHA256())

  private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
  chain = [certificate(MADE_NAME, key.public_key(), False), certificate('root', root_key.public_key(), True)]
  return b''.join([private, *(one.public_bytes(serialization.Encoding.PEM) for one in chain)]).decode()
