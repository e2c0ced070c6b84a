"""The tables of the watchdog's store.

Times are UNIX seconds of the watchdog's clock unless a name says `node_`. JSON columns hold what is
shown but never queried. Alembic's migrations in `migrations/` bring an older store to this state.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

METADATA = MetaData()
BIG = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits; SQLite's INTEGER has them, and numbers new rows under no other name."""

nodes = Table(
    "nodes",
    METADATA,
    Column("node", String, primary_key=True),
    Column("machine_id", String, nullable=False, default=""),
    Column("boot_id", String, nullable=False, default=""),
    Column("node_boot_time", Float, nullable=False, default=0.0),
    Column("agent_version", String, nullable=False, default=""),
    Column("labels", JSON, nullable=False, default=dict),
    Column("state", String, nullable=False, default="unknown"),  # connected|silent|stopped|unknown
    Column("first_seen_at", Float, nullable=False),
    Column("last_seen_at", Float, nullable=False),
    Column("skew_seconds", Float, nullable=False, default=0.0),  # node's clock minus ours
    Column("backlog_events", BIG, nullable=False, default=0),
    Column("is_spool_failing", Boolean, nullable=False, default=False),
    # Its newest stream, and where that is or was: what an older one still says is no news.
    Column("watchdog", String, nullable=False, default=""),
    Column("stream", String, nullable=False, default=""),
    Column("connected_at", Float),
    # The last event that it had when it connected, of which epoch: up to there it is backlog.
    Column("epoch", String, nullable=False, default=""),
    Column("catch_up_seq", BIG, nullable=False, default=0),
    Column("silent_since", Float),
    Column("silent_reason", Text, nullable=False, default=""),
    # Its time to come back is over; the leader makes a fault of it.
    Column("is_lost", Boolean, nullable=False, default=False),
    Index("nodes_by_connection", "connected_at"),
)

epochs = Table(
    "epochs",
    METADATA,
    Column("node", String, primary_key=True),
    Column("epoch", String, primary_key=True),
    Column("acked_seq", BIG, nullable=False, default=0),
    Column("created_at", Float, nullable=False),
)

chips = Table(
    "chips",
    METADATA,
    Column("node", String, primary_key=True),
    Column("uid", String, primary_key=True),
    Column("vendor", String, nullable=False),
    Column("model", String, nullable=False),
    Column("chip_index", Integer, nullable=False),
    Column("die", Integer, nullable=False, default=0),
    Column("serial", String),
    Column("pci", String),
    Column("is_missing", Boolean, nullable=False, default=False),
)

