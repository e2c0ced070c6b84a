"""What is wrong with files of certificates and keys: which file, what, and what to do.

The libraries that use them (OpenSSL, gRPC) say no more than that a handshake failed. This module
loads cryptography, which takes tens of MiB: the agent's daemon lets a child look.

    python -m chipmedic.tls_files SECTION CERTIFICATE_FILE KEY_FILE CA_FILE     (empty: not set)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
DER_SEQUENCE = b"\x30\x82"
"""With what a certificate in binary form begins."""


class Unusable(Exception):
    """A file is not what it should be; the text says what it is, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The files that one section of a configuration names; None: not set."""

    section: str
    """What stands before the keys in problems: `tls`, `stream`."""
    certificate_file: str | None = None
    key_file: str | None = None
    ca_file: str | None = None
    ca_name: str = "ca_file"
    """The key of `ca_file`."""

    def problems(self, now: float) -> Iterator[str]:
        """Yield everything that is wrong; `now` in UNIX seconds."""
        yield from self.unusable()
        yield from self.out_of_date(now)

    def unusable(self) -> Iterator[str]:
        """Yield a problem for each file with which nothing can be done."""
        own: list[x509.Certificate] = []
        for name, path in self._chains():
            try:
                chain = read_certificates(path)
            except Unusable as e:
                yield f"{self.section}.{name}: {path}: {e}"
            else:
                own = chain if name == "certificate_file" else own
        if self.key_file is not None and (trouble := self._key_trouble(self.key_file, own)):
            yield f"{self.section}.key_file: {self.key_file}: {trouble}"

    def out_of_date(self, now: float) -> Iterator[str]:
        """Yield a problem for each file whose certificates are not valid at this time."""
        for name, path in self._chains():
            try:
                chain = read_certificates(path)
            except Unusable:
                continue
            # In a chain the first is the one that is shown; of several authorities one is enough.
            judged = [date_trouble(one, now) for one in chain]
            judged = judged[:1] if name == "certificate_file" else judged
            if all(judged):
                yield f"{self.section}.{name}: {path}: {judged[0]}"

    def _key_trouble(self, path: str, own: list[x509.Certificate]) -> str:
        try:
            key = read_key(path)
        except Unusable as e:
            return str(e)
        if not own or key.public_key() == own[0].public_key():
            return ""
        return (
            f"is not the key of {self.certificate_file}: give the key with which that certificate "
            "was asked for (of a chain, the listener's own certificate comes first)"
        )

    def _chains(self) -> Iterator[tuple[str, str]]:
        if self.certificate_file is not None:
            yield "certificate_file", self.certificate_file
        if self.ca_file is not None:
            yield self.ca_name, self.ca_file


def read_certificates(path: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM file.

    Raises:
        Unusable: there is none that can be read.
    """
    content = _read(path)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as e:
        raise Unusable(_no_certificate(path, content)) from e


def read_key(path: str) -> PrivateKeyTypes:
    """Return the private key of a PEM file.

    Raises:
        Unusable: there is none that can be read without a passphrase.
    """
    content = _read(path)
    try:
        return serialization.load_pem_private_key(content, None)
    except TypeError as e:
        raise Unusable(
            "the key is encrypted, and nobody is there to be asked for its passphrase: "
            f"openssl pkey -in {path} -out PLAIN_KEY"
        ) from e
    except (ValueError, UnsupportedAlgorithm) as e:
        is_other = BEGIN_CERTIFICATE in content and b"PRIVATE KEY-----" not in content
        what = "holds a certificate and no private key" if is_other else "holds no private key"
        raise Unusable(f"{what}; PEM is needed: -----BEGIN PRIVATE KEY-----") from e


def date_trouble(certificate: x509.Certificate, now: float) -> str:
    """Say that a certificate is not valid at this time; empty where it is."""
    if now > (end := certificate.not_valid_after_utc).timestamp():
        return f"the certificate expired on {_day(end)}: put a new one there"
    if now < (start := certificate.not_valid_before_utc).timestamp():
        return (
            f"the certificate is valid only from {_day(start)}, and it is "
            f"{_day(datetime.fromtimestamp(now, UTC))} here: look at this host's clock"
        )
    return ""


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except PermissionError as e:
        raise Unusable("cannot be read by this user: the daemon's own must be able to") from e
    except OSError as e:
        raise Unusable(f"cannot be read: {e.strerror}") from e


def _no_certificate(path: str, content: bytes) -> str:
    if not content.strip():
        return "is empty; a certificate in PEM is needed"
    if content.startswith(DER_SEQUENCE):
        return (
            "is no PEM, it looks like the binary form: "
            f"openssl x509 -inform der -in {path} -out NEW_FILE"
        )
    if BEGIN_CERTIFICATE in content:
        return "the certificate in it is damaged: copy it anew"
    if b"PRIVATE KEY-----" in content:
        return "holds a private key and no certificate"
    return f"holds no certificate; PEM is needed: {BEGIN_CERTIFICATE.decode()}"


def main() -> int:
    """Print the problems of the files that the arguments name."""
    section, certificate, key, authority = sys.argv[1:5]
    files = TlsFiles(
        section=section,
        certificate_file=certificate or None,
        key_file=key or None,
        ca_file=authority or None,
    )
    for problem in files.problems(time.time()):
        sys.stdout.write(f"{problem}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
