"""What is said of files of certificates and keys that cannot be used."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chipmedic.tls_files import TlsFiles

NOW = time.time()
DAY = timedelta(days=1)
PEM = serialization.Encoding.PEM


def make(
    folder: Path, name: str, *, begins_days: float = -1, ends_days: float = 9
) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.fromtimestamp(NOW, UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins_days * DAY)
        .not_valid_after(now + ends_days * DAY)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(PEM))
    plain, pkcs8 = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(key.private_bytes(PEM, pkcs8, plain))
    locked = serialization.BestAvailableEncryption(b"a passphrase")
    (folder / f"{name}.locked").write_bytes(key.private_bytes(PEM, pkcs8, locked))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    made = make(folder, "good")
    make(folder, "other")
    make(folder, "old", begins_days=-9, ends_days=-1)
    make(folder, "early", begins_days=1)
    (folder / "empty.pem").write_text(" \n")
    (folder / "noise.pem").write_bytes(bytes(range(256)))
    (folder / "text.pem").write_text("see the wiki\n")
    (folder / "binary.pem").write_bytes(made.public_bytes(serialization.Encoding.DER))
    (folder / "damaged.pem").write_bytes(made.public_bytes(PEM).replace(b"M", b"!", 3))
    (folder / "bundle.pem").write_bytes(
        (folder / "old.pem").read_bytes() + (folder / "good.pem").read_bytes()
    )
    return folder


def said(folder: Path, certificate: str = "", key: str = "", authority: str = "") -> list[str]:
    files = TlsFiles(
        section="tls",
        certificate_file=str(folder / certificate) if certificate else None,
        key_file=str(folder / key) if key else None,
        ca_file=str(folder / authority) if authority else None,
    )
    return [line.replace(f"{folder}/", "") for line in files.problems(NOW)]


@pytest.mark.parametrize(
    "files",
    [("good.pem", "good.key", "other.pem"), ("", "", ""), ("", "", "bundle.pem"),
     ("good.pem", "good.key", "bundle.pem")],
)  # fmt: skip
def test_files_that_are_right_are_silent(folder: Path, files: tuple[str, str, str]) -> None:
    assert said(folder, *files) == []


@pytest.mark.parametrize(
    ("authority", "words"),
    [
        ("none.pem", "cannot be read: No such file"),
        (".", "cannot be read: Is a directory"),
        ("empty.pem", "is empty"),
        ("noise.pem", "holds no certificate; PEM is needed"),
        ("text.pem", "holds no certificate; PEM is needed: -----BEGIN CERTIFICATE-----"),
        ("binary.pem", "it looks like the binary form: openssl x509 -inform der -in binary.pem"),
        ("damaged.pem", "the certificate in it is damaged"),
        ("good.key", "holds a private key and no certificate"),
        ("old.pem", "the certificate expired on "),
        ("early.pem", "the certificate is valid only from "),
    ],
)
def test_what_is_no_authority_is_said(folder: Path, authority: str, words: str) -> None:
    (line,) = said(folder, authority=authority)
    assert line.startswith("tls.ca_file: ")
    assert words in line


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("other.key", "is not the key of good.pem"),
        ("good.pem", "holds a certificate and no private key"),
        ("noise.pem", "holds no private key"),
        ("good.locked", "the key is encrypted"),
        ("none.key", "cannot be read: No such file"),
    ],
)
def test_what_is_no_key_of_it_is_said(folder: Path, key: str, words: str) -> None:
    (line,) = said(folder, "good.pem", key)
    assert line.startswith(f"tls.key_file: {key}: ")
    assert words in line


def test_a_chain_is_judged_by_its_first_and_every_file_is_told(folder: Path) -> None:
    assert len(said(folder, "bundle.pem", "old.key")) == 1
    assert len(said(folder, "noise.pem", "noise.pem", "noise.pem")) == 3
