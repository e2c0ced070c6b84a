"""What the daemon takes from its configuration and its surroundings when it starts."""

from __future__ import annotations

import resource

from chipmedic.config import read_secret
from chipmedic_watchdog.access.roles import ROLES
from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.intake.committer import CommitterSettings
from chipmedic_watchdog.web.access import Doors


def store_url(settings: WatchdogSettings) -> str:
    """Return the address of the store.

    Raises:
        ConfigError: its file cannot be read.
    """
    path = settings.store.url_file
    return settings.store.url if path is None else read_secret("store.url_file", path)


def committer_settings(settings: WatchdogSettings) -> CommitterSettings:
    """Return how groups are committed."""
    return CommitterSettings(
        linger_seconds=settings.store.group_commit_seconds,
        group_events=settings.store.group_commit_events,
        queue_events=settings.store.queue_events,
    )


def read_doors(settings: WatchdogSettings) -> Doors:
    """Return who gets in without a token of the store.

    Raises:
        ConfigError: the token's file cannot be read, or is empty.
    """
    return Doors(read_token(settings), ROLES.get(settings.http.loopback_role))


def read_token(settings: WatchdogSettings) -> str | None:
    """Return the bearer token; None where none is configured.

    Raises:
        ConfigError: its file cannot be read, or is empty.
    """
    path = settings.http.token_file
    if path is None:
        return None
    return read_secret("http.token_file", path)


def raise_file_limit() -> None:
    """Allow as many streams as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
