"""The key and certificate that this node got by joining, in one file of the agent's folder.

One file, so that key and certificate are exchanged together or not at all. The daemon reads it and
knows nothing of cryptography; who makes it is `enrol`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from chipmedic.errors import StoreError

FILE = "identity.json"
RENEW_RATIO = 2 / 3
"""Of a certificate's life, after which a new one is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What the agent shows and whom it trusts; PEM, and UNIX seconds by this host's clock."""

    node: str
    key: str
    certificate: str
    authority: str
    obtained_at: float
    expires_at: float

    @property
    def renew_at(self) -> float:
        """When a new certificate is due."""
        return self.obtained_at + (self.expires_at - self.obtained_at) * RENEW_RATIO


def load(folder: Path) -> Credentials | None:
    """Read what was joined; None: this node has not.

    Raises:
        StoreError: the file is there and cannot be used.
    """
    path = folder / FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        found = Credentials(**fields)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise StoreError(f"{path}: {e.strerror}") from e
    except (ValueError, TypeError) as e:
        raise StoreError(f"{path}: damaged, join again: {e}") from e
    for name, kind in Credentials.__annotations__.items():
        wanted = str if kind == "str" else float
        if not isinstance(getattr(found, name), wanted):
            raise StoreError(f"{path}: damaged, join again: {name} is missing or wrong")
    return found


def save(folder: Path, credentials: Credentials) -> None:
    """Write it for this folder's owner alone, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{FILE}.new"
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(credentials), file)
        file.flush()
        os.fsync(descriptor)
        if os.geteuid() == 0:  # `sudo chipmedic agent join`: the daemon must be able to read it
            owner = folder.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    fresh.replace(folder / FILE)
