"""Links by which a person acknowledges or approves from a phone: signed, for one use, with an end.

A link leads to a page that says what will happen and has a button. Reading it changes nothing: chat
programs and mail scanners open every link that they see. Whoever has the link may press the button,
so it lives for hours, not for ever.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from chipmedic.errors import ConfigError
from chipmedic_watchdog.notify.facts import IncidentFacts

SIGNATURE_BYTES = 16
KEY_BYTES_MIN = 16
TOKEN_LETTERS_MAX = 600


class LinkAct(StrEnum):
    """What a link can do."""

    ACKNOWLEDGE = "acknowledge"
    APPROVE = "approve"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """[notify.links]: with a key and `external_url` in [notify], notices hold links."""

    key_file: str = ""
    """A file with at least 16 random bytes; several watchdogs share one."""
    acts: tuple[LinkAct, ...] = (LinkAct.ACKNOWLEDGE, LinkAct.APPROVE)
    valid_seconds: float = 43_200.0

    def __post_init__(self) -> None:
        if self.valid_seconds <= 0:
            raise ValueError(f"valid_seconds: {self.valid_seconds:g} is not a positive number")

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
    """Return the link as a word for a URL."""
    content = [link.id, link.act.value, link.target, link.expires_at, link.language]
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return _word(body) + "." + _word(_signature(body, key))


def read(token: str, key: bytes, now: float) -> Link:
    """Read a link and hold it to its signature and its end.

    Raises:
        LinkRefused: it is not ours, or too old.
    """
    body, signature = _parts(token)
    if not hmac.compare_digest(_signature(body, key), signature):
        raise LinkRefused("wrong")
    identity, act, target, expires_at, language = json.loads(body)
    if now > expires_at:
        raise LinkRefused("expired")
    return Link(
        id=identity, act=LinkAct(act), target=target, expires_at=expires_at, language=language
    )


def _parts(token: str) -> tuple[bytes, bytes]:
    if len(token) > TOKEN_LETTERS_MAX or not token.isascii():
        raise LinkRefused("wrong")
    body, _, signature = token.partition(".")
    try:
        return _bytes(body), _bytes(signature)
    except ValueError as e:
        raise LinkRefused("wrong") from e


def _signature(body: bytes, key: bytes) -> bytes:
    return hmac.new(key, b"chipmedic link\n" + body, hashlib.sha256).digest()[:SIGNATURE_BYTES]


def _word(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(word: str) -> bytes:
    return base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)


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
                    id=f"{notice}/{act.value}",
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
