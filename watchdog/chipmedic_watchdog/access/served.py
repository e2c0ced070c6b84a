"""The certificate that the watchdog's listeners show, exchanged while they listen.

From files of the site's own, or from our own authority. A pair that is being exchanged, and does
not fit for a moment, changes nothing: the one before goes on.
"""

from __future__ import annotations

import logging
import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from chipmedic.errors import ConfigError
from chipmedic.tls_files import TlsFiles
from chipmedic_watchdog.access.authority import Authority, write_secret

log = logging.getLogger(__name__)

SERVER_SECONDS = 90 * 86400.0
RENEW_RATIO = 2 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a listener shows, and whom it lets in; all PEM."""

    key: bytes
    chain: bytes
    client_authority: bytes | None = None
    """None: clients show no certificate."""


class Served:
    """What is shown now; `refresh` looks for news."""

    def __init__(self, load: Callable[[], Shown], files: TlsFiles | None = None) -> None:
        """Load it for the first time; `files` are those that it comes from.

        Raises:
            ConfigError: it cannot be read, or key and certificate do not fit.
        """
        self._load = load
        self._files = files
        self._contexts: list[ssl.SSLContext] = []
        self.shown = load()
        _check(self.shown)

    def refresh(self) -> str | None:
        """Take over what is new; returns the trouble where that is not possible."""
        try:
            fresh = self._load()
            if fresh == self.shown:
                return None
            _check(fresh)
            for context in self._contexts:
                _load_into(context, fresh)
        except ConfigError as e:
            return "; ".join(e.problems)
        self.shown = fresh
        log.info("certificate exchanged")
        return None

    def out_of_date(self, now: float) -> list[str]:
        """Return a problem for each file of which a certificate is not valid now."""
        return [] if self._files is None else list(self._files.out_of_date(now))

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that show, in each new connection, what is shown by then."""
        handed = self.shown

        def fetch() -> object | None:
            nonlocal handed
            if handed is self.shown:
                return None
            handed = self.shown
            return _configuration(handed)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(handed),
            fetch,  # type: ignore[arg-type]  # None says: as before; the stubs know no None
            require_client_authentication=handed.client_authority is not None,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context for HTTPS; clients show no certificate there."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load_into(context, self.shown)
        self._contexts.append(context)
        return context


def from_files(files: TlsFiles) -> Callable[[], Shown]:
    """Return what reads a site's own certificate and key, both of which are set."""

    def load() -> Shown:
        if problems := list(files.unusable()):
            raise ConfigError("tls", problems)
        authority = files.ca_file
        try:
            return Shown(
                key=Path(files.key_file or "").read_bytes(),
                chain=Path(files.certificate_file or "").read_bytes(),
                client_authority=None if authority is None else Path(authority).read_bytes(),
            )
        except OSError as e:  # taken away since
            raise ConfigError("tls", [f"{files.section}: {e.filename}: {e.strerror}"]) from e

    return load


def from_authority(
    authority: Authority,
    names: tuple[str, ...],
    *,
    lifetime_seconds: float = SERVER_SECONDS,
    clock: Callable[[], float] = time.time,
) -> Callable[[], Shown]:
    """Return what signs a certificate for this host, and a new one at two thirds of its life."""
    made: Shown | None = None
    renew_at = 0.0

    def load() -> Shown:
        nonlocal made, renew_at
        now = clock()
        if made is None or now >= renew_at:
            key, issued = authority.make_server(names, now=now, lifetime_seconds=lifetime_seconds)
            renew_at = now + (issued.expires_at - now) * RENEW_RATIO
            chain = issued.pem + authority.pem
            made = Shown(
                key=key.encode(), chain=chain.encode(), client_authority=authority.pem.encode()
            )
        return made

    return load


def own_names(given: tuple[str, ...], listen_host: str) -> tuple[str, ...]:
    """Return all names by which agents may call this host."""
    names = [*given, socket.gethostname(), socket.getfqdn(), "localhost", "127.0.0.1", "::1"]
    if listen_host not in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        names.append(listen_host)
    return tuple(dict.fromkeys(name for name in names if name and name.isascii()))


def _configuration(shown: Shown) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(shown.key, shown.chain)], root_certificates=shown.client_authority
    )


def _check(shown: Shown) -> None:
    """Raise ConfigError unless key and certificate belong together."""
    _load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), shown)
    if shown.client_authority is not None:
        try:
            text = shown.client_authority.decode("ascii")
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
        except (ssl.SSLError, UnicodeDecodeError, ValueError) as e:
            raise ConfigError("tls", [f"client_ca_file: holds no certificate: {e}"]) from e


def _load_into(context: ssl.SSLContext, shown: Shown) -> None:
    # The library reads files alone; these live for a moment, and are ours alone.
    with tempfile.TemporaryDirectory(prefix="chipmedic-") as folder:
        chain, key = Path(folder, "chain"), Path(folder, "key")
        chain.write_bytes(shown.chain)
        write_secret(key, shown.key.decode("ascii", errors="replace"))
        try:
            context.load_cert_chain(chain, key)
        except (ssl.SSLError, OSError) as e:
            words = f"certificate_file and key_file do not fit, or are damaged: {e}"
            raise ConfigError("tls", [words]) from e
