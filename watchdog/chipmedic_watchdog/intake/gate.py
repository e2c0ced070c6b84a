"""Which node a stream may speak for: what its certificate says, compared with its hello."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from chipmedic_watchdog.access.authority import node_of_uri, serial_text
from chipmedic_watchdog.access.rules import ANY, EXACT, FIRST_LABEL
from chipmedic_watchdog.intake.refusals import Refused

PEM_KEY = "x509_pem_cert"
"""Where gRPC puts the peer's certificate."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as its certificate says."""

    serial: str = ""
    """Empty: it has shown none, because the stream asks for none."""
    names: frozenset[str] = frozenset()


@dataclass(slots=True)
class Gate:
    """Lets a stream in or not."""

    rule: str = EXACT
    """How a name of the certificate and the node's must agree."""
    revoked: frozenset[str] = field(default_factory=frozenset)
    """Serials that are not let in any more."""

    def peer(self, auth: Mapping[str, Iterable[bytes]]) -> Peer:
        """Return who shows this certificate.

        Raises:
            Refused: it was revoked.
        """
        pem = next(iter(auth.get(PEM_KEY, ())), None)
        if pem is None:
            return Peer()
        peer = read_peer(pem)
        if peer.serial in self.revoked:
            raise Refused(
                grpc.StatusCode.PERMISSION_DENIED,
                "revoked",
                f"the certificate {peer.serial} was revoked: join again with a new token",
            )
        return peer

    def share(self, peer: Peer) -> tuple[str, int]:
        """Return whose streams are counted, and for how many nodes it speaks; empty: not counted.

        A certificate that is good for every node has no bound.
        """
        return ("", 0) if self.rule == ANY else (peer.serial, len(peer.names))

    def admit(self, peer: Peer, node: str) -> None:
        """Hold a hello's name against the certificate.

        Raises:
            Refused: the certificate is another's.
        """
        if not peer.serial or self.rule == ANY or _speaks_for(peer, node, self.rule):
            return
        names = ", ".join(sorted(peer.names)) or "nobody"
        raise Refused(
            grpc.StatusCode.PERMISSION_DENIED,
            "wrong_node",
            f"the certificate is of {names[:300]}, the hello says {node}: give the agent its own "
            "certificate, or set `node` to the name in it",
        )


UNREADABLE = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What the library raises beside ValueError where a certificate breaks the rules."""


def read_peer(pem: bytes) -> Peer:
    """Read serial and names; TLS has verified the certificate before.

    Raises:
        Refused: it cannot be read.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = frozenset(_names(certificate))
    except (ValueError, *UNREADABLE) as e:
        raise Refused(
            grpc.StatusCode.PERMISSION_DENIED, "bad_certificate", f"certificate: {e}"
        ) from e
    return Peer(serial_text(certificate.serial_number), names)


def _names(certificate: x509.Certificate) -> Iterable[str]:
    """Yield the alternative names; the common name only where there are none (RFC 6125)."""
    try:
        extension = certificate.extensions.get_extension_for_oid(
            ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        )
    except x509.ExtensionNotFound:
        for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
            yield str(attribute.value)
        return
    names = extension.value
    if isinstance(names, x509.SubjectAlternativeName):
        yield from names.get_values_for_type(x509.DNSName)
        for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
            node = node_of_uri(uri)
            if node is not None:
                yield node


def _speaks_for(peer: Peer, node: str, rule: str) -> bool:
    if node in peer.names or node.lower() in {name.lower() for name in peer.names}:
        return True
    return rule == FIRST_LABEL and node.lower() in {
        name.lower().partition(".")[0] for name in peer.names
    }
