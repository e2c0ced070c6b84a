"""`[recover.kubernetes]` as it is written, with every mistake named."""

from __future__ import annotations

import pytest

from chipmedic.config import loads
from chipmedic.errors import ConfigError
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings, RefusedEviction
from chipmedic_watchdog.recover.settings import RecoverSettings


def test_present_it_is_used_and_absent_it_is_not() -> None:
    assert loads("", RecoverSettings).kubernetes is None
    assert loads("[kubernetes]", RecoverSettings).kubernetes == KubernetesSettings()


def test_all_of_it_is_read() -> None:
    text = """
        [kubernetes]
        kubeconfig = "/etc/chipmedic/kubeconfig"
        context = "prod"
        namespaces = ["training", "research"]
        grace_seconds = 45
        refused_eviction = "delete"
        fence = ["/usr/local/sbin/power-off", "{node}"]
    """
    found = loads(text, RecoverSettings).kubernetes
    assert found is not None
    assert found.namespaces == ("training", "research")
    assert (found.grace_seconds, found.refused_eviction) == (45, RefusedEviction.DELETE)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("grace_seconds = 0", "grace_seconds: less than 1"),
        ('context = "prod"', "context: there is no kubeconfig"),
        ('namespaces = ["Training"]', "'Training' is no name of a namespace"),
        ('taint = "a b"', "taint: 'a b' is no name"),
        ('node_label = "/x"', "node_label: '/x' is no name"),
        ("request_timeout_seconds = 0", "request_timeout_seconds: 0 is not a positive"),
        ('fence = ["{host}"]', "{host} is not a placeholder here"),
        ('refused_eviction = "force"', "refused_eviction"),
        ("graze_seconds = 1", "grace_seconds"),
    ],
)
def test_mistakes_are_named(line: str, words: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        loads(f"[kubernetes]\n{line}", RecoverSettings)
    assert words in str(wrong.value)
