"""The watchdog's HTTP interface, as the command line uses it."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from chipmedic.errors import ChipmedicError

if TYPE_CHECKING:  # it takes longer to load than `explain` and `doctor` do without it
    import httpx

TIMEOUT_SECONDS = 10.0
PAGE_SIZE = 500


class WatchdogUnreachable(ChipmedicError):
    """The watchdog does not answer."""

    exit_code = 3


class Client:
    """Asks one watchdog; every error is one line that says what to do."""

    def __init__(self, url: str) -> None:
        self._url = url
        token = os.environ.get("CHIPMEDIC_TOKEN")
        if path := os.environ.get("CHIPMEDIC_TOKEN_FILE"):
            token = Path(path).read_text(encoding="utf-8").strip()
        try:
            import httpx
        except ModuleNotFoundError as e:
            raise ChipmedicError(
                "asking a watchdog needs httpx: pip install 'chipmedic[cli]'"
            ) from e
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS)
        except (httpx.InvalidURL, ValueError) as e:
            raise ChipmedicError(f"--watchdog {url}: not an address: {e}") from e

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, **parameters: str | int) -> Any:
        """Return the answer to a GET.

        Raises:
            WatchdogUnreachable: nobody answers.
            ChipmedicError: the watchdog refused; its own words.
        """
        return self._ask("GET", path, params=parameters)

    def all(self, path: str, **parameters: str | int) -> list[dict[str, Any]]:
        """Return all items of a listing, page by page; raises as `get` does."""
        items: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            query = {**parameters, "limit": PAGE_SIZE, **({"after": after} if after else {})}
            page = self.get(path, **query)
            items += page["items"]
            after = page["next"]
            if after is None:
                return items

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the answer to a POST; raises as `get` does."""
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        import httpx

        try:
            response = self._http.request(method, path, **arguments)
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise WatchdogUnreachable(
                f"no watchdog at {self._url}: {e}; name another with --watchdog, "
                "or look at: systemctl status chipmedic-watchdog"
            ) from e
        if response.is_error:
            raise ChipmedicError(f"{path}: {_words(response)}")
        try:
            return response.json()
        except ValueError as e:
            raise ChipmedicError(f"{self._url}{path}: this is no chipmedic watchdog") from e


def _words(response: httpx.Response) -> str:
    """Return what a refusal says, from its problem document where it is one."""
    try:
        problem = response.json()
        return str(problem.get("detail") or problem.get("title") or response.reason_phrase)
    except (ValueError, AttributeError):
        return f"{response.status_code} {response.reason_phrase}"
