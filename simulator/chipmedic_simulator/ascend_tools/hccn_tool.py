"""The fake `hccn_tool`; `-i` is the physical device id."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from chipmedic_simulator.ascend_tools.state import AscendChip, AscendHost, load_named

_BUSY_STATUS = 11
_ERROR_STATUS = 1


def main(
    argv: Sequence[str] | None = None,
    *,
    host: AscendHost | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run the tool; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    host = load_named() if host is None else host
    sleep(host.hang_seconds)
    if host.is_hccn_busy:
        sys.stderr.write("hccn_tool is busy, please try again.\n")
        return _BUSY_STATUS
    device = words[words.index("-i") + 1] if "-i" in words[:-1] else ""
    chips = [chip for chip in host.chips if str(chip.phy_id) == device and not chip.is_lost]
    if not chips or host.driver != "up":
        sys.stderr.write(f"The device {device} does not exist.\n")
        return _ERROR_STATUS
    sleep(chips[0].hang_seconds)
    lines = _answer(chips[0], words)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0 if lines else _ERROR_STATUS


def _answer(chip: AscendChip, words: list[str]) -> list[str]:
    if "-link" in words:
        return [f"link status: {chip.link}"]
    if "-net_health" in words:
        return [f"net health status: {chip.net_health if chip.link == 'UP' else 'Fault'}"]
    if "-link_stat" in words:
        return _link_stat(chip)
    if "-stat" in words:
        return _stat(chip)
    if "-optical" in words:
        return _optical(chip)
    sys.stderr.write("command line is not supported\n")
    return []


def _stat(chip: AscendChip) -> list[str]:
    """Priority flow control counts a lot on a healthy busy card."""
    counts = {
        "mac_tx_pfc_pkt_num": 918273,
        "mac_rx_bad_pkt_num": chip.bad_packets,
        "mac_rx_fcs_err_pkt_num": chip.bad_packets,
        "roce_rx_all_pkt_num": 7654321,
        "roce_out_of_order_num": 12,
        "roce_qp_status_err_num": 0,
        "roce_new_pkt_rty_num": 2 * chip.bad_packets,
    }
    return ["packet statistics:", *(f"{name}:{count}" for name, count in counts.items())]


def _optical(chip: AscendChip) -> list[str]:
    """Two lanes; the flags of the lanes that the module does not have are set."""
    dark = chip.link != "UP"
    values = [
        ("present", "present"),
        ("temperature", "41 C"),
        ("Vcc", "3301.70 mV"),
        *((f"Tx Power{lane}", "1.1731 mW") for lane in range(2)),
        ("Rx Power0", "1.0411 mW" if not dark else "0.0000 mW"),
        ("Rx Power1", f"{0.0 if dark else chip.rx_power_mw:.4f} mW"),
        ("Temp High Thres", "75 C"),
        ("Temp Low Thres", "-5 C"),
        ("TxPower High Thres", "3.9811 mW"),
        ("TxPower Low Thres", "0.3162 mW"),
        ("RxPower High Thres", "3.9811 mW"),
        ("RxPower Low Thres", "0.1000 mW"),
        ("Rx Los Flag", "0xff" if dark else "0xfc"),
    ]
    return ["optical info:", *(f"{key:<21}: {value}" for key, value in values)]


def _link_stat(chip: AscendChip) -> list[str]:
    """The newest change stands first."""
    ups = chip.link_downs + (chip.link == "UP")
    newest = ["UP", "DOWN"] if chip.link == "UP" else ["DOWN", "UP"]
    changes = [newest[i % 2] for i in range(chip.link_downs + ups)][:16]
    start = f"[devid {chip.phy_id}]"
    return [
        f"{start}current time        : Mon Mar  3 10:20:30 2025",
        f"{start}link up count       : {ups}",
        f"{start}link down count     : {chip.link_downs}",
        f"{start}link change records :",
        *(
            f"{start}    Mon Mar  3 09:{50 - i:02d}:10 2025    LINK {c}"
            for i, c in enumerate(changes)
        ),
    ]
