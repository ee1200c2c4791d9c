"""Keys for fakes of clouds that want them: a certificate of this machine, and the profile of a signing user."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import ssl
import tempfile
from pathlib import Path
from typing import Any

from providers.extras import sdk
from providers.fake.oracle import FINGERPRINT, TENANCY, USER

_X509 = "cryptography.x509"
_PRIMITIVES = "cryptography.hazmat.primitives"
_BORN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tendril-fakes-")


def _private(key: Any) -> bytes:
    forms = sdk("fake", f"{_PRIMITIVES}.serialization")
    text: bytes = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    return text


@functools.cache
def certificate() -> tuple[ssl.SSLContext, str]:
    """Return a server's side of TLS on loopback, and the file of the authority that a client has to trust."""
    x509, curves = sdk("fake", _X509), sdk("fake", f"{_PRIMITIVES}.asymmetric.ec")
    key = curves.generate_private_key(curves.SECP256R1())
    name = x509.Name([x509.NameAttribute(sdk("fake", f"{_X509}.oid").NameOID.COMMON_NAME, "fake cloud")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(x509.random_serial_number()).add_extension(address, critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    built = built.not_valid_before(_BORN).not_valid_after(_BORN + datetime.timedelta(days=36_500))
    signed = built.sign(key, sdk("fake", f"{_PRIMITIVES}.hashes").SHA256())
    public = Path(_folder().name, "authority.pem")
    public.write_bytes(signed.public_bytes(sdk("fake", f"{_PRIMITIVES}.serialization").Encoding.PEM))
    both = Path(_folder().name, "server.pem")
    both.write_bytes(public.read_bytes() + _private(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, str(public)


@functools.cache
def oracle_profile(name: str) -> tuple[str, Any]:
    """Return the file of a profile with a key of its own, and the public key."""
    rsa = sdk("fake", f"{_PRIMITIVES}.asymmetric.rsa")
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    secret = Path(_folder().name, f"{name}.pem")
    secret.write_bytes(_private(key))
    secret.chmod(0o600)
    lines = {
        "user": USER,
        "fingerprint": FINGERPRINT,
        "tenancy": TENANCY,
        "region": "eu-frankfurt-1",
        "key_file": secret,
    }
    profile = Path(_folder().name, f"{name}.conf")
    profile.write_text("[DEFAULT]\n" + "".join(f"{k}={v}\n" for k, v in lines.items()))
    profile.chmod(0o600)
    return str(profile), key.public_key()
