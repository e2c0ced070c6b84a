"""What only PostgreSQL can do to us: refuse us, restart, and keep a stopped watchdog's locks."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import insert, inspect, select, text

from chipmedic.errors import StoreError
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.intake.arrival import Arrival, Greeting
from chipmedic_watchdog.intake.committer import Committer
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from chipmedic_watchdog.store.schema import METADATA
from fake_agent import FakeAgent, a_fault, event
from intake_rig import Intake, rows
from postgres_server import PASSWORD, PostgresServer
from small_disk import fill, small_disk
from waiting import PATIENCE_SECONDS, eventually


@pytest.fixture
def store_url(postgres_url: str) -> str:
    """Of PostgreSQL alone."""
    return postgres_url


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    server = PostgresServer.create()
    server.start()
    yield server
    server.close()


def test_the_migrations_make_exactly_the_tables_of_the_schema(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        indexes = {i["name"]: i for i in inspect(connection).get_indexes("faults")}
    assert indexes["one_open_fault"]["unique"]
    assert "cleared" in indexes["one_open_fault"]["dialect_options"]["postgresql_where"]


def test_numbers_of_64_bits_fit_wherever_an_agent_or_time_brings_them(database: Database) -> None:
    large = 2**63 - 1
    event_row = {
        "node": "n", "epoch": "e", "seq": large, "boot_id": "", "node_at": 1.0, "received_at": 1.0,
        "transition": "gap", "component": "", "kind": "", "severity": 0, "body": {},
    }  # fmt: skip
    with database.engine.begin() as connection:
        connection.execute(insert(schema.events), [event_row])
        connection.execute(text(f"ALTER SEQUENCE faults_id_seq RESTART WITH {2**40}"))
        connection.execute(
            insert(schema.faults).values(
                node="n", component="host", kind="k", severity=1, action="none", node_since=1.0,
                opened_at=1.0, updated_at=1.0, summary="", source="s", state="open",
            )
        )  # fmt: skip
    assert rows(database, schema.events)[0]["seq"] == large
    assert rows(database, schema.faults)[0]["id"] == 2**40


def test_two_that_start_together_migrate_once(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.new_database())
    troubles: list[BaseException] = []

    def start() -> None:
        engine = open_engine(url)
        try:
            migrate(engine)
        except StoreError as e:
            troubles.append(e)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert troubles == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("wrong password", "password authentication failed .* see the address in store.url_file"),
        ("wrong database", 'database "nowhere" does not exist: make it: createdb'),
        ("no server", "No such file or directory .*is the server running here"),
    ],
)
def test_a_refusal_is_one_clear_line_without_the_password(
    postgres: PostgresServer, address: str, words: str
) -> None:
    url = {
        "wrong password": postgres.url("postgres", password="guessed"),
        "wrong database": postgres.url("nowhere"),
        "no server": postgres.url("postgres").replace(str(postgres.folder), "/tmp/nothing-here"),
    }[address]
    engine = open_engine(url)
    with pytest.raises(StoreError, match=words) as refusal:
        migrate(engine)
    assert "\n" not in str(refusal.value)
    assert PASSWORD not in str(refusal.value)
    assert "guessed" not in str(refusal.value)
    engine.dispose()


def test_another_database_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(StoreError, match=r"mysql is not known: allowed are sqlite:///FILE"):
        open_engine("mysql://root@localhost/x")


def test_a_commit_is_durable_also_where_the_server_would_not_wait(postgres: PostgresServer) -> None:
    name = postgres.new_database()
    with postgres.connect("postgres") as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = 'off'".encode())
    engine = open_engine(postgres.url(name))
    with engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
    engine.dispose()


def test_reads_see_one_state_while_another_watchdog_writes(database: Database) -> None:
    counters = schema.counters
    other = Database(open_engine(database.engine.url.render_as_string(hide_password=False)))

    def read(connection):
        first = connection.execute(select(counters)).all()
        other.write_now(lambda c: c.execute(insert(counters).values(name="x", value=1)))
        return first, connection.execute(select(counters)).all()

    first, second = database.read_now(read)
    assert first == second == []
    assert database.read_now(lambda c: c.execute(select(counters)).all()) == [("x", 1)]
    other.close()


async def test_a_restart_of_the_server_is_outlived(own_server: PostgresServer) -> None:
    engine = open_engine(own_server.url(own_server.new_database()))
    migrate(engine)
    database = Database(engine)
    async with Intake(database).running() as intake, FakeAgent(intake.address) as agent:
        await agent.events(event(1, a_fault()))
        await agent.acked(1)
        await asyncio.to_thread(own_server.stop)
        await agent.events(event(2, a_fault(count=2)))
        await eventually(lambda: "store" in intake.health.problems)
        assert agent.acked_seq == 1, "nothing is acknowledged that is not durable"
        assert "is the server running here?" in intake.health.problems["store"]
        await asyncio.to_thread(own_server.start)
        await agent.acked(2)
        assert intake.health.problems == {}
        assert [row["seq"] for row in intake.rows(schema.events)] == [1, 2]
    database.close()


async def test_a_missing_right_is_trouble_of_the_store_and_costs_no_event(
    postgres: PostgresServer, database: Database
) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE events RENAME TO gone"))
    async with Intake(database).running() as intake, FakeAgent(intake.address) as agent:
        await agent.events(event(1, a_fault()))
        await eventually(lambda: "store" in intake.health.problems)
        with database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO events"))
        await agent.acked(1)


async def test_what_postgresql_cannot_store_costs_only_itself(database: Database) -> None:
    """A letter that its text cannot hold, past every check before it."""
    committer = Committer(database, Metrics(), Health())

    def greeting(node: str) -> Arrival:
        body = Greeting(
            machine_id=node, boot_id="b", boot_time=1.0, agent_version="1", labels={},
            inventory=(), first_seq=1, next_seq=1,
        )  # fmt: skip
        arrival = Arrival(node=node, epoch="e", received_at=1.0, body=body)
        arrival.done = asyncio.get_running_loop().create_future()
        return arrival

    good, bad = greeting("n-1"), greeting("n-\0")
    working = asyncio.create_task(committer.run())
    committer.put_now(bad)
    committer.put_now(good)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await good.done
        with pytest.raises(StoreError):
            await bad.done
    working.cancel()
    assert [row["node"] for row in rows(database, schema.nodes)] == ["n-1"]


def test_a_stopped_watchdogs_transaction_holds_nobody_up_for_long(
    database: Database,
) -> None:
    url = database.engine.url.render_as_string(hide_password=False)
    stopped = open_engine(url)
    counters = schema.counters
    database.write_now(lambda c: c.execute(insert(counters).values(name="x", value=1)))
    with stopped.connect() as connection:
        connection.execute(counters.update().values(value=2))  # and never a word again
        database.write_now(lambda c: c.execute(counters.update().values(value=3)))
        assert rows(database, counters)[0]["value"] == 3
        connection.invalidate()
    stopped.dispose()


@pytest.fixture
def cramped_server() -> Iterator[PostgresServer]:
    """A server whose data lie on a small disk."""
    with (
        tempfile.TemporaryDirectory(prefix="chipmedic-pg-") as folder,
        small_disk(Path(folder) / "data", "64m") as disk,
    ):
        Path(folder).chmod(0o755)
        server = PostgresServer.create(disk)
        server.start()
        yield server
        server.stop()


async def test_a_full_disk_of_the_server_loses_nothing(cramped_server: PostgresServer) -> None:
    """It refuses single writes, or ends altogether and is started again by its supervisor."""
    server = cramped_server
    engine = open_engine(server.url(server.new_database()))
    migrate(engine)
    database = Database(engine)
    count = 8_001
    async with Intake(database).running() as intake, FakeAgent(intake.address) as agent:
        await agent.events(event(1, a_fault()))
        await agent.acked(1)
        filler = await asyncio.to_thread(fill, server.folder)
        for start in range(2, count, 500):
            await agent.events(*(event(n, a_fault()) for n in range(start, start + 500)))
        await eventually(lambda: "store" in intake.health.problems)
        promised = agent.acked_seq
        assert intake.counted("store_failing") == 1
        await asyncio.sleep(1)
        assert agent.acked_seq == promised < count
        assert not agent.is_over
        filler.unlink()
        if not server.is_running:
            await asyncio.to_thread(server.start)
        await agent.acked(count)
        assert intake.health.status == "ok"
        seqs = sorted(e["seq"] for e in intake.rows(schema.events))
    assert seqs == list(range(1, count + 1))
    database.close()
