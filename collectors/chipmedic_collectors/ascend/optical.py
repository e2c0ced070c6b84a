"""`hccn_tool -optical -g`: the optical module of a port, judged by the limits it states itself.

Source: hccn_tool of the 26.x driver. Lanes print `Tx Power0`, older modules one `Tx Power`. The
flags of lost signal and lost lock stay set until they are read and count lanes that the module does
not have, so they explain a power that is out of limits and are no fault by themselves.
"""

from __future__ import annotations

import re

_LINE = re.compile(
    r"^\s*(?P<key>[A-Za-z][\w ]*?)\s*:\s*(?P<value>-?[\w.]+)\s*(?P<unit>\w*)\s*$", re.MULTILINE
)
_LANE = re.compile(r"(?P<side>[tr]x) ?power ?(?P<lane>\d?)")
_FLAG = re.compile(r"[tr]x lo[sl] flag")
CODES = ("tx_power", "rx_power", "temperature")


def judge(text: str) -> dict[str, str]:
    """Return what is outside the module's own limits, as code and words."""
    values = _values(text)
    told: dict[str, str] = {}
    for key, (value, unit) in values.items():
        if (lane := _LANE.fullmatch(key)) is not None:
            code, limit = f"{lane['side']}_power", f"{lane['side']}power"
        elif key in ("temperature", "temp"):
            code, limit = "temperature", "temp"
        else:
            continue
        low = values.get(f"{limit} low thres")
        high = values.get(f"{limit} high thres")
        if low is None or high is None or {low[1], high[1]} != {unit} or low[0] >= high[0]:
            continue
        if not low[0] <= value <= high[0]:
            words = f"{key} {value:g} {unit}, limits {low[0]:g} to {high[0]:g}"
            told[code] = f"{told[code]}; {words}" if code in told else words
    flags = ", ".join(_flags(text))
    return {
        code: f"hccn_tool -optical: {words}" + (f" ({flags})" if flags else "")
        for code, words in told.items()
    }


def is_whole(text: str) -> bool:
    """Say whether the answer has a power and its limits, so that silence means good light."""
    values = _values(text)
    has_power = any(_LANE.fullmatch(key) for key in values)
    return has_power and {"rxpower low thres", "rxpower high thres"} <= values.keys()


def _values(text: str) -> dict[str, tuple[float, str]]:
    values = {}
    for line in _LINE.finditer(text):
        key = " ".join(line["key"].lower().split())
        try:
            values[key] = (float(line["value"]), line["unit"].lower())
        except ValueError:
            continue  # NA, a name, a flag
    return values


def _flags(text: str) -> list[str]:
    """Return the flags that are set, as the tool prints them."""
    return [
        f"{line['key'].strip()} {line['value']}"
        for line in _LINE.finditer(text)
        if _FLAG.fullmatch(" ".join(line["key"].lower().split()))
        and line["value"].lower().removeprefix("0x").strip("0")
    ]
