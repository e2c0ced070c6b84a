"""The way to the API server: the official client, with our timeouts, retries and words.

The client's own retries are off: it would sleep through a `Retry-After` of any length. Answers are
read as plain JSON, because the client's models cost a hundred times the time for a list of nodes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from chipmedic.errors import DeliveryFailed, StoreError
from chipmedic_watchdog.recover.kubernetes.answers import Refused, refused
from chipmedic_watchdog.recover.kubernetes.objects import mapping
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings

ATTEMPTS = 4
WAIT_LONGEST_SECONDS = 5.0
"""A server that asks to wait longer is left alone until the engine's next try."""
BAD_FILE = (OSError, ValueError, TypeError, KeyError, AttributeError)
"""How the client ends over a kubeconfig that is none."""

Json = Mapping[str, Any]


class Unreachable(DeliveryFailed):
    """The API server did not answer."""


class Connection:
    """Calls the methods of the official client's APIs by name."""

    def __init__(self, settings: KubernetesSettings, assert_leading: Callable[[], None]) -> None:
        self._settings = settings
        self._assert_leading = assert_leading
        self._client: Any = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.rest_client.pool_manager.clear()
            client.close()

    def ask(
        self, what: str, api: str, method: str, *, writes: bool = False, **options: Any
    ) -> Json:
        """Make a call, again where it may pass, and return the JSON of the answer.

        Raises:
            DeliveryFailed: the server said no, did not answer, or answered with no JSON.
        """
        body = self._again(what, api, method, reads=lambda r: r.data, writes=writes, **options)
        with readable(what):
            return mapping(json.loads(body), "it")

    def lines(self, what: str, api: str, method: str, **options: Any) -> Iterator[bytes]:
        """Make a call and return the lines of the answer as they come.

        Raises:
            DeliveryFailed: as for `ask`, and where the stream breaks off.
        """
        response = self._again(what, api, method, reads=lambda r: r, **options)
        try:
            with _told(what):
                yield from _lines(response)
        finally:
            response.close()

    def _again(
        self,
        what: str,
        api: str,
        method: str,
        *,
        reads: Callable[[Any], Any],
        writes: bool = False,
        **options: Any,
    ) -> Any:
        """Make a call until it is answered, or a number of times; `reads` takes the answer in."""

        def once() -> Any:
            from kubernetes import client

            if writes:
                self._see_that_we_lead(what)
            with _told(what):
                call = getattr(getattr(client, api)(self._connected()), method)
                limit = self._settings.request_timeout_seconds
                response = call(**options, _preload_content=False, _request_timeout=(limit, limit))
                return reads(response)

        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=_wait,
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            return retrying(once)
        except Refused as e:
            if e.status == 401:
                self.close()  # a file with other credentials may lie there by now
            raise

    def _see_that_we_lead(self, what: str) -> None:
        try:
            self._assert_leading()
        except StoreError as e:
            raise DeliveryFailed(f"{what}: not asked for: {e}") from e

    def open(self) -> None:
        """Load the client, which can take seconds, and read the credentials.

        Raises:
            DeliveryFailed: there are none.
        """
        self._connected()

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = connect(self._settings)
            return self._client


def connect(settings: KubernetesSettings) -> Any:
    """Return the official client for the configured cluster.

    Raises:
        DeliveryFailed: there are no credentials.
    """
    import yaml
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        if settings.kubeconfig:
            config.load_kube_config(
                config_file=settings.kubeconfig,
                context=settings.context or None,
                client_configuration=configuration,
            )
        else:
            config.load_incluster_config(client_configuration=configuration)
    except (config.ConfigException, yaml.YAMLError, *BAD_FILE) as e:
        where = settings.kubeconfig or "the service account"
        raise DeliveryFailed(
            f"[recover.kubernetes] {where}: {_first_line(e)}"
            + ("" if settings.kubeconfig else "; outside of a cluster, set kubeconfig"),
            is_permanent=True,
        ) from e
    configuration.retries = 0
    return client.ApiClient(configuration)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn the errors of client and connection into ours."""
    import urllib3
    from kubernetes import client

    try:
        yield
    except client.ApiException as e:
        if not e.status:
            raise Unreachable(f"{what}: {_first_line(e.reason)}") from e
        raise refused(what, int(e.status), str(e.body or ""), dict(e.headers or {})) from e
    except (urllib3.exceptions.HTTPError, OSError) as e:
        raise Unreachable(f"{what}: the API server does not answer: {_cause(e)}") from e


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn the trouble of whoever reads an answer into ours.

    Raises:
        DeliveryFailed: the answer is not what was asked for.
    """
    try:
        yield
    except ValueError as e:
        raise DeliveryFailed(f"{what}: an answer that cannot be read: {e}") from e


def _lines(response: Any) -> Iterator[bytes]:
    """Cut a stream into lines; a last one without its end was cut off and says nothing."""
    rest = b""
    for chunk in response.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, Unreachable) or (isinstance(error, Refused) and _is_soon(error))


def _is_soon(error: Refused) -> bool:
    return error.passes and error.wait_seconds <= WAIT_LONGEST_SECONDS


_spread = wait_random_exponential(multiplier=0.2, max=2.0)


def _wait(state: RetryCallState) -> float:
    """Return the wait before the next try: what the server asks for, or a growing random one."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait_seconds if isinstance(error, Refused) else 0.0
    return max(asked, _spread(state))


def _first_line(error: object) -> str:
    text = str(error).strip()
    return text.splitlines()[-1][:300] if text else "no reason given"


def _cause(error: BaseException) -> str:
    """Return what lies under urllib3's wrapping: `Connection refused`, not the pool's address."""
    reason = getattr(error, "reason", None)
    return _cause(reason) if isinstance(reason, BaseException) else _first_line(error)
