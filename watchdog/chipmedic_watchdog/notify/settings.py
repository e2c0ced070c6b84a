"""Section `[notify]` of the watchdog's configuration.

    [notify]
    language = "zh"
    minimum_severity = "warning"

    [notify.channels.on-call]
    kind = "apprise"
    url_file = "/etc/chipmedic/secrets/feishu-url"

    [notify.channels.desk]
    kind = "webhook"
    url = "https://desk.example.org/chipmedic"
    secret_file = "/etc/chipmedic/secrets/desk-hmac"

    [[notify.routes]]
    matchers = ['severity="critical"']
    channels = ["on-call", "desk"]

A secret is named by the path of a file or by an environment variable and never stands here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from chipmedic.config import read_secret
from chipmedic.errors import ConfigError
from chipmedic.model import Severity
from chipmedic.section import Section, above_zero, at_least, checks
from chipmedic_watchdog.notify.deadman import DeadmanSettings
from chipmedic_watchdog.notify.links import LinkSettings
from chipmedic_watchdog.notify.routes import RouteSettings, interval, routes_lead_somewhere


class Language(StrEnum):
    """A language that notices are written in."""

    EN = "en"
    ZH = "zh"


class SeverityName(StrEnum):
    """A severity as a configuration names it."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def severity(self) -> Severity:
        """The severity of this name."""
        return Severity[self.name]


class ChannelKind(StrEnum):
    """What sort of channel."""

    APPRISE = "apprise"
    """Chat or mail, by an apprise URL (which holds a secret)."""
    WEBHOOK = "webhook"
    """JSON by POST, signed with HMAC-SHA256."""
    COMMAND = "command"
    """A program that gets the notice on its standard input."""
    SLACK = "slack"
    """Slack by a bot's token: one thread per incident."""
    ALERTMANAGER = "alertmanager"
    """Prometheus's Alertmanager, by its API v2."""
    STDOUT = "stdout"
    """The watchdog's own standard output, as a person would read it."""


NEEDED = {
    ChannelKind.APPRISE: ("url_file", "url_env"),
    ChannelKind.WEBHOOK: ("url", "url_file", "url_env"),
    ChannelKind.COMMAND: ("argv",),
    ChannelKind.SLACK: ("secret_file", "secret_env"),
    ChannelKind.ALERTMANAGER: ("url", "url_file", "url_env"),
    ChannelKind.STDOUT: (),
}
"""Of these keys a channel needs exactly one."""

PER_MINUTE = {ChannelKind.APPRISE: 20, ChannelKind.SLACK: 50}
"""What a channel for people takes in a minute by default; robots of DingTalk and WeCom take 20.
Of Slack it is chat.postMessage's one per second, with a margin."""

