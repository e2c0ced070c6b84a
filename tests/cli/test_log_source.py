"""What `explain` takes as a log: compressed, wrapped, cut off, or no text at all."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
from pathlib import Path

import pytest

from chipmedic.errors import ChipmedicError
from chipmedic.faults.explain import Report, explain_stream
from chipmedic.faults.kernel_lines import read_line
from chipmedic_cli.log_source import opened

LOST = "NVRM: Xid (PCI:0000:4a:00): 79, pid=71, name=python, GPU has fallen off the bus."
TEXT = f"quiet\n{LOST}\n".encode()


def explained(data: bytes, folder: Path) -> Report:
    file = folder / "log"
    file.write_bytes(data)
    with opened(str(file)) as stream:
        return explain_stream(stream)


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT.rstrip(),
        TEXT.replace(b"\n", b"\r\n"),
        gzip.compress(TEXT, mtime=0),
        gzip.compress(TEXT[:6], mtime=0) + gzip.compress(TEXT[6:], mtime=0),
        bz2.compress(TEXT),
        lzma.compress(TEXT),
        b"\x00" * 3000 + b"\n" + TEXT,  # the power went while the log was written
        b"\xef\xbb\xbf" + TEXT,
        b"\x1b[32m[ 4711.08] \x1b[0m\x1b[31m" + TEXT,
    ],
)
def test_a_log_is_read_as_it_lies(data: bytes, tmp_path: Path) -> None:
    (cause,) = explained(data, tmp_path).causes
    assert (cause.root.finding.code, cause.place.name) == ("xid:79", "0000:4a:00")


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (gzip.compress(TEXT, mtime=0)[:40], "damaged or cut off"),
        (bz2.compress(TEXT)[:40], "damaged or cut off"),
        (lzma.compress(TEXT)[:40], "damaged or cut off"),
        (b"\x28\xb5\x2f\xfd\x00abc", "zstd -dc "),
        (b"LPKSHHRH\x00\x00\x01", "journalctl --file "),
        (TEXT.decode().encode("utf-16"), "iconv -f utf-16"),
        (bytes(range(256)) * 40, "not a text"),
        (gzip.compress(bytes(range(256)) * 40, mtime=0), "not a text"),
    ],
)
def test_what_is_not_read_is_not_called_well(data: bytes, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(ChipmedicError, match=remedy):
        explained(data, tmp_path)


def test_standard_input_may_be_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(gzip.compress(TEXT, mtime=0))

    monkeypatch.setattr(sys, "stdin", Stdin())
    with opened("-") as stream:
        assert len(explain_stream(stream).causes) == 1


JOURNAL = {
    "__REALTIME_TIMESTAMP": "1772608089123456",
    "_HOSTNAME": "n7",
    "SYSLOG_IDENTIFIER": "kernel",
    "MESSAGE": LOST,
}


@pytest.mark.parametrize(
    ("record", "host", "stamp"),
    [
        (JOURNAL, "n7", "2026-03-04T07:08:09+00:00"),
        ({"log": LOST + "\n", "stream": "stderr", "time": "2026-03-04T07:08:09Z"}, "", "2026-03-0"),
        ({"host": "n7", "message": f"[ 4711.081516] {LOST}"}, "n7", ""),
        ({"msg": f"Mar  4 07:08:09 n9 kernel: {LOST}", "host": "shipper"}, "n9", "Mar  4"),
    ],
)
def test_json_is_unwrapped(record: dict[str, str], host: str, stamp: str, tmp_path: Path) -> None:
    (cause,) = explained(json.dumps(record).encode(), tmp_path).causes
    assert (cause.place.host, cause.root.finding.message) == (host, LOST)
    assert cause.root.stamp.startswith(stamp)
    (finding,) = read_line(json.dumps(record))
    assert (finding.code, finding.message) == ("xid:79", LOST)


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(JOURNAL | {"SYSLOG_IDENTIFIER": "sudo"}),  # somebody looked for it
        '{"level":"info"}',
        "{" * 5000,
        "{not json",
    ],
)
def test_other_records_say_nothing(line: str) -> None:
    assert read_line(line) == []


@pytest.mark.parametrize("line", [f"{{torn {LOST}", json.dumps([LOST]), json.dumps({"x": LOST})])
def test_a_record_without_words_is_a_line_as_it_stands(line: str) -> None:
    assert [finding.code for finding in read_line(line)] == ["xid:79"]
