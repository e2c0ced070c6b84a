"""The channels that lead to people: each delivers one notice, blocking, or says why not.

Addresses and secrets are read when a notice is delivered, so that a rotated secret needs no restart
and a missing one is a failed delivery that is tried again, not a watchdog that does not start.
"""

from __future__ import annotations

from collections.abc import Callable

from chipmedic.notifier import Notifier
from chipmedic_watchdog.notify.channels.alertmanager import Alertmanager
from chipmedic_watchdog.notify.channels.chat import Chat
from chipmedic_watchdog.notify.channels.program import Program
from chipmedic_watchdog.notify.channels.slack import Slack
from chipmedic_watchdog.notify.channels.terminal import Terminal
from chipmedic_watchdog.notify.channels.webhook import Webhook
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings

MAKERS: dict[ChannelKind, Callable[[str, ChannelSettings], Notifier]] = {
    ChannelKind.APPRISE: Chat,
    ChannelKind.WEBHOOK: Webhook,
    ChannelKind.COMMAND: Program,
    ChannelKind.SLACK: Slack,
    ChannelKind.ALERTMANAGER: Alertmanager,
    ChannelKind.STDOUT: Terminal,
}


def make(name: str, settings: ChannelSettings) -> Notifier:
    """Return the channel of this name."""
    return MAKERS[settings.kind](name, settings)