coverage = Table(
    "coverage",
    METADATA,
    Column("node", String, primary_key=True),
    Column("check", String, primary_key=True),
    Column("node_at", Float, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("verdict", String, nullable=False),
    Column("detail", Text, nullable=False, default=""),
)

events = Table(
    "events",
    METADATA,
    Column("node", String, primary_key=True),
    Column("epoch", String, primary_key=True),
    Column("seq", BIG, primary_key=True),
    Column("boot_id", String, nullable=False),
    Column("node_at", Float, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("transition", String, nullable=False),  # raised|updated|cleared|gap|unreadable
    Column("component", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("body", JSON, nullable=False),
    Index("events_by_time", "received_at"),
)

faults = Table(
    "faults",
    METADATA,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("node", String, nullable=False),
    Column("component", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("action", String, nullable=False),
    Column("node_since", Float, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("summary", Text, nullable=False),
    Column("source", String, nullable=False),
    Column("codes", JSON, nullable=False, default=list),
    Column("evidence", JSON, nullable=False, default=list),
    Column("count", BIG, nullable=False, default=1),
    Column("job", String),
    Column("state", String, nullable=False),  # open|unknown|cleared
    Column("cleared_at", Float),
    Column("clear_reason", Text, nullable=False, default=""),
    Column("incident", String),
    Index(
        "one_open_fault",
        "node",
        "component",
        "kind",
        unique=True,
        sqlite_where=text("state != 'cleared'"),
        postgresql_where=text("state != 'cleared'"),
    ),
    Index("faults_by_incident", "incident"),
    Index("faults_by_state", "state"),
    Index("faults_by_end", "cleared_at"),
)

job_nodes = Table(
    "job_nodes",
    METADATA,
    Column("job", String, primary_key=True),
    Column("node", String, primary_key=True),
    Column("node_at", Float, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("chips", JSON, nullable=False, default=list),
    Column("pids", JSON, nullable=False, default=list),
    Column("ranks", JSON, nullable=False, default=list),
    Column("step", BIG),
    Column("step_at", Float),
    Column("phase", String),
    Column("checkpoint_step", BIG),
    Column("attempt", BIG, nullable=False, default=0),
    Column("user", String),
    Column("name", String),
    Column("labels", JSON, nullable=False, default=dict),
    Column("is_present", Boolean, nullable=False, default=True),  # in the node's last report
    # Each snapshot of each node asks for its own rows; the primary key begins with the job.
    Index("job_nodes_by_node", "node", "is_present"),
)

job_progress = Table(
    "job_progress",
    METADATA,
    Column("job", String, primary_key=True),
    # A job that steps steadily is two rows, the second of which moves along: `intake/progress.py`.
    Column("at", Float, primary_key=True),  # when the step was made, or the phase was heard of
    Column("step", BIG),  # the highest over the nodes; NULL: this start has told none yet
    Column("checkpoint_step", BIG),
    Column("attempt", BIG, nullable=False, default=0),
    Column("phase", String),
    # Spent in such phases up to here, over the job's whole life.
    Column("checkpoint_seconds", Float, nullable=False, default=0.0),
    Column("other_seconds", Float, nullable=False, default=0.0),
    Column("mark", String, nullable=False, default=""),  # why it begins something: start|stall|...
)

job_tracks = Table(
    "job_tracks",
    METADATA,
    # What one watchdog alone would remember of a job's progress; its nodes may be on several.
    Column("job", String, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("written_at", Float, nullable=False),
)

incidents = Table(
    "incidents",
    METADATA,
    Column("id", String, primary_key=True),  # inc-000001
    Column("state", String, nullable=False),
    # open|acknowledged|recovering|verifying|resolved
    Column("severity", Integer, nullable=False),
    Column("kind", String, nullable=False),  # of the root fault
    Column("cause", String, nullable=False),  # which correlation rule made it, with its version
    Column("title", Text, nullable=False),
    Column("root_fault", BIG),
    Column("nodes", JSON, nullable=False, default=list),
    Column("jobs", JSON, nullable=False, default=list),
    Column("fault_at", Float, nullable=False),  # when the first fault began, watchdog's clock
    Column("opened_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("acknowledged_at", Float),
    Column("acknowledged_by", String),
    Column("resolved_at", Float),
    Column("resolved_by", String),
    Column("resolve_reason", Text),
    Column("reopened_count", Integer, nullable=False, default=0),
    Column("revision", Integer, nullable=False, default=1),  # grows when people should know
    Index("incidents_by_state", "state"),
)

notices = Table(
    "notices",
    METADATA,
    Column("id", String, primary_key=True),  # <incident>/<revision or word>/<channel>
    Column("incident", String, nullable=False),
    Column("occasion", String, nullable=False),  # opened|updated|recovering|resolved|...
    Column("channel", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("state", String, nullable=False),  # pending|delivered|failed|gathered (into a digest)
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", Float, nullable=False),
    Column("digest_at", Float),  # not delivered by itself: told in the digest of then
    Column("route", String, nullable=False, default=""),  # why this channel
    Column("delivered_at", Float),
    Column("receipt", Text, nullable=False, default=""),
    Column("last_error", Text, nullable=False, default=""),
    Column("severity", Integer, nullable=False),
    Column("is_resolved", Boolean, nullable=False, default=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("fencing_token", BIG, nullable=False, default=0),  # of the leader that wrote it
    Index("notices_by_state", "state", "next_attempt_at"),
    Index("notices_by_incident", "incident", "channel"),
)

notice_marks = Table(
    "notice_marks",
    METADATA,
    # What of an incident the notices have told: written in the transaction that writes the notices.
    Column("incident", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("severity", Integer, nullable=False),
    Column("root_fault", BIG),
    Column("is_resolved", Boolean, nullable=False, default=False),
    Column("recovery", String),
    Column("recovery_state", String),
    Column("reopened_count", Integer, nullable=False, default=0),
    Column("told_nodes", Integer, nullable=False, default=0),  # how many the last notice named
    Column("told_at", Float, nullable=False, default=0.0),
    Column("marked_at", Float, nullable=False),
)

notice_holds = Table(
    "notice_holds",
    METADATA,
    # Incidents of which people are not told for now; gone when they may be told again.
    Column("incident", String, primary_key=True),
    Column("held_by", String, nullable=False),  # sil-000001, or `scheduler`
    Column("why", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("until", Float, nullable=False),  # when to look again
    Column("revision", Integer, nullable=False),  # of the incident when it was looked at
)

silences = Table(
    "silences",
    METADATA,
    Column("id", String, primary_key=True),  # sil-000001
    Column("kind", String, nullable=False),  # silence|maintenance
    Column("matchers", JSON, nullable=False, default=list),  # ['node="gpu-017"']
    Column("starts_at", Float, nullable=False),
    Column("ends_at", Float, nullable=False),
    Column("why", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", String, nullable=False),
    Column("ended_by", String),  # who ended it before its time
)

used_links = Table(
    "used_links",
    METADATA,
    Column("id", String, primary_key=True),  # of the link: it works once
    Column("at", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("act", String, nullable=False),
    Column("target", String, nullable=False),
)

recoveries = Table(
    "recoveries",
    METADATA,
    Column("id", String, primary_key=True),  # rec-000001
    Column("incident", String, nullable=False),
    Column("adapter", String, nullable=False),
    Column("mode", String, nullable=False),  # observe|notify|propose|act
    Column("state", String, nullable=False),
    # planned|proposed|running|verifying|done|failed|held|not_taken|stopped
    Column("reason", Text, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("detail", Text, nullable=False, default=""),
    # Which limit holds it (hold|breaker|budget|attempts|cool_down); empty: a person must look.
    Column("held_by", String, nullable=False, server_default=""),
    # What the decision saw: nodes, jobs, faults, rule, budget; append-only in meaning.
    Column("evidence", JSON, nullable=False, default=dict),
    Index("recoveries_by_incident", "incident"),
)

recovery_steps = Table(
    "recovery_steps",
    METADATA,
    Column("recovery", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("target", String, nullable=False),
    Column("description", Text, nullable=False),
    Column("timeout_seconds", Float, nullable=False),
    Column("arguments", JSON, nullable=False, default=dict),
    Column("state", String, nullable=False),  # planned|doing|done|failed
    Column("attempts", Integer, nullable=False, default=0),
    Column("started_at", Float),
    Column("done_at", Float),
    Column("detail", Text, nullable=False, default=""),
    Column("undo", JSON, nullable=False, default=dict),
    Column("fencing_token", BIG, nullable=False, default=0),  # of the leader that began it
    Column("rung", String, nullable=False, server_default=""),  # of a restart: as `Rung`
)

isolations = Table(
    "isolations",
    METADATA,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("node", String, nullable=False),
    Column("adapter", String, nullable=False),
    Column("incident", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("undo", JSON, nullable=False, default=dict),
    Column("isolated_at", Float, nullable=False),
    Column("returned_at", Float),
    Column("device", String, nullable=False, server_default=""),  # component of the fault
    # The check before the return: empty (not begun)|failed|passed|waived by a person.
    Column("gate", String, nullable=False, server_default=""),
    Column("gate_detail", Text, nullable=False, server_default=""),
    Column("gate_at", Float),
    Index("isolations_by_node", "node", "isolated_at"),
)

agent_orders = Table(
    "agent_orders",
    METADATA,
    # What the leader wants an agent to do; whichever watchdog has its stream asks it. Rows live for
    # seconds: who asked takes the answer away, and what nobody takes is removed.
    Column("id", String, primary_key=True),
    Column("node", String, nullable=False),
    Column("act", String, nullable=False),  # as JobAct.act in the wire contract
    Column("job", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("fencing_token", BIG, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("answered_at", Float),
    Column("is_ok", Boolean, nullable=False, server_default=false()),
    Column("is_final", Boolean, nullable=False, server_default=false()),
    Column("detail", Text, nullable=False, server_default=""),
)

recovery_switches = Table(
    "recovery_switches",
    METADATA,
    Column("name", String, primary_key=True),  # hold|breaker
    Column("state", String, nullable=False),  # on|off; closed|open|half_open
    Column("at", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("why", Text, nullable=False),
)

ledger = Table(
    "ledger",
    METADATA,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("job", String, nullable=False),
    Column("phase", String, nullable=False),
    # start|detect|decide|isolate|restart|recompute|unexplained
    Column("start_at", Float, nullable=False),
    Column("end_at", Float),
    Column("incident", String),
    Column("detail", Text, nullable=False, default=""),
    Index("ledger_by_job", "job", "start_at"),
)

job_totals = Table(
    "job_totals",
    METADATA,
    # What is kept of a job that has ended when its progress and its ledger are purged.
    Column("job", String, primary_key=True),
    Column("vendor", String, nullable=False),
    Column("began_at", Float, nullable=False),
    Column("end_at", Float, nullable=False),
    Column("starts", Integer, nullable=False),
    Column("highest_step", BIG),  # NULL: it told no steps
    Column("seconds", JSON, nullable=False, default=dict),  # by phase; they sum up to its life
    Index("job_totals_by_end", "end_at"),
)

lost_totals = Table(
    "lost_totals",
    METADATA,
    # The same for its lost time.
    Column("job", String, primary_key=True),
    Column("phase", String, primary_key=True),
    Column("cause", String, primary_key=True),  # kind of the incident
    Column("seconds", Float, nullable=False),
    Column("interruptions", Integer, nullable=False),  # those that began with this phase
)

audit = Table(
    "audit",
    METADATA,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("act", String, nullable=False),
    Column("target", String, nullable=False),
    Column("detail", JSON, nullable=False, default=dict),
    # How `who` has proven it: token:<id>, token_file, loopback; empty: chipmedic itself.
    Column("via", String, nullable=False, server_default=""),
    # The chain, see store/audit.py; only that module writes here.
    Column("previous", String, nullable=False, server_default=""),
    Column("hash", String, nullable=False, server_default=""),
)

audit_head = Table(
    "audit_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1, the only row
    Column("seq", Integer, nullable=False),
    Column("hash", String, nullable=False),
)

tokens = Table(
    "tokens",
    METADATA,
    Column("id", String, primary_key=True),
    Column("secret_hash", String, nullable=False),
    Column("role", String, nullable=False),  # join|view|operate|admin
    Column("name", String, nullable=False),
    Column("node", String),  # join: the only node that may use it
    Column("uses_left", Integer),  # join: how many nodes may still use it
    Column("created_at", Float, nullable=False),
    Column("created_by", String, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)

certificates = Table(
    "certificates",
    METADATA,
    Column("serial", String, primary_key=True),  # hexadecimal, lower case
    Column("node", String, nullable=False),
    Column("issued_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("token", String),  # none: renewed with the certificate before
    Column("revoked_at", Float),
    Index("certificates_by_node", "node"),
)

counters = Table(
    "counters",
    METADATA,
    Column("name", String, primary_key=True),  # incident, recovery, silence
    Column("value", BIG, nullable=False),
)

lease = Table(
    "lease",
    METADATA,
    # One row: who leads. Its times are the database's, so that no watchdog's clock matters.
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("token", BIG, nullable=False),  # grows with each change of the lead
    Column("taken_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)

watchdogs = Table(
    "watchdogs",
    METADATA,
    # The processes that serve agents; drawn anew at each start. Times are the database's.
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("http", String, nullable=False),
    Column("version", String, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)
