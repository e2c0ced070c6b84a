"""An SQLite file has one watchdog."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chipmedic.errors import StoreError
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.lead.leader import Lead
from chipmedic_watchdog.lead.lease import Member
from chipmedic_watchdog.store.alone import claim
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from postgres_server import PostgresServer

HOLDER = """
import sys
from chipmedic_watchdog.store.alone import claim
from chipmedic_watchdog.store.database import open_engine
held = claim(open_engine(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/watchdog.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=rf"in use .* \(process {other.pid}\).* PostgreSQL"):
            claim(open_engine(url))
        other.kill()
    held = claim(open_engine(url))
    assert held is not None
    assert Path(f"{tmp_path}/watchdog.db.lock").read_text() == str(os.getpid())
    held.close()


def test_a_full_disk_is_one_sentence_that_names_the_file(tmp_path: Path) -> None:
    no_space = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    lock = tmp_path / "watchdog.db.lock"
    answer = subprocess.run(
        [sys.executable, "-c", no_space + HOLDER, f"sqlite:///{tmp_path}/watchdog.db"],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert answer.stderr.splitlines()[-1].startswith(
        f"chipmedic.errors.StoreError: store: {lock} cannot be written: "
    )


def test_a_shared_store_and_one_in_memory_need_no_claim(postgres: PostgresServer) -> None:
    assert claim(open_engine(postgres.url("postgres"))) is None
    assert claim(open_engine("sqlite://")) is None


def test_alone_it_leads_for_ever_and_the_token_grows_with_each_start(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/watchdog.db")
    migrate(engine)
    database = Database(engine)
    tokens = []
    for number in range(3):
        me = Member(id=f"start-{number}", name="head:7443", http="", version="1")
        lead = Lead(database, me, Health())
        assert not lead.is_held
        lead.take_for_ever()
        assert lead.is_held
        assert lead.leader == "head:7443"
        tokens.append(lead.token)
    assert tokens == sorted(set(tokens))
    database.close()
