"""The socket: what is read, who sent it, and everything that is not a beat."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.beat import SIZE_MAX, beat, encode
from chipmedic.model import JobStatus
from chipmedic_agent.progress import QUEUE_MAX, Beat, ProgressListener, read_beat
from chipmedic_proto.codec import job_from_message, job_to_message
from waiting import until


@pytest_asyncio.fixture
async def listener(tmp_path: Path) -> AsyncIterator[ProgressListener]:
    listener = ProgressListener(str(tmp_path / "run" / "progress.sock"))
    await listener.start()
    yield listener
    listener.close()


def path_of(listener: ProgressListener) -> str:
    return str(listener._path)


def send(listener: ProgressListener, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(path_of(listener))
        for datagram in datagrams:
            sender.send(datagram)


async def test_a_beat_comes_with_the_kernels_word_of_who_sent_it(
    listener: ProgressListener,
) -> None:
    assert beat(step=7, phase="train", job="mine", rank=2, socket_path=path_of(listener))
    until(lambda: listener.received_total == 1)
    (told,) = listener.drain()
    assert (told.job, told.rank, told.step, told.phase) == ("mine", 2, 7, "train")
    assert (told.pid, told.uid) == (os.getpid(), os.getuid())
    assert told.sender is not None
    assert told.sender.pid == os.getpid()
    assert told.at == pytest.approx(time.time(), abs=10)
    assert listener.drain() == []


async def test_a_sender_that_lives_for_a_moment_is_known(listener: ProgressListener) -> None:
    """`chipmedic beat` of a shell script: the process is gone soon after."""
    code = "import sys; from chipmedic.beat import beat; beat(step=1, socket_path=sys.argv[1])"
    environ = {**os.environ, "CHIPMEDIC_JOB": "from-a-shell"}
    environ.pop("SLURM_JOB_ID", None)
    subprocess.run([sys.executable, "-c", code, path_of(listener)], env=environ, check=True)
    until(lambda: listener.received_total == 1)
    (told,) = listener.drain()
    assert told.sender is not None
    assert told.sender.job == "local:from-a-shell"
    assert told.sender.parent == os.getpid()


async def test_garbage_is_counted_and_told_once_per_sender(
    listener: ProgressListener, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        send(listener, b"", b"\xff\xfe", b"step", b"step=-1", b"x=1", b"step=1 " * 500, b"step=3")
        until(lambda: listener.received_total == 7)
    assert [told.step for told in listener.drain()] == [3]
    assert listener.malformed_total == 6
    (record,) = caplog.records
    assert f"pid={os.getpid()}" in record.getMessage()


@pytest.mark.parametrize("name", ["rank", "step", "checkpoint"])
def test_no_number_of_a_beat_is_larger_than_the_stream_carries(name: str) -> None:
    largest = 2**31 - 1 if name == "rank" else 2**62 - 1
    told = read_beat(f"step=1 {name}={largest}".encode(), at=1, pid=5, uid=1000)
    status = JobStatus(
        job="local:mine",
        at=1,
        ranks=() if told.rank is None else (told.rank,),
        step=told.step,
        checkpoint_step=told.checkpoint_step,
    )
    assert job_from_message(job_to_message(status)) == status
    with pytest.raises(ValueError, match=f"{name}='{largest + 1}'"):
        read_beat(f"step=1 {name}={largest + 1}".encode(), at=1, pid=5, uid=1000)


async def test_a_flood_drops_the_oldest_and_counts_them(listener: ProgressListener) -> None:
    number = QUEUE_MAX + 500
    send(listener, *(f"step={n}".encode() for n in range(number)))
    until(lambda: listener.received_total == number)
    told = listener.drain()
    assert len(told) == QUEUE_MAX
    assert told[-1].step == number - 1
    assert listener.dropped_total == 500


async def test_the_socket_of_a_killed_agent_is_replaced_and_a_live_one_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "progress.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(path))
    first = ProgressListener(str(path))
    await first.start()
    second = ProgressListener(str(path))
    with pytest.raises(OSError, match="another agent listens there"):
        await second.start()
    second.close()
    assert path.is_socket()
    first.close()
    assert not path.exists()


async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "progress.sock"
    path.write_text("mine")
    with pytest.raises(OSError, match="is no socket"):
        await ProgressListener(str(path)).start()
    assert path.read_text() == "mine"


async def test_every_user_may_send(listener: ProgressListener) -> None:
    assert Path(path_of(listener)).stat().st_mode & 0o777 == 0o666


def parsed(data: bytes) -> Beat:
    return read_beat(data, at=1.0, pid=1, uid=0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "neither step"),
        (b"job=x", "neither step"),
        (b"step=12 train", "is not name=value"),
        (b"step=", "is not name=value"),
        (b"=5", "is not name=value"),
        (b"step=1e3", "not a whole number"),
        ("step=٣".encode(), "not a whole number"),
        (b"step=1 phase=a%0Ab", "control characters"),
        (b"rank=99999999999999999999", "not a whole number"),
        (b"step=1 phase=" + b"x" * SIZE_MAX, "longer than"),
    ],
)
def test_what_is_no_beat_says_why(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parsed(data)


def test_words_of_a_later_version_are_left_out() -> None:
    assert parsed(b"step=4 loss=0.5 phase=Train").phase == "train"


@given(st.binary(max_size=SIZE_MAX + 10))
def test_any_bytes_are_a_beat_or_a_value_error(data: bytes) -> None:
    try:
        told = parsed(data)
    except ValueError:
        return
    assert told.step is not None or told.phase
    for number in (told.step, told.rank, told.checkpoint_step):
        assert number is None or 0 <= number < 1 << 63
    for words in (told.job, told.phase, told.log):
        assert not words or words.isprintable()


@given(
    step=st.integers(0, 2**60),
    phase=st.text(min_size=1, max_size=30).filter(
        lambda text: text.isprintable() and text == text.lower()
    ),
    log=st.text(min_size=1, max_size=30).filter(lambda text: text.isprintable()),
)
def test_what_beat_writes_is_what_is_read(step: int, phase: str, log: str) -> None:
    told = parsed(encode(step=step, phase=phase, log=log))
    assert (told.step, told.phase, told.log) == (step, phase, log)
