"""Cells of vendor tools as values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_collectors import values
from chipmedic_collectors.values import MIB


@pytest.mark.parametrize(
    "text",
    ["", "  ", "N/A", "[N/A]", "NA", "-", "--", "ERR!", "[Unknown Error]", "Not Supported", "none"],
)
def test_what_holds_no_value_is_no_number(text: str) -> None:
    assert values.is_placeholder(text)
    assert values.number(text) is None
    assert values.integer(text) is None
    assert values.memory_bytes(text) is None
    assert values.identity(text) is None
    assert values.normalise_pci(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("45 C", 45.0),
        ("45C", 45.0),
        ("[45]", 45.0),
        ("-5 C", -5.0),
        ("228.82 W", 228.82),
        ("97%", 97.0),
        ("0", 0.0),
        ("43 / 44", None),
        ("1.2.3", None),
        ("0x1f", None),
        ("12 34", None),
        ("1e999", None),
        ("inf", None),
    ],
)
def test_number(text: str, number: float | None) -> None:
    assert values.number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("7 bank(s)", 7),
        ("7.0", 7),
        ("7.5", None),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", None),
        ("9" * 400, None),
        ("9" * 5000, None),
    ],
)
def test_integer(text: str, number: int | None) -> None:
    assert values.integer(text) == number


@pytest.mark.parametrize(
    ("text", "unit", "size"),
    [
        ("512 MiB", "MiB", 512 * MIB),
        ("512", "MiB", 512 * MIB),
        ("512", "B", 512),
        ("64 GB", "MiB", 64 * 1024 * MIB),
        ("65536MB", "B", 65536 * MIB),
        ("1.5 GiB", "MiB", 1536 * MIB),
        ("4 parsecs", "MiB", None),
        ("-1 MiB", "MiB", None),
        ("45 C", "MiB", None),
    ],
)
def test_memory(text: str, unit: str, size: int | None) -> None:
    assert values.memory_bytes(text, unit) == size


@pytest.mark.parametrize(
    ("text", "pci"),
    [
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("0000:3b:00", "0000:3b:00.0"),
        ("3B:00.1", "0000:3b:00.1"),
        ("PCI:0000:9b:1f", "0000:9b:1f.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("0008:06:00.0", "0008:06:00.0"),
        ("0000:c1:2f.0", None),
        ("10:23:45", None),
        ("GPU-3b", None),
    ],
)
def test_pci(text: str, pci: str | None) -> None:
    assert values.normalise_pci(text) == pci


@pytest.mark.parametrize(("text", "name"), [("0", None), ("0000000000", None), (" a  b ", "a b")])
def test_identity(text: str, name: str | None) -> None:
    assert values.identity(text) == name


@given(
    st.text(max_size=40)
    | st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "[", "+", "-", "."]),
        st.integers(0, 1 << 70) | st.floats(0),
        st.sampled_from(["", " MiB", "GB", " C", "]", "e400"]),
    )
)
def test_no_cell_is_too_bad(text: str) -> None:
    number = values.number(text)
    assert number is None or math.isfinite(number)
    whole = values.integer(text)
    assert whole is None or (abs(whole) < 1 << 64 and number == pytest.approx(whole))
    size = values.memory_bytes(text)
    assert size is None or size >= 0
    address = values.normalise_pci(text)
    assert address is None or values.normalise_pci(address) == address
    if values.is_placeholder(text):
        assert number is None


@pytest.mark.parametrize(
    ("text", "number"), [("4242", 4242), (" 7 ", 7), ("0", None), ("-7123", None), ("N/A", None)]
)
def test_a_process_number_is_one_that_a_kernel_gives(text: str, number: int | None) -> None:
    assert values.process_id(text) == number
