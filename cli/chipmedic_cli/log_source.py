"""The log that somebody hands to `explain`: a file or standard input, compressed or not.

Rotated logs are read as they lie (`kern.log.3.gz`). What can be told apart and not be read is
refused with the command that makes it readable: an answer of "nothing found" about bytes that
nobody read would be a lie.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from chipmedic.errors import ChipmedicError

HEAD_BYTES = 4096
CONTROL_SHARE_MAX = 0.1
"""Of the first bytes; a text has tabs and colours, a program or an archive far more of the rest.

NUL does not count: a file system fills a log with it when the power goes.
"""

_CONTROLS = bytes({*range(1, 32), 127} - set(b"\t\n\r\f\b\x1b"))
_REFUSED = (
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "zstd -dc {file} | chipmedic explain -"),
    (b"LPKSHHRH", "a systemd journal", "journalctl --file {file} -k | chipmedic explain -"),
    (b"\xff\xfe", "UTF-16 text", "iconv -f utf-16 -t utf-8 {file} | chipmedic explain -"),
    (b"\xfe\xff", "UTF-16 text", "iconv -f utf-16 -t utf-8 {file} | chipmedic explain -"),
)
"""First bytes, what they mean, how to read it."""


_Stream = io.BufferedReader | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile


@contextlib.contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """Open a log, or standard input for `-`, as a stream of its text.

    Raises:
        ChipmedicError: it cannot be read, is damaged, or is no text; says what to do.
    """
    name = "standard input" if file == "-" else file
    try:
        with contextlib.ExitStack() as stack:
            raw = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
            stream = cast("io.BufferedReader", raw)
            if not hasattr(raw, "peek"):
                stream = io.BufferedReader(cast("io.RawIOBase", raw))
            yield cast("BinaryIO", _checked(_unpacked(stream), name))
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as e:
        raise ChipmedicError(f"{name}: damaged or cut off ({e}); unpack what is left of it") from e
    except OSError as e:
        raise ChipmedicError(f"{name}: {e.strerror or e}") from e


def _unpacked(stream: io.BufferedReader) -> _Stream:
    head = stream.peek(HEAD_BYTES)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(stream)
    return stream


def _checked(stream: _Stream, name: str) -> _Stream:
    """Return the stream; refuses what is no text."""
    head = stream.peek(HEAD_BYTES)[:HEAD_BYTES]
    for magic, what, remedy in _REFUSED:
        if head.startswith(magic):
            command = remedy.format(file="FILE" if name == "standard input" else name)
            raise ChipmedicError(f"{name}: {what}, not a log as text; run: {command}")
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls > CONTROL_SHARE_MAX * len(head):
        raise ChipmedicError(f"{name}: not a text (a program or an archive?); give the log itself")
    return stream
