"""What `config check` says of the files that a watchdog's configuration names.

What stands in an environment variable is not looked for: it is the daemon's, not of who checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from chipmedic.errors import ConfigError
from chipmedic_watchdog.config import WatchdogSettings, is_store_url
from chipmedic_watchdog.incidents.rules import load_rules
from chipmedic_watchdog.startup import read_token, store_url


def rules(settings: WatchdogSettings) -> Iterator[str]:
    """Read the site's rules."""
    try:
        load_rules(settings.incidents.rules_file)
    except ConfigError as e:
        yield from (f"incidents.rules_file: {e.path}: {problem}" for problem in e.problems)


def store(settings: WatchdogSettings) -> Iterator[str]:
    """Read the store's address, from its file where one is named."""
    path = settings.store.url_file
    try:
        url = store_url(settings)
    except ConfigError as e:
        yield from _named(e)
        return
    place = "store.url" if path is None else f"store.url_file: {path}"
    if path is not None and not is_store_url(url):
        yield f"{place}: allowed are sqlite:///FILE and postgresql+psycopg://USER@HOST/DATABASE"
    elif is_store_url(url):
        try:
            make_url(url)
        except (ArgumentError, ValueError):  # its words may hold a password
            yield f"{place}: is no address: postgresql+psycopg://USER@HOST:PORT/DATABASE"


def secrets(settings: WatchdogSettings) -> Iterator[str]:
    """Read the token, the key of links and the address of the dead man's switch."""
    notify = settings.notify
    yield from _refusal(lambda: read_token(settings))
    if notify.links.key_file:
        yield from _refusal(notify.links.read_key)
    if notify.deadman.url_file:
        yield from _refusal(notify.deadman.read_url)


def channels(settings: WatchdogSettings) -> Iterator[str]:
    """Read the secrets of the channels that lie in files."""
    for name, channel in settings.notify.channels.items():
        for key, read in (("url_file", "read_url"), ("secret_file", "read_secret")):
            if getattr(channel, key, ""):
                for words in _refusal(getattr(channel, read)):
                    yield f"notify.channels.{name}.{words}"


def stream_files(settings: WatchdogSettings) -> Iterator[str]:
    """Look at the certificates of the agents' end."""
    yield from settings.stream.tls_files.problems(time.time())


def http_files(settings: WatchdogSettings) -> Iterator[str]:
    """Look at the certificate of the pages and the API."""
    yield from settings.http.tls_files.problems(time.time())


ALL = (rules, store, secrets, channels, stream_files, http_files)


def _refusal(read: Callable[[], object]) -> Iterator[str]:
    """Read something, and say why it could not be."""
    try:
        read()
    except ConfigError as e:
        yield from _named(e)


def _named(error: ConfigError) -> Iterator[str]:
    """Put the file that an error is about behind the key that names the file."""
    for problem in error.problems:
        key, _, words = problem.partition(": ")
        yield f"{key}: {error.path}: {words}"
