"""What is wrong with a site's own certificate files is said instead of gRPC's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipmedic.host import LinuxHost
from chipmedic_agent.config import TlsSettings
from chipmedic_agent.own_files import OwnFiles

HANDSHAKE = "UNAVAILABLE: failed to connect: Ssl handshake failed"


async def test_a_file_that_is_no_certificate_is_named_until_it_is_one(tmp_path: Path) -> None:
    """The child is real: the daemon itself has no library for it."""
    path = tmp_path / "ca.pem"
    path.write_text("see the wiki\n")
    files, tls = OwnFiles(LinuxHost()), TlsSettings(ca_file=str(path))
    said = await files.trouble(tls, HANDSHAKE)
    assert said.startswith(f"tls.ca_file: {path}: holds no certificate")
    path.write_text("")
    assert "is empty" in await files.trouble(tls, HANDSHAKE)


@pytest.mark.parametrize("why", ["connection refused", "name resolution failed"])
async def test_what_failed_before_any_certificate_is_no_matter_of_files(why: str) -> None:
    assert await OwnFiles(LinuxHost()).trouble(TlsSettings(ca_file="/none"), why) == ""


async def test_without_files_of_its_own_nothing_is_looked_at() -> None:
    assert await OwnFiles(LinuxHost()).trouble(TlsSettings(), HANDSHAKE) == ""
