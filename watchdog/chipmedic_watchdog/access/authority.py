"""The watchdog's own certificate authority: a key and a certificate in one folder.

It signs two kinds: the watchdog's certificate, for servers alone, and a node's, for clients alone,
so that no node can pose as the watchdog. Keys are ECDSA P-256.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chipmedic.errors import ConfigError

KEY_FILE, CERTIFICATE_FILE = "ca.key", "ca.pem"
AUTHORITY_SECONDS = 20 * 365 * 86400.0
SKEW_SECONDS = 3600.0
"""Certificates begin so long before they are issued: a node whose clock is behind can use them."""
NODE_URI = "chipmedic:node:"
RSA_BITS_MIN = 2048
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was just signed."""

    pem: str
    serial: str
    expires_at: float


class Authority:
    """Signs certificates with the key in its folder."""

    def __init__(self, folder: Path) -> None:
        """Read the key and the certificate, or make both.

        Raises:
            ConfigError: one of them cannot be read or written.
        """
        try:
            if not (folder / CERTIFICATE_FILE).exists():
                _make(folder)
            self.pem = (folder / CERTIFICATE_FILE).read_text(encoding="ascii")
            self._certificate = x509.load_pem_x509_certificate(self.pem.encode())
            key = serialization.load_pem_private_key((folder / KEY_FILE).read_bytes(), None)
        except OSError as e:
            why = "is a file, not a folder" if isinstance(e, FileExistsError) else e.strerror
            words = f"join.directory: {e.filename or folder}: {why}"
            raise ConfigError(str(folder), [words]) from e
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as e:
            words = f"join.directory: {KEY_FILE} or {CERTIFICATE_FILE} is damaged: {e}"
            raise ConfigError(str(folder), [words]) from e
        if not isinstance(key, ec.EllipticCurvePrivateKey) or (
            key.public_key() != self._certificate.public_key()
        ):
            words = f"join.directory: {KEY_FILE} is not the key of {CERTIFICATE_FILE}"
            raise ConfigError(str(folder), [words])
        self._key = key

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's public key, by which an agent that joins knows it."""
        spki = self._certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(spki).hexdigest()

    def sign_node(self, csr_pem: str, node: str, *, now: float, lifetime_seconds: float) -> Issued:
        """Sign a node's request; whatever name it asks for, it gets that of the node.

        Raises:
            ValueError: it is no request, its signature is wrong, or its key is too weak.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
            key = _strong(csr.public_key())
            is_signed = csr.is_signature_valid
        except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as e:
            raise ValueError(f"csr: {e}") from e
        if not is_signed:
            raise ValueError("csr: its signature is wrong")
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(node_uri(node))]
        if node.isascii():
            names.append(x509.DNSName(node))
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._sign(key, node, names, purpose, now, lifetime_seconds)

    def make_server(
        self, names: Iterable[str], *, now: float, lifetime_seconds: float
    ) -> tuple[str, Issued]:
        """Return a new key (PEM) and its certificate for a server of these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        general = [_general_name(name) for name in dict.fromkeys(names)]
        purpose = ExtendedKeyUsageOID.SERVER_AUTH
        title = "chipmedic watchdog"
        issued = self._sign(key.public_key(), title, general, purpose, now, lifetime_seconds)
        return _key_pem(key), issued

    def _sign(
        self,
        key: PublicKey,
        title: str,
        names: list[x509.GeneralName],
        purpose: x509.ObjectIdentifier,
        now: float,
        lifetime_seconds: float,
    ) -> Issued:
        authority_end = self._certificate.not_valid_after_utc.timestamp()
        expires_at = float(int(min(now + lifetime_seconds, authority_end)))
        serial = x509.random_serial_number()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(title[:64]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(_utc(now - SKEW_SECONDS))
            .not_valid_after(_utc(expires_at))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            pem=certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
            serial=serial_text(serial),
            expires_at=expires_at,
        )


def node_uri(node: str) -> str:
    """Return the name under which a certificate speaks for a node, whatever its characters."""
    return NODE_URI + quote(node, safe="")


def node_of_uri(uri: str) -> str | None:
    """Return the node of such a name; None: it is another one."""
    return unquote(uri.removeprefix(NODE_URI)) if uri.startswith(NODE_URI) else None


def serial_text(serial: int) -> str:
    """Return a serial number as the store has it."""
    return f"{serial:x}"


def write_secret(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC).timestamp()
    name = _name("chipmedic authority")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_utc(now - SKEW_SECONDS))
        .not_valid_after(_utc(now + AUTHORITY_SECONDS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The certificate last: while it is missing there is no authority yet.
    write_secret(folder / KEY_FILE, _key_pem(key))
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
    write_secret(folder / CERTIFICATE_FILE, pem)
    (folder / CERTIFICATE_FILE).chmod(0o644)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode("ascii")


def _name(title: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])


def _utc(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(at), dt.UTC)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _strong(key: object) -> PublicKey:
    """Return the key if it is of a kind and size that we sign; else raise ValueError."""
    match key:
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            return key
        case rsa.RSAPublicKey() if key.key_size >= RSA_BITS_MIN:
            return key
        case ed25519.Ed25519PublicKey():
            return key
    raise ValueError("the key is none of ECDSA P-256, P-384, Ed25519, RSA from 2048 bits")
