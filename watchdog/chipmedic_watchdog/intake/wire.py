"""Protocol buffers taken apart by hand, for messages of which one part is damaged.

The library reads a message whole or not at all. A batch with one broken event must cost only that
event, and its sequence number must still be found, or the agent would send it again for ever.
Format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) as far as the bytes can be read; damage ends it silently."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        if tag is None:
            return
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, position = _varint(data, position)
            if value is None:
                return
            yield number, value
            continue
        if kind == BYTES:
            length, position = _varint(data, position)
        else:
            length = _FIXED.get(kind)
        if length is None or position + length > len(data):
            return
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int | None, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            return None, position
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    return None, position


def first_integer(data: bytes, number: int) -> int | None:
    """Return the first integer of a field, or None."""
    return next((v for n, v in fields(data) if n == number and isinstance(v, int)), None)


def parts(data: bytes, number: int) -> list[bytes]:
    """Return each sub-message of a field, undecoded."""
    return [v for n, v in fields(data) if n == number and isinstance(v, bytes)]
