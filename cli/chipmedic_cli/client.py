"""The watchdog's HTTP interface, as the command line uses it."""

from __future__ import annotations

import os
import re
import ssl
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from chipmedic.errors import ChipmedicError, ConfigError

if TYPE_CHECKING:  # it takes longer to load than `explain` and `doctor` do without it
    import httpx

TIMEOUT_SECONDS = 10.0
CA_VARIABLE = "CHIPMEDIC_CA"
"""Names a file with the authority (PEM) that has signed the watchdog's HTTPS certificate."""
PAGE_SIZE = 500


class UsageWrong(ChipmedicError):
    """The command line, or a variable that stands for a part of it, cannot be used."""

    exit_code = 2


class WatchdogUnreachable(ChipmedicError):
    """The watchdog does not answer, or not us: a program must not take it for an open incident."""

    exit_code = 3


NOT_US = frozenset({401, 403})
"""The token is missing or wrong, or its role may not."""


class Client:
    """Asks one watchdog; every error is one line that says what to do."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise WatchdogUnreachable(
                f"--watchdog {url}: is no address; it begins with http:// or https://, "
                "like http://127.0.0.1:7480"
            )
        self._url = url
        token = _token()
        try:
            import httpx
        except ModuleNotFoundError as e:
            raise ChipmedicError(
                "asking a watchdog needs httpx: pip install 'chipmedic[cli]'"
            ) from e
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(
                base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, verify=_trust()
            )
        except (httpx.InvalidURL, ValueError) as e:
            raise UsageWrong(f"--watchdog {url}: not an address: {e}") from e

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

    def text(self, path: str, **parameters: str | int) -> str:
        """Return the answer to a GET as it is, for a page; raises as `get` does."""
        return str(self._answer("GET", path, params=parameters).text)

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        response = self._answer(method, path, **arguments)
        try:
            return response.json()
        except ValueError as e:
            raise WatchdogUnreachable(f"{self._url}{path}: this is no chipmedic watchdog") from e

    def _answer(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        import httpx

        try:
            response = self._http.request(method, path, **arguments)
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise WatchdogUnreachable(_trouble(self._url, e)) from e
        if response.is_error:
            words = _words(response) or f"{self._url}{path}: {_status(response)}"
            is_answer = response.status_code < 500 and response.status_code not in NOT_US
            raise (ChipmedicError if is_answer and _words(response) else WatchdogUnreachable)(words)
        return response


def named(what: str, text: str) -> str:
    """Return an id or a name as a part of an address.

    Raises:
        UsageWrong: it is empty, or none.
    """
    if not text.strip() or set(text) & set("/?#") or not text.isprintable():
        raise UsageWrong(f"{text!r} is no {what}: take it from the list, as it is shown there")
    return quote(text, safe="")


def _token() -> str | None:
    """Return the bearer token, from its file where one is named."""
    path = os.environ.get("CHIPMEDIC_TOKEN_FILE")
    if path:
        from chipmedic.config import read_secret

        try:
            return _as_header(f"CHIPMEDIC_TOKEN_FILE: {path}", read_secret("token", path))
        except ConfigError as e:
            words = "; ".join(problem.partition(": ")[2] for problem in e.problems)
            raise UsageWrong(f"CHIPMEDIC_TOKEN_FILE: {path}: {words}") from e
    token = os.environ.get("CHIPMEDIC_TOKEN")
    return _as_header("CHIPMEDIC_TOKEN", token) if token else None


def _as_header(place: str, token: str) -> str:
    """See that a token can be sent at all."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageWrong(
            f"{place}: this is no token: one is a line of letters and digits, as "
            "chipmedic watchdog token create shows it"
        )
    return token


def _trust() -> ssl.SSLContext | bool:
    """Return whom to trust: the authority of CHIPMEDIC_CA, else those of this host."""
    path = os.environ.get(CA_VARIABLE)
    if not path:
        return True
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as e:
        raise UsageWrong(f"--ca {path}: {_no_authority(path) or e}") from e


def _no_authority(path: str) -> str:
    """Say what is wrong with the file of an authority."""
    from chipmedic.tls_files import Unusable, read_certificates

    try:
        read_certificates(path)
    except Unusable as e:
        return str(e)
    return ""


OF_CERTIFICATES = (
    ("certificate has expired", "its certificate has expired: renew it on the watchdog's host"),
    ("not yet valid", "its certificate is not valid yet: look at the clocks of both hosts"),
    ("mismatch", "its certificate is not for this name: call it as the certificate names it, or "
     "add the name there ([join] names)"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is of no authority that is trusted here: name "
     "its authority with --ca (or CHIPMEDIC_CA)"),
    ("WRONG_VERSION_NUMBER", "it speaks no HTTPS there: try http://"),
    ("record layer failure", "it speaks no HTTPS there: try http://"),
)  # fmt: skip
"""What OpenSSL says, and what it means here."""


def _trouble(url: str, error: Exception) -> str:
    """Say why there was no answer, and what to do."""
    words = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
    for part, meaning in OF_CERTIFICATES:
        if part.lower() in words.lower():
            return f"no watchdog at {url}: {meaning}"
    if "disconnected without sending" in words and url.startswith("http://"):
        words = "it ended the connection without an answer (does it speak https:// there?)"
    if "illegal request line" in words:
        words = "it speaks no HTTP there (is it the port of the agents' stream?)"
    remedy = "name another with --watchdog, or look at: systemctl status chipmedic-watchdog"
    return f"no watchdog at {url}: {words or type(error).__name__}; {remedy}"


def _words(response: httpx.Response) -> str:
    """Return what a refusal says; empty where it is no problem document of a watchdog."""
    try:
        problem = response.json()
        return str(problem.get("detail") or problem.get("title") or "")
    except (ValueError, AttributeError):
        return ""


def _status(response: httpx.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}: is that a chipmedic watchdog?"
