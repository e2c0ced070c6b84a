"""The authority, the certificates that listeners show, and the gate that reads them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from chipmedic.errors import ConfigError
from chipmedic.tls_files import TlsFiles
from chipmedic_watchdog.access.authority import SKEW_SECONDS, Authority, node_of_uri, node_uri
from chipmedic_watchdog.access.enrolment import note_authority
from chipmedic_watchdog.access.rules import ANY, EXACT, FIRST_LABEL
from chipmedic_watchdog.access.served import Served, from_authority, from_files, own_names
from chipmedic_watchdog.intake.gate import Gate, read_peer
from chipmedic_watchdog.intake.refusals import Refused
from chipmedic_watchdog.store import schema
from fake_agent import FakeAgent
from intake_rig import Intake, rows

NOW = time.time()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever-it-asks-for")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = made.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def certificate(authority: Authority, node: str, lifetime_seconds: float = 60.0) -> bytes:
    issued = authority.sign_node(request(), node, now=NOW, lifetime_seconds=lifetime_seconds)
    return issued.pem.encode()


class TestAuthority:
    def test_it_is_made_once_and_its_key_is_its_owners_alone(self, tmp_path: Path) -> None:
        first = Authority(tmp_path / "a")
        assert (tmp_path / "a" / "ca.key").stat().st_mode & 0o777 == 0o600
        assert Authority(tmp_path / "a").fingerprint == first.fingerprint
        assert Authority(tmp_path / "b").fingerprint != first.fingerprint

    def test_a_certificate_is_of_the_node_and_not_of_what_was_asked_for(self, authority) -> None:
        made = x509.load_pem_x509_certificate(certificate(authority, "n1", 3600.0))
        assert "whatever" not in made.subject.rfc4514_string()
        assert made.not_valid_before_utc.timestamp() == int(NOW - SKEW_SECONDS)
        assert made.not_valid_after_utc.timestamp() == int(NOW + 3600)
        assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca

    @pytest.mark.parametrize(
        ("csr", "words"),
        [
            ("", "csr: "),
            ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "csr"),
            (request(rsa.generate_private_key(65537, 1024)), "the key is none of"),
            (request(ec.generate_private_key(ec.SECP521R1())), "the key is none of"),
        ],
    )
    def test_what_is_no_good_request_is_refused(self, authority, csr, words) -> None:
        with pytest.raises(ValueError, match=words):
            authority.sign_node(csr, "n1", now=NOW, lifetime_seconds=60)

    @given(st.text(max_size=200), st.integers(0, 400), st.integers(0, 255))
    @example("", 47, 47)  # a version that there is not
    def test_no_text_is_more_than_refused(self, authority, noise, position, byte) -> None:
        damaged = bytearray(request().encode())
        damaged[position % len(damaged)] = byte
        for text in (noise, damaged.decode("latin-1")):
            try:
                issued = authority.sign_node(text, "n1", now=NOW, lifetime_seconds=60)
            except ValueError:
                continue
            assert read_peer(issued.pem.encode()).names == {"n1"}

    @pytest.mark.parametrize("damage", ["key", "certificate", "swapped"])
    def test_a_damaged_folder_is_one_clear_line(self, tmp_path: Path, damage: str) -> None:
        Authority(tmp_path)
        if damage == "swapped":
            Authority(tmp_path / "other")
            shutil.copy(tmp_path / "other" / "ca.key", tmp_path / "ca.key")
        else:
            (tmp_path / ("ca.key" if damage == "key" else "ca.pem")).write_text("nonsense")
        with pytest.raises(ConfigError, match=r"join\.directory"):
            Authority(tmp_path)


@given(st.text(min_size=1, max_size=30))
def test_any_name_of_a_node_has_its_uri(node: str) -> None:
    assert node_uri(node).isascii()
    assert node_of_uri(node_uri(node)) == node


class TestGate:
    @pytest.mark.parametrize(
        ("rule", "holder", "node", "is_in"),
        [
            (EXACT, "n1", "n1", True),
            (EXACT, "N1", "n1", True),
            (EXACT, "节点-1", "节点-1", True),
            (EXACT, "rack 1/n1", "rack 1/n1", True),
            (EXACT, "n1", "n2", False),
            (EXACT, "n1.example.org", "n1", False),
            (EXACT, "n1", "n1.example.org", False),
            (FIRST_LABEL, "n1.example.org", "n1", True),
            (FIRST_LABEL, "n10.example.org", "n1", False),
            (ANY, "n1", "n2", True),
        ],
    )
    def test_a_certificate_speaks_for_its_node(self, authority, rule, holder, node, is_in) -> None:
        gate = Gate(rule)
        peer = gate.peer({"x509_pem_cert": [certificate(authority, holder)]})
        if is_in:
            gate.admit(peer, node)
            return
        with pytest.raises(Refused, match="the hello says") as refused:
            gate.admit(peer, node)
        assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED

    def test_a_stream_without_certificates_is_not_asked_for_one(self) -> None:
        gate = Gate()
        gate.admit(gate.peer({}), "n1")

    def test_a_revoked_one_is_refused_and_others_are_not(self, authority) -> None:
        gone, other = certificate(authority, "n1"), certificate(authority, "n1")
        gate = Gate(revoked=frozenset({read_peer(gone).serial}))
        gate.peer({"x509_pem_cert": [other]})
        with pytest.raises(Refused, match="was revoked"):
            gate.peer({"x509_pem_cert": [gone]})


class TestServed:
    def test_a_certificate_of_our_own_is_exchanged_at_two_thirds(self, authority) -> None:
        at = [time.time()]
        load = from_authority(
            authority, ("localhost",), lifetime_seconds=3000.0, clock=lambda: at[0]
        )
        served = Served(load)
        first = served.shown
        at[0] += 1990
        assert served.refresh() is None
        assert served.shown is first
        at[0] += 20
        assert served.refresh() is None
        assert served.shown.chain != first.chain

    async def test_files_that_are_exchanged_are_shown_in_new_connections(
        self, authority, database, tmp_path: Path
    ) -> None:
        """A reload of nothing; the stream that is open goes on."""
        other = Authority(tmp_path / "other")
        write_server(tmp_path, authority)
        served = Served(from_files(server_files(tmp_path)))
        rig = Intake(database, credentials=served.grpc_credentials())
        async with rig.running() as intake:
            address = intake.address.replace("127.0.0.1", "localhost")
            old, new = (
                grpc.ssl_channel_credentials(one.pem.encode()) for one in (authority, other)
            )
            async with FakeAgent(address, credentials=old) as agent:
                write_server(tmp_path, other)
                assert served.refresh() is None
                async with FakeAgent(address, node="n2", credentials=new):
                    assert not agent.is_over

    def test_a_pair_that_does_not_fit_changes_nothing_and_is_said(
        self, authority, tmp_path: Path
    ) -> None:
        write_server(tmp_path, authority)
        served = Served(from_files(server_files(tmp_path)))
        first = served.shown
        key, _ = authority.make_server(("localhost",), now=NOW, lifetime_seconds=86_400)
        (tmp_path / "server.key").write_text(key)
        assert f"{tmp_path}/server.key: is not the key of" in str(served.refresh())
        (tmp_path / "server.key").unlink()
        assert f"stream.key_file: {tmp_path}/server.key: cannot be read" in str(served.refresh())
        assert served.shown is first

    def test_it_is_called_by_all_names_of_the_host(self) -> None:
        names = own_names(("watchdog.example.org", "10.0.0.1"), "0.0.0.0")
        assert {"watchdog.example.org", "10.0.0.1", "localhost", "127.0.0.1"} <= set(names)
        assert "0.0.0.0" not in names

    def test_one_that_has_expired_is_said_and_shown_all_the_same(
        self, authority, tmp_path: Path
    ) -> None:
        key, issued = authority.make_server(("localhost",), now=NOW, lifetime_seconds=60)
        (tmp_path / "server.pem").write_text(issued.pem)
        (tmp_path / "server.key").write_text(key)
        files = server_files(tmp_path)
        served = Served(from_files(files), files)
        assert served.out_of_date(NOW) == []
        (said,) = served.out_of_date(NOW + 61)
        assert said.startswith(f"stream.certificate_file: {tmp_path}/server.pem: the certificate ")
        assert served.refresh() is None


def server_files(folder: Path) -> TlsFiles:
    certificate, key = folder / "server.pem", folder / "server.key"
    return TlsFiles(section="stream", certificate_file=str(certificate), key_file=str(key))


def write_server(folder: Path, authority: Authority) -> None:
    key, issued = authority.make_server(("localhost",), now=NOW, lifetime_seconds=86_400)
    (folder / "server.pem").write_text(issued.pem)
    (folder / "server.key").write_text(key)


def test_another_authority_on_the_same_store_is_told_and_audited(database) -> None:
    """Two watchdogs that do not share the folder would refuse each other's nodes."""

    def note(fingerprint: str) -> str | None:
        return database.write_now(lambda c: note_authority(c, fingerprint, now=NOW))

    assert [note("a"), note("a"), note("b"), note("b"), note("a")] == [None, None, "a", None, "b"]
    assert [row["target"] for row in rows(database, schema.audit)] == ["a", "b", "a"]