PER_NODE_PER_MINUTE = {
    ChannelKind.APPRISE: 5,
    ChannelKind.SLACK: 5,
    ChannelKind.ALERTMANAGER: 0,  # it keeps alerts, and groups them itself
}
"""Of one node's incidents, by default; one that floods must not be all that people read."""
PER_NODE_ELSE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings(Section):
    """One channel."""

    kind: ChannelKind
    url: str = ""
    """Webhook, Alertmanager: the address, where it holds no secret."""
    url_file: str = ""
    url_env: str = ""
    secret_file: str = ""
    """Webhook: the file with the HMAC key; it must have one, here or in `secret_env`. Slack: the
    file with the bot's token."""
    secret_env: str = ""
    room: str = ""
    """Slack: the id of the channel, which the bot is a member of."""
    argv: tuple[str, ...] = ()
    """Command: the program and its arguments; no shell."""
    language: Language | None = None
    """None: the language of `[notify]`."""
    minimum_severity: SeverityName | None = None
    """None: the one of `[notify]`."""
    timeout_seconds: float = 10.0
    to_job_owner: bool = False
    """Apprise: the address holds `{job_owner}`, and goes to the user of each job that is hurt;
    an incident that hurts nobody's job is not told here."""
    maximum_per_minute: int | None = None
    """What comes above it is told in one digest. 0: no limit. None: 20 for apprise, 50 for slack,
    no limit for the others."""
    maximum_per_node_per_minute: int | None = None
    """The same of the incidents of one node. 0: no limit. None: 5 for apprise and slack, none for
    alertmanager, 20 for the others."""

    def _address(self) -> Iterator[str]:
        given = [key for key in NEEDED[self.kind] if getattr(self, key)]
        if NEEDED[self.kind] and len(given) != 1:
            wanted = " or ".join(NEEDED[self.kind])
            yield f"a channel of kind {self.kind.value} needs exactly one of: {wanted}"

    def _posts_somewhere(self) -> Iterator[str]:
        is_posted = "url" in NEEDED[self.kind] and self.url
        if is_posted and not self.url.startswith(("https://", "http://")):
            yield f"url: {self.url!r} is no http(s) address"

    def _signature(self) -> Iterator[str]:
        is_one = bool(self.secret_file) != bool(self.secret_env)
        if self.kind is ChannelKind.WEBHOOK and not is_one:
            yield "a webhook needs exactly one of: secret_file or secret_env"

    def _room(self) -> Iterator[str]:
        if (self.kind is ChannelKind.SLACK) != bool(self.room):
            yield "room: a channel of kind slack needs it, and no other has it"

    def _owner(self) -> Iterator[str]:
        if self.to_job_owner and self.kind is not ChannelKind.APPRISE:
            yield "to_job_owner: only a channel of kind apprise can have it"

    CHECKS = checks(
        _address,
        _posts_somewhere,
        _signature,
        _room,
        _owner,
        above_zero("timeout_seconds"),
        at_least(0, "maximum_per_minute", "maximum_per_node_per_minute"),
    )

    @property
    def per_minute(self) -> int:
        """Notices of a minute; 0: no limit."""
        given = 0 if self.to_job_owner else self.maximum_per_minute
        return PER_MINUTE.get(self.kind, 0) if given is None else given

    @property
    def per_node_per_minute(self) -> int:
        """Notices of a minute about one node's incidents; 0: no limit."""
        given = 0 if self.to_job_owner else self.maximum_per_node_per_minute
        return PER_NODE_PER_MINUTE.get(self.kind, PER_NODE_ELSE) if given is None else given

    def read_url(self) -> str:
        """Return the address.

        Raises:
            ConfigError: the file or the variable is not there, or empty.
        """
        return self.url or _secret("url", self.url_file, self.url_env)

    def read_secret(self) -> bytes:
        """Return the HMAC key; raises as `read_url` does."""
        return _secret("secret", self.secret_file, self.secret_env).encode()


def _secret(name: str, file: str, variable: str) -> str:
    if variable:
        value = os.environ.get(variable, "")
        if not value:
            raise ConfigError("[notify]", [f"{name}_env: {variable} is not set in the environment"])
        return value
    return read_secret(f"{name}_file", file)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings(Section):
    """Who is told, of what, in which language."""

    language: Language = Language.EN
    minimum_severity: SeverityName = SeverityName.WARNING
    channels: dict[str, ChannelSettings] = field(default_factory=dict)
    retry_first_seconds: float = 1.0
    """Wait after the first failed delivery; it doubles each time."""
    retry_longest_seconds: float = 300.0
    give_up_after_seconds: float = 86_400.0
    """A notice that did not arrive in this time is marked failed."""
    decision_wait_seconds: float = 0.3
    """How long a new incident's notice waits for the recovery's decision, to tell it."""
    scheduler_wait_seconds: float = 3.0
    """How long the notice of a silent node waits for the scheduler's word that an admin has
    drained it or lets it boot; where the scheduler does not answer in time, people are told."""
    flap_quiet_seconds: float = 600.0
    """How long an incident that has come back before must stay away before its end is told."""
    repeat_seconds: float = 14_400.0
    """How often an open critical incident that nobody has acknowledged is told again, as
    Alertmanager's repeat_interval; 0: never. Alertmanager itself repeats by its own."""
    external_url: str = ""
    """Where people reach this watchdog's pages, their phones too: `https://chipmedic.example.org`.
    For links in notices and as generatorURL of alerts."""
    cluster: str = ""
    """A name for the label `cluster`, where the agents have none."""
    routes: tuple[RouteSettings, ...] = ()
    links: LinkSettings = field(default_factory=LinkSettings)
    deadman: DeadmanSettings = field(default_factory=DeadmanSettings)

    def _names(self) -> Iterator[str]:
        for name in self.channels:
            if "/" in name or not name:
                yield f"channels: {name!r} is no name: it must not be empty or hold '/'"

    def _external(self) -> Iterator[str]:
        if self.external_url and not self.external_url.startswith(("https://", "http://")):
            yield f"external_url: {self.external_url!r} is no http(s) address"

    def _links(self) -> Iterator[str]:
        if self.links.key_file and not self.external_url:
            yield "links.key_file: links need external_url in [notify]"

    CHECKS = checks(
        _names,
        above_zero("retry_first_seconds", "retry_longest_seconds", "give_up_after_seconds"),
        at_least(0, "decision_wait_seconds", "scheduler_wait_seconds", "flap_quiet_seconds"),
        interval("repeat_seconds"),
        _external,
        _links,
        routes_lead_somewhere,
    )
