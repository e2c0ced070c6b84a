"""What the tests of the notices share: incidents in a real store."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update

from chipmedic_watchdog.notify.facts import IncidentFacts, gather
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database

FAULT_AT = 1_900_000_000.0
NOW = FAULT_AT + 4.2


def put(database: Database, table: Any, **values: Any) -> None:
    database.write_now(lambda c: c.execute(insert(table).values(**values)))


def change(database: Database, table: Any, where: Any, **values: Any) -> None:
    database.write_now(lambda c: c.execute(update(table).where(where).values(**values)))


def rows(database: Database, table: Any) -> list[dict[str, Any]]:
    return database.read_now(lambda c: [dict(r) for r in c.execute(select(table)).mappings()])


def put_node(database: Database, node: str, **labels: str) -> None:
    put(
        database,
        schema.nodes,
        node=node,
        state="connected",
        labels=labels,
        first_seen_at=FAULT_AT - 9,
        last_seen_at=FAULT_AT,
    )


def put_chip(database: Database, **values: Any) -> None:
    whole = {
        "node": "gpu-017",
        "uid": "GPU-5f1e",
        "vendor": "nvidia",
        "model": "NVIDIA H100 80GB HBM3",
        "chip_index": 3,
        "serial": "1654023007781",
        "pci": "0000:5d:00.0",
    } | values
    put(database, schema.chips, **whole)


def put_incident(database: Database, identity: str = "inc-000042", **values: Any) -> None:
    whole: dict[str, Any] = {
        "state": "open",
        "severity": 3,
        "kind": "memory.uncorrectable",
        "cause": "chip.same/1",
        "title": "memory.uncorrectable on gpu-017",
        "root_fault": 1,
        "nodes": ["gpu-017"],
        "jobs": ["slurm:8812"],
        "fault_at": FAULT_AT,
        "opened_at": FAULT_AT + 0.3,
        "updated_at": FAULT_AT + 0.3,
        "revision": 1,
    } | values
    put(database, schema.incidents, id=identity, **whole)


def put_fault(database: Database, **values: Any) -> None:
    whole: dict[str, Any] = {
        "node": "gpu-017",
        "component": "chip:GPU-5f1e",
        "kind": "memory.uncorrectable",
        "severity": 3,
        "action": "reset_chip",
        "node_since": FAULT_AT,
        "opened_at": FAULT_AT + 0.3,
        "updated_at": FAULT_AT + 0.3,
        "summary": "2 new uncorrectable memory errors",
        "source": "nvidia",
        "codes": ["xid:48"],
        "evidence": ["NVRM: Xid (PCI:0000:5d:00): 48, pid=4411, DBE (double bit error) at 0x1f3a"],
        "state": "open",
        "incident": "inc-000042",
    } | values
    put(database, schema.faults, **whole)


def put_job(database: Database, node: str = "gpu-017", **values: Any) -> None:
    whole: dict[str, Any] = {
        "job": "slurm:8812",
        "node_at": FAULT_AT,
        "received_at": FAULT_AT,
        "chips": ["GPU-5f1e"],
        "pids": [4411],
        "ranks": [16, 17, 18, 19, 20, 21, 22, 23],
        "step": 1240,
        "checkpoint_step": 1200,
        "user": "mei",
        "name": "pretrain-7b",
        "is_present": True,
    } | values
    put(database, schema.job_nodes, node=node, **whole)


def put_recovery(database: Database, identity: str = "rec-000007", **values: Any) -> None:
    evidence = {
        "kind": "recover",
        "nodes": ["gpu-017"],
        "jobs": ["slurm:8812"],
        "why": "hardware",
        "rule": "memory.*",
    } | values.pop("evidence", {})
    whole: dict[str, Any] = {
        "incident": "inc-000042",
        "adapter": "slurm",
        "mode": "act",
        "state": "planned",
        "reason": "a critical hardware fault: the node must leave",
        "created_at": FAULT_AT + 0.4,
        "updated_at": FAULT_AT + 0.4,
    } | values
    put(database, schema.recoveries, id=identity, evidence=evidence, **whole)


def put_isolation(database: Database, node: str = "gpu-017", **values: Any) -> None:
    whole = {"adapter": "slurm", "incident": "inc-000042", "reason": "chipmedic:inc-000042",
             "isolated_at": FAULT_AT + 1} | values  # fmt: skip
    put(database, schema.isolations, node=node, **whole)


def facts(database: Database, identity: str = "inc-000042") -> IncidentFacts:
    table = schema.incidents
    return database.read_now(
        lambda c: gather(c, c.execute(select(table).where(table.c.id == identity)).one())
    )
