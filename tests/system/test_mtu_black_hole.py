"""Both daemons on a path that loses large packets and tells nobody: a switch with a smaller MTU.

To TCP one packet that never arrives holds up everything behind it, heartbeats and pings too. The
agent finds that out, says so, and goes on in small packets; the node is not given up for it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from network_rig import HERE, THERE, Net, Site, assert_each_once, ip, laid, running_site
from waiting import until

pytestmark = pytest.mark.system

LESS, USUAL = 1280, 1500
CONFIG = """stream.snapshot_seconds = 2
[liveness]
quiet_seconds = 60
silence_seconds = 60
restart_seconds = 60
"""
"""Something larger than a small packet is said often; and a busy machine is given time: that the
node is not missed must not depend on how soon the agent finds out."""


@dataclass
class Switched(Net):
    """Both sides at a switch of their own, which passes over what is too large for it."""

    switch: str = field(default_factory=lambda: f"cm-switch-{os.getpid()}")

    def lay(self) -> None:
        for name in (self.head, self.node, self.switch):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self.switch, "link", "set", "br0", "up")
        for name, address, port in ((self.head, HERE, "tohead"), (self.node, THERE, "tonode")):
            ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "cable",
               "netns", name)  # fmt: skip
            ip("-n", self.switch, "link", "set", port, "master", "br0", "up")
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            # Else the kernel hands many packets over as one, whose size nobody looks at.
            ip("-n", name, "link", "set", "cable", "gso_max_segs", "1")
            ip("-n", name, "link", "set", "cable", "up")

    def remove(self) -> None:
        super().remove()
        subprocess.run(["ip", "netns", "delete", self.switch], check=False, capture_output=True)

    def lose_large(self) -> None:
        ip("-n", self.switch, "link", "set", "tohead", "mtu", str(LESS))

    def pass_large(self) -> None:
        ip("-n", self.switch, "link", "set", "tohead", "mtu", str(USUAL))


@pytest.fixture
def switched() -> Iterator[Switched]:
    with laid(Switched()) as made:
        yield made


@pytest.fixture
def site(switched: Switched, tmp_path: Path) -> Iterator[Site]:
    with running_site(switched, tmp_path, CONFIG) as made:
        yield made


def test_a_path_that_loses_large_packets(site: Site, switched: Switched) -> None:
    def agent_says(words: str) -> int:
        return (site.folder / "agent.log").read_text(errors="replace").count(words)

    site.break_chips(20)
    until(site.is_whole, "the chips are not told of", explain=site.explain)
    switched.lose_large()
    until(lambda: agent_says("large packets vanish"), "it is not said", explain=site.explain)
    for _ in range(3):
        site.break_chips(20)
        until(site.is_whole, "not told of in small packets", explain=site.explain)
    assert agent_says("MTU") == 1, "in one line"
    switched.pass_large()
    site.break_chips(5)
    until(site.is_whole, "not told of afterwards", explain=site.explain)
    assert site.faults("node.unreachable") == [], "it lives, and is heard"
    assert_each_once(site)
