"""Links by which a person acknowledges or approves from a phone: signed, for one use, with an end.

A link leads to a page that says what will happen and has a button. Reading it changes nothing: chat
programs and mail scanners open every link that they see. Whoever has the link may press the button,
so it lives for hours, not for ever.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from chipmedic.errors import ConfigError
from chipmedic.section import Section, above_zero
from chipmedic_watchdog.notify.facts import IncidentFacts

SIGNATURE_BYTES = 16
KEY_BYTES_MIN = 16
TOKEN_LETTERS_MAX = 300
ID_BYTES = 12


class LinkAct(StrEnum):
    """What a link can do."""

    ACKNOWLEDGE = "acknowledge"
    APPROVE = "approve"


LETTERS = {LinkAct.ACKNOWLEDGE: "k", LinkAct.APPROVE: "p"}
ACTS = {letter: act for act, letter in LETTERS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings(Section):
    """[notify.links]: with a key and `external_url` in [notify], notices hold links."""

    key_file: str = ""
    """A file with at least 16 random bytes; several watchdogs share one."""
    acts: tuple[LinkAct, ...] = (LinkAct.ACKNOWLEDGE, LinkAct.APPROVE)
    valid_seconds: float = 43_200.0

    CHECKS = above_zero("valid_seconds")

    def read_key(self) -> bytes:
        """Return the signing key.

        Raises:
            ConfigError: the file cannot be read, or holds too little.
        """
        try:
            key = Path(self.key_file).read_bytes().strip()
        except OSError as e:
            raise ConfigError(self.key_file, [f"notify.links.key_file: {e.strerror}"]) from e
        if len(key) < KEY_BYTES_MIN:
            problem = f"notify.links.key_file: under {KEY_BYTES_MIN} bytes; openssl rand -hex 32"
            raise ConfigError(self.key_file, [problem])
        return key


class LinkRefused(Exception):
    """The link does nothing; `reason` is `wrong`, `expired` or `used`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What one link says."""

    id: str
    """Of the notice that it stands in, with the act: it is used once."""
    act: LinkAct
    target: str
    """An incident or a recovery."""
    expires_at: int
    language: str = "en"


def sign(link: Link, key: bytes) -> str:
    """Return the link as a short word for a URL: what it says in plain sight, and the signature."""
    content = (link.id, LETTERS[link.act], link.target, str(link.expires_at), link.language)
    text = ".".join(content)
    return f"{text}.{_signature(text, key)}"


def read(token: str, key: bytes, now: float) -> Link:
    """Read a link and hold it to its signature and its end.

    Raises:
        LinkRefused: it is not ours, or too old.
    """
    if len(token) > TOKEN_LETTERS_MAX or not token.isascii():
        raise LinkRefused("wrong")
    text, _, signature = token.rpartition(".")
    if not hmac.compare_digest(_signature(text, key), signature):
        raise LinkRefused("wrong")
    identity, letter, target, expires_at, language = text.split(".")
    if now > int(expires_at):
        raise LinkRefused("expired")
    return Link(
        id=identity,
        act=ACTS[letter],
        target=target,
        expires_at=int(expires_at),
        language=language,
    )


def _signature(text: str, key: bytes) -> str:
    digest = hmac.new(key, b"chipmedic link\n" + text.encode(), hashlib.sha256).digest()
    return _word(digest[:SIGNATURE_BYTES])


def _word(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def identity_of(notice: str, act: LinkAct) -> str:
    """Return the id of the link that stands in a notice: one for each notice and act."""
    digest = hashlib.sha256(f"{notice}/{act.value}".encode()).digest()
    return _word(digest[:ID_BYTES])


@dataclass(frozen=True, slots=True)
class Linker:
    """Makes the links of notices."""

    settings: LinkSettings
    external_url: str
    key: bytes

    def links(
        self, facts: IncidentFacts, notice: str, *, now: float, language: str
    ) -> Mapping[str, str]:
        """Return the URL of each act that is open for an incident now."""
        targets = _targets(facts)
        return {
            act.value: self._url(
                Link(
                    id=identity_of(notice, act),
                    act=act,
                    target=targets[act],
                    expires_at=int(now + self.settings.valid_seconds),
                    language=language,
                )
            )
            for act in self.settings.acts
            if act in targets
        }

    def _url(self, link: Link) -> str:
        return f"{self.external_url.rstrip('/')}/act/{sign(link, self.key)}"


def _targets(facts: IncidentFacts) -> dict[LinkAct, str]:
    targets = {}
    if facts.state != "resolved" and not facts.is_acknowledged:
        targets[LinkAct.ACKNOWLEDGE] = facts.id
    if facts.recovery is not None and facts.recovery.state == "proposed":
        targets[LinkAct.APPROVE] = facts.recovery.id
    return targets
