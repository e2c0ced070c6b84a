"""What the daemon takes from its configuration and its surroundings when it starts."""

from __future__ import annotations

import resource
from pathlib import Path

from chipmedic.errors import ConfigError
from chipmedic_watchdog.access.roles import ROLES
from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.intake.committer import CommitterSettings
from chipmedic_watchdog.web.access import Doors


def store_url(settings: WatchdogSettings) -> str:
    """Return the address of the store.

    Raises:
        ConfigError: its file cannot be read.
    """
    try:
        return settings.store.resolved_url()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(str(settings.store.url_file), [f"store.url_file: {e}"]) from e


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
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(path, [f"http.token_file: cannot be read: {e}"]) from e
    if not token:
        raise ConfigError(path, ["http.token_file: is empty"])
    return token


def raise_file_limit() -> None:
    """Allow as many streams as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
