"""Gets this node its certificate: `chipmedic agent join`, and the short-lived child of the daemon.

A process of its own, because cryptography and TLS would cost the daemon tens of MiB for a second's
work every few weeks. The token names the fingerprint of the watchdog's authority; it is sent only
to a watchdog that has shown that authority, so nobody in between learns it.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import json
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chipmedic.address import split_address
from chipmedic.config import read_secret
from chipmedic.errors import ChipmedicError
from chipmedic_agent import credentials
from chipmedic_agent.config import DEFAULT_PATH, JOIN_PORT, load_settings
from chipmedic_agent.credentials import Credentials

TIMEOUT_SECONDS = 10.0
ANSWER_BYTES_MAX = 1 << 18
TOKEN_KIND, TOKEN_PARTS = "cmj", 4


class NotJoined(ChipmedicError):
    """There is no certificate; the text says why and what to do."""


def fingerprint(token: str) -> str:
    """Return what a join token says of the authority.

    Raises:
        NotJoined: it is no join token.
    """
    parts = token.split(".")
    if len(parts) != TOKEN_PARTS or parts[0] != TOKEN_KIND:
        raise NotJoined(
            "this is no join token (cmj....): create one with chipmedic watchdog token create --any"
        )
    return parts[3]


def join(node: str, address: str, token: str, *, now: float) -> Credentials:
    """Get the first certificate from a watchdog.

    Raises:
        NotJoined: nobody answers, it is another watchdog, or it refuses.
    """
    authority = _fetch_authority(address, fingerprint(token))
    key, csr = make_request(node)
    context = ssl.create_default_context(cadata=authority)
    body = json.dumps({"token": token, "node": node, "csr": csr})
    answer = json.loads(_ask(address, context, "POST", "/join", body))
    return _credentials(node, key, answer["certificate"], answer["authority"], now)


def renew(present: Credentials, watchdogs: Sequence[str], *, now: float) -> Credentials:
    """Get a new certificate from the first watchdog that answers, over the present one.

    Raises:
        NotJoined: none answers, or one refuses.
    """
    import grpc

    from chipmedic_proto.v1 import chipmedic_pb2 as pb
    from chipmedic_proto.v1.chipmedic_pb2_grpc import WatchdogStub

    key, csr = make_request(present.node)
    shown = grpc.ssl_channel_credentials(
        present.authority.encode(), present.key.encode(), present.certificate.encode()
    )
    trouble = "no watchdog is configured"
    for target in watchdogs:
        with grpc.secure_channel(target, shown) as channel:
            stub = WatchdogStub(channel)  # type: ignore[no-untyped-call]
            try:
                answer = stub.Renew(
                    pb.RenewRequest(node=present.node, csr=csr), timeout=TIMEOUT_SECONDS
                )
            except grpc.RpcError as e:
                trouble = f"{target}: {e.code().name.lower()}: {e.details()}"
                continue
        return _credentials(present.node, key, answer.certificate, answer.authority, now)
    raise NotJoined(trouble)


def make_request(node: str) -> tuple[str, str]:
    """Return a new key and the request for its certificate, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node[:64])])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem.decode("ascii"), csr.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _fetch_authority(address: str, wanted: str) -> str:
    """Return the authority that a watchdog shows, if it is the one of the token."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE  # what comes is compared with the token's fingerprint
    pem = _ask(address, unverified, "GET", "/ca.pem").decode("ascii", errors="replace")
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, x509.InvalidVersion) as e:
        raise NotJoined(f"{address}: this is no watchdog where nodes join: {e}") from e
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    found = hashlib.sha256(spki).hexdigest()
    if not hmac.compare_digest(found.encode(), wanted.encode()):
        raise NotJoined(
            f"{address}: this is not the watchdog that has made the token: its authority is "
            f"{found[:16]}..., the token says {wanted[:16]}...; the token was not sent"
        )
    return pem


def _ask(
    address: str, context: ssl.SSLContext, method: str, path: str, body: str | None = None
) -> bytes:
    host, port = split_address(address)
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read(ANSWER_BYTES_MAX)
    except ssl.SSLCertVerificationError as e:
        raise NotJoined(
            f"{address}: {e.verify_message}: name the watchdog as its certificate does, or add the "
            "name to join.names there"
        ) from e
    except (OSError, http.client.HTTPException) as e:
        words = getattr(e, "strerror", None) or e
        raise NotJoined(f"{address}: {words}; is [join] set at the watchdog, and reachable?") from e
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise NotJoined(f"{address}: {_refusal(data) or response.reason}")
    return data


def _refusal(data: bytes) -> str:
    try:
        return str(json.loads(data).get("detail", ""))
    except (ValueError, AttributeError):
        return ""


def _credentials(
    node: str, key: str, certificate_pem: str, authority: str, now: float
) -> Credentials:
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return Credentials(
        node=node,
        key=key,
        certificate=certificate_pem,
        authority=authority,
        obtained_at=now,
        expires_at=certificate.not_valid_after_utc.timestamp(),
    )


def join_command(argv: Sequence[str]) -> int:
    """Be `chipmedic agent join`.

    Raises:
        ChipmedicError: it did not work.
    """
    arguments = _join_parser().parse_args(argv)
    settings = load_settings(arguments.config)
    node = arguments.node or settings.node
    address = with_port(arguments.watchdog)
    folder = Path(arguments.state_directory or settings.state_directory)
    made = join(node, address, _read_token(arguments), now=time.time())
    try:
        credentials.save(folder, made)
    except OSError as e:
        raise NotJoined(f"{folder}: {e.strerror}; run it with sudo") from e
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(made.expires_at))
    sys.stdout.write(
        f"{node} has joined; its certificate is valid until {until} and renews itself\n"
    )
    if not settings.watchdogs and not arguments.state_directory:
        host = split_address(address)[0]
        sys.stdout.write(
            f'now set the stream\'s address in agent.toml: watchdogs = ["{host}:7443"]\n'
        )
    return 0


def with_port(address: str) -> str:
    """Return where nodes join at a watchdog that may be named without a port."""
    try:
        split_address(address)
    except ValueError:
        return f"{address}:{JOIN_PORT}"
    return address


def _read_token(arguments: argparse.Namespace) -> str:
    if arguments.token is not None:
        return str(arguments.token).strip()
    path = arguments.token_file
    return sys.stdin.read().strip() if path == "-" else read_secret("--token-file", path)


def _join_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chipmedic agent join",
        description="Get this node a certificate, with a token of chipmedic watchdog token create.",
    )
    port = f"where nodes join (port {JOIN_PORT} unless another is named)"
    parser.add_argument("--watchdog", required=True, metavar="HOST[:PORT]", help=port)
    token = parser.add_mutually_exclusive_group(required=True)
    token.add_argument("--token", help="the token; other users of this host may see it")
    token.add_argument("--token-file", help="a file with the token; - for standard input")
    parser.add_argument("--node", help="name of the node (default: that of the configuration)")
    parser.add_argument("--config", type=Path, help=f"configuration (default: {DEFAULT_PATH})")
    parser.add_argument("--state-directory", help="the agent's folder (default: its own)")
    return parser


def _child(argv: Sequence[str]) -> int:
    """Do one thing for the daemon; what went wrong is one line on standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=("join", "renew"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--node", default="")
    parser.add_argument("--token-file")
    parser.add_argument("--token", default=None)
    parser.add_argument("targets", nargs="+")
    arguments = parser.parse_args(argv)
    now = time.time()
    try:
        if arguments.act == "join":
            made = join(arguments.node, arguments.targets[0], _read_token(arguments), now=now)
        else:
            present = credentials.load(arguments.folder)
            if present is None:
                raise NotJoined(f"{arguments.folder}: there is nothing to renew")
            made = renew(present, arguments.targets, now=now)
        credentials.save(arguments.folder, made)
    except (ChipmedicError, OSError) as e:
        sys.stderr.write(f"{' '.join(str(e).split())}\n")
        return 1
    return 0


def _run() -> NoReturn:
    sys.exit(_child(sys.argv[1:]))


if __name__ == "__main__":
    _run()
