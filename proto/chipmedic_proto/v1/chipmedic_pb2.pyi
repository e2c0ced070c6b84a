from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_UNSPECIFIED: _ClassVar[Severity]
    SEVERITY_INFO: _ClassVar[Severity]
    SEVERITY_WARNING: _ClassVar[Severity]
    SEVERITY_CRITICAL: _ClassVar[Severity]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_OK: _ClassVar[Verdict]
    VERDICT_FAULT: _ClassVar[Verdict]
    VERDICT_UNKNOWN: _ClassVar[Verdict]

class Transition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRANSITION_UNSPECIFIED: _ClassVar[Transition]
    TRANSITION_RAISED: _ClassVar[Transition]
    TRANSITION_UPDATED: _ClassVar[Transition]
    TRANSITION_CLEARED: _ClassVar[Transition]
    TRANSITION_GAP: _ClassVar[Transition]
SEVERITY_UNSPECIFIED: Severity
SEVERITY_INFO: Severity
SEVERITY_WARNING: Severity
SEVERITY_CRITICAL: Severity
VERDICT_UNSPECIFIED: Verdict
VERDICT_OK: Verdict
VERDICT_FAULT: Verdict
VERDICT_UNKNOWN: Verdict
TRANSITION_UNSPECIFIED: Transition
TRANSITION_RAISED: Transition
TRANSITION_UPDATED: Transition
TRANSITION_CLEARED: Transition
TRANSITION_GAP: Transition

class RenewRequest(_message.Message):
    __slots__ = ("node", "csr")
    NODE_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    node: str
    csr: str
    def __init__(self, node: _Optional[str] = ..., csr: _Optional[str] = ...) -> None: ...

class RenewReply(_message.Message):
    __slots__ = ("certificate", "authority")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    certificate: str
    authority: str
    def __init__(self, certificate: _Optional[str] = ..., authority: _Optional[str] = ...) -> None: ...

