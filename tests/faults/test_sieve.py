"""The sieve finds every line that holds a text, and costs little for the others."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.faults import sieve
from chipmedic.faults.kernel_lines import NEEDLES, read_line
from chipmedic.faults.lines_training import NEEDLES as TRAINING_NEEDLES
from chipmedic.faults.sieve import LINE_MAX, Sieve
from fuzzing import CORPUS, examples

ALL = (*NEEDLES, *TRAINING_NEEDLES)
QUIET = (
    "usb {n}: new device",
    "docker0: port {n}(veth{n}) entered forwarding state",
    "nfs: ok {n}",
)


def found(log: bytes, texts: Iterable[str] = ALL) -> list[tuple[int, str]]:
    return list(Sieve(texts).candidates(io.BytesIO(log)))


def by_hand(log: bytes, texts: Iterable[str] = ALL) -> list[tuple[int, str]]:
    """Return the same, line by line."""
    raw = log.split(b"\n")
    if raw and not raw[-1]:
        raw.pop()
    lines = [line[:LINE_MAX] for line in raw]
    wanted = [text.encode() for text in texts]
    hits = [
        (number, line.decode(errors="replace"))
        for number, line in enumerate(lines, 1)
        if any(text in line for text in wanted)
    ]
    return [*hits, (len(lines), "")]


def a_log(lines: int, loud_every: int, seed: int = 3) -> bytes:
    chance = random.Random(seed)
    out = []
    for number in range(lines):
        text = chance.choice(QUIET).replace("{n}", str(chance.randrange(10**6)))
        if number % loud_every == loud_every - 1:
            text = f"{number} {chance.choice(ALL)} x"
        out.append(text)
    return "\n".join(out).encode()


@pytest.mark.parametrize("text", sorted(ALL))
def test_each_text_is_found_by_itself(text: str) -> None:
    log = f"nothing 1\n{text}\nnothing 2\nx {text} y\n".encode()
    assert [number for number, _ in found(log)] == [2, 4, 4]


@pytest.mark.parametrize("loud_every", [1, 7, 1000, 10**9])
@pytest.mark.parametrize("block", [64, 1000, 1 << 17])
def test_a_large_log_gives_the_same_lines_as_line_by_line(
    loud_every: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sieve, "BLOCK_BYTES", block)
    log = a_log(9000, loud_every)
    assert found(log) == by_hand(log)


def test_what_was_quiet_hides_no_fault_that_looks_like_it() -> None:
    """The lines differ in digits and hexadecimal letters alone."""
    log = b"[ 1.0] code 0a0\n" * 50_000 + b"[ 2.0] code E30\n[ 3.0] code 1b1\n"
    assert found(log, ["E30"]) == [(50_001, "[ 2.0] code E30"), (50_002, "")]
    log = b"accel bccel\n" * 50_000 + b"accel accel\n"
    assert found(log, ["accel accel"]) == [(50_001, "accel accel"), (50_001, "")]


def test_more_templates_than_are_remembered() -> None:
    chance = random.Random(1)
    words = ["".join(chance.choices("ghijklmnop", k=9)) for _ in range(30_000)]
    log = ("\n".join(words) + "\nNVRM: x\n" + "\n".join(words) + "\nNVRM: y\n").encode()
    assert [text for _, text in found(log)] == ["NVRM: x", "NVRM: y", ""]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (b"", [(0, "")]),
        (b"\n", [(1, "")]),
        (b"quiet", [(1, "")]),
        (b"NVRM: a", [(1, "NVRM: a"), (1, "")]),
        (b"NVRM: a\n", [(1, "NVRM: a"), (1, "")]),
        (b"\n\nNVRM: a\n\n", [(3, "NVRM: a"), (4, "")]),
        (b"\xff\xfe NVRM\n", [(1, "\ufffd\ufffd NVRM"), (1, "")]),
    ],
)
def test_short_logs(log: bytes, expected: list[tuple[int, str]]) -> None:
    assert found(log) == expected


@pytest.mark.parametrize("length", [20_000, 100_000, 1_000_000])
def test_an_endless_line_is_cut_and_stays_one_line(length: int) -> None:
    log = b"x" * length + b"\nNVRM: gone\n"
    assert found(log) == [(2, "NVRM: gone"), (2, "")]
    cut = b"NVRM: " + b"x" * length
    assert [(number, len(text)) for number, text in found(cut)] == [(1, LINE_MAX), (1, 0)]


def test_a_pipe_that_gives_little_at_a_time() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 1, 7))

    log = a_log(300, 10)
    assert list(Sieve(ALL).candidates(Slow(log))) == by_hand(log)


def test_no_line_that_states_something_is_missed() -> None:
    corpus = CORPUS / "kmsg.jsonl"
    if not corpus.exists():
        return
    rows = [json.loads(row) for row in corpus.read_text(encoding="utf-8").splitlines()]
    lines = [row["line"].replace("\n", " ") for row in rows]
    numbers = {number for number, _ in found("\n".join(lines).encode())}
    assert {n for n, line in enumerate(lines, 1) if read_line(line)} <= numbers


@given(
    st.lists(st.sampled_from([*ALL, "x", "1", "a", "\n", "\n", "f", " 7 "]) | st.text(max_size=9)),
    st.sampled_from([3, 17, 1 << 17]),
)
@settings(max_examples=examples(200), deadline=None)
def test_any_log_gives_the_same_lines_as_line_by_line(pieces: list[str], block: int) -> None:
    log = "".join(pieces).encode(errors="replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sieve, "BLOCK_BYTES", block)
        assert found(log) == by_hand(log)


@given(st.sets(st.text(min_size=1, max_size=6).filter(lambda text: "\n" not in text), max_size=9))
@settings(max_examples=examples(100), deadline=None)
def test_any_texts_can_be_looked_for(texts: set[str]) -> None:
    texts = {text for text in texts if text.isprintable()}
    log = "\n".join([*texts, "nothing", *texts]).encode()
    assert found(log, texts) == by_hand(log, texts)
