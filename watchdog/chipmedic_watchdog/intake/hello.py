"""The first message of a stream, checked."""

from __future__ import annotations

import math

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.intake import message
from chipmedic_watchdog.intake.arrival import Greeting

NAME_MAX = 253
LABELS_MAX = 64


def check(hello: pb.Hello) -> Greeting:
    """Return what a hello says.

    Raises:
        ValueError: it cannot be used, and why.
    """
    if not hello.node or len(hello.node) > NAME_MAX or not hello.node.isprintable():
        raise ValueError(f"node: {hello.node[:NAME_MAX]!r} is no node name")
    if not hello.epoch or len(hello.epoch) > NAME_MAX or not hello.epoch.isprintable():
        raise ValueError("epoch: missing, too long or no text")
    first_seq = hello.first_seq
    if first_seq > hello.next_seq or hello.next_seq > message.INTEGER_MAX:
        raise ValueError(f"first_seq {first_seq} and next_seq {hello.next_seq} do not fit")
    is_time = math.isfinite(hello.boot_time) and hello.boot_time >= 0
    return Greeting(
        machine_id=_text(hello.machine_id),
        boot_id=_text(hello.boot_id),
        boot_time=hello.boot_time if is_time else 0.0,
        agent_version=_text(hello.agent_version),
        labels={_text(k): _text(v) for k, v in sorted(hello.labels.items())[:LABELS_MAX]},
        inventory=message.inventory(hello),
        first_seq=first_seq,
        next_seq=hello.next_seq,
    )


def _text(value: str) -> str:
    return value[:NAME_MAX].replace("\0", "\ufffd")