class AgentMessage(_message.Message):
    __slots__ = ("hello", "events", "heartbeat", "snapshot", "command_result", "goodbye")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_RESULT_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    events: EventBatch
    heartbeat: Heartbeat
    snapshot: Snapshot
    command_result: CommandResult
    goodbye: Goodbye
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., events: _Optional[_Union[EventBatch, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., command_result: _Optional[_Union[CommandResult, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ...) -> None: ...

class WatchdogMessage(_message.Message):
    __slots__ = ("welcome", "ack", "command", "retry_after", "snapshot_request")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    command: Command
    retry_after: RetryAfter
    snapshot_request: SnapshotRequest
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., command: _Optional[_Union[Command, _Mapping]] = ..., retry_after: _Optional[_Union[RetryAfter, _Mapping]] = ..., snapshot_request: _Optional[_Union[SnapshotRequest, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("node", "boot_id", "epoch", "agent_version", "labels", "inventory", "first_seq", "next_seq", "boot_time", "machine_id", "revision")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    BOOT_TIME_FIELD_NUMBER: _ClassVar[int]
    MACHINE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    node: str
    boot_id: str
    epoch: str
    agent_version: str
    labels: _containers.ScalarMap[str, str]
    inventory: _containers.RepeatedCompositeFieldContainer[Chip]
    first_seq: int
    next_seq: int
    boot_time: float
    machine_id: str
    revision: int
    def __init__(self, node: _Optional[str] = ..., boot_id: _Optional[str] = ..., epoch: _Optional[str] = ..., agent_version: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., inventory: _Optional[_Iterable[_Union[Chip, _Mapping]]] = ..., first_seq: _Optional[int] = ..., next_seq: _Optional[int] = ..., boot_time: _Optional[float] = ..., machine_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("acked_seq", "watchdog_version", "heartbeat_seconds", "snapshot_seconds", "time")
    ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    WATCHDOG_VERSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    acked_seq: int
    watchdog_version: str
    heartbeat_seconds: float
    snapshot_seconds: float
    time: float
    def __init__(self, acked_seq: _Optional[int] = ..., watchdog_version: _Optional[str] = ..., heartbeat_seconds: _Optional[float] = ..., snapshot_seconds: _Optional[float] = ..., time: _Optional[float] = ...) -> None: ...

class Chip(_message.Message):
    __slots__ = ("uid", "vendor", "model", "index", "die", "serial", "pci", "is_missing")
    UID_FIELD_NUMBER: _ClassVar[int]
    VENDOR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DIE_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    PCI_FIELD_NUMBER: _ClassVar[int]
    IS_MISSING_FIELD_NUMBER: _ClassVar[int]
    uid: str
    vendor: str
    model: str
    index: int
    die: int
    serial: str
    pci: str
    is_missing: bool
    def __init__(self, uid: _Optional[str] = ..., vendor: _Optional[str] = ..., model: _Optional[str] = ..., index: _Optional[int] = ..., die: _Optional[int] = ..., serial: _Optional[str] = ..., pci: _Optional[str] = ..., is_missing: bool = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("component", "kind", "severity", "action", "since", "summary", "source", "codes", "evidence", "count", "job")
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    component: str
    kind: str
    severity: Severity
    action: str
    since: float
    summary: str
    source: str
    codes: _containers.RepeatedScalarFieldContainer[str]
    evidence: _containers.RepeatedScalarFieldContainer[str]
    count: int
    job: str
    def __init__(self, component: _Optional[str] = ..., kind: _Optional[str] = ..., severity: _Optional[_Union[Severity, str]] = ..., action: _Optional[str] = ..., since: _Optional[float] = ..., summary: _Optional[str] = ..., source: _Optional[str] = ..., codes: _Optional[_Iterable[str]] = ..., evidence: _Optional[_Iterable[str]] = ..., count: _Optional[int] = ..., job: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("seq", "at", "transition", "fault", "detail", "boot_id")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    TRANSITION_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    seq: int
    at: float
    transition: Transition
    fault: Fault
    detail: str
    boot_id: str
    def __init__(self, seq: _Optional[int] = ..., at: _Optional[float] = ..., transition: _Optional[_Union[Transition, str]] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., detail: _Optional[str] = ..., boot_id: _Optional[str] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class Coverage(_message.Message):
    __slots__ = ("check", "at", "verdict", "detail")
    CHECK_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    check: str
    at: float
    verdict: Verdict
    detail: str
    def __init__(self, check: _Optional[str] = ..., at: _Optional[float] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job", "at", "chips", "pids", "ranks", "step", "step_at", "phase", "checkpoint_step", "attempt", "user", "name", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    JOB_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    CHIPS_FIELD_NUMBER: _ClassVar[int]
    PIDS_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_AT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    job: str
    at: float
    chips: _containers.RepeatedScalarFieldContainer[str]
    pids: _containers.RepeatedScalarFieldContainer[int]
    ranks: _containers.RepeatedScalarFieldContainer[int]
    step: int
    step_at: float
    phase: str
    checkpoint_step: int
    attempt: int
    user: str
    name: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, job: _Optional[str] = ..., at: _Optional[float] = ..., chips: _Optional[_Iterable[str]] = ..., pids: _Optional[_Iterable[int]] = ..., ranks: _Optional[_Iterable[int]] = ..., step: _Optional[int] = ..., step_at: _Optional[float] = ..., phase: _Optional[str] = ..., checkpoint_step: _Optional[int] = ..., attempt: _Optional[int] = ..., user: _Optional[str] = ..., name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("at", "coverage", "jobs", "backlog_events", "is_spool_failing")
    AT_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_EVENTS_FIELD_NUMBER: _ClassVar[int]
    IS_SPOOL_FAILING_FIELD_NUMBER: _ClassVar[int]
    at: float
    coverage: _containers.RepeatedCompositeFieldContainer[Coverage]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    backlog_events: int
    is_spool_failing: bool
    def __init__(self, at: _Optional[float] = ..., coverage: _Optional[_Iterable[_Union[Coverage, _Mapping]]] = ..., jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., backlog_events: _Optional[int] = ..., is_spool_failing: bool = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("at", "open", "coverage", "jobs", "inventory", "as_of_seq")
    AT_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    AS_OF_SEQ_FIELD_NUMBER: _ClassVar[int]
    at: float
    open: _containers.RepeatedCompositeFieldContainer[Fault]
    coverage: _containers.RepeatedCompositeFieldContainer[Coverage]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    inventory: _containers.RepeatedCompositeFieldContainer[Chip]
    as_of_seq: int
    def __init__(self, at: _Optional[float] = ..., open: _Optional[_Iterable[_Union[Fault, _Mapping]]] = ..., coverage: _Optional[_Iterable[_Union[Coverage, _Mapping]]] = ..., jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., inventory: _Optional[_Iterable[_Union[Chip, _Mapping]]] = ..., as_of_seq: _Optional[int] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("seq",)
    SEQ_FIELD_NUMBER: _ClassVar[int]
    seq: int
    def __init__(self, seq: _Optional[int] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("id", "collect_now", "run_gate", "job_act", "expires_after_seconds", "fencing_token")
    ID_FIELD_NUMBER: _ClassVar[int]
    COLLECT_NOW_FIELD_NUMBER: _ClassVar[int]
    RUN_GATE_FIELD_NUMBER: _ClassVar[int]
    JOB_ACT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    id: str
    collect_now: CollectNow
    run_gate: RunGate
    job_act: JobAct
    expires_after_seconds: float
    fencing_token: int
    def __init__(self, id: _Optional[str] = ..., collect_now: _Optional[_Union[CollectNow, _Mapping]] = ..., run_gate: _Optional[_Union[RunGate, _Mapping]] = ..., job_act: _Optional[_Union[JobAct, _Mapping]] = ..., expires_after_seconds: _Optional[float] = ..., fencing_token: _Optional[int] = ...) -> None: ...

class CollectNow(_message.Message):
    __slots__ = ("checks",)
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, checks: _Optional[_Iterable[str]] = ...) -> None: ...

class RunGate(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JobAct(_message.Message):
    __slots__ = ("act", "job", "reason", "attempt")
    ACT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    act: str
    job: str
    reason: str
    attempt: int
    def __init__(self, act: _Optional[str] = ..., job: _Optional[str] = ..., reason: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class CommandResult(_message.Message):
    __slots__ = ("id", "ok", "detail", "is_final")
    ID_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    ok: bool
    detail: str
    is_final: bool
    def __init__(self, id: _Optional[str] = ..., ok: bool = ..., detail: _Optional[str] = ..., is_final: bool = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RetryAfter(_message.Message):
    __slots__ = ("seconds", "reason")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    reason: str
    def __init__(self, seconds: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...
