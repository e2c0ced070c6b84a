"""What `npu-smi info -t <topic>` says of one chip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chipmedic_simulator.ascend_tools.state import AscendChip

Values = list[tuple[str, object]]


def width_of(topic: str) -> int:
    """Return the width of the key column."""
    return 40 if topic == "ecc" else 30


def _board(chip: AscendChip) -> Values:
    return [
        ("NPU ID", chip.npu),
        ("Chip ID", chip.die),
        ("Chip Type", "Ascend"),
        ("Chip Name", chip.name),
        ("Chip Version", "V1"),
        ("Board ID", "0x02"),
        ("PCB ID", "NA"),
        ("BOM ID", 1),
        ("VDie ID", chip.vdie),
        ("NDie ID", "00000000 00000000 00000000 00000000 00000000"),
        ("Chip Position ID", chip.die),
        ("PCIe Bus Info", chip.pci),
        ("Firmware Version", "7.7.0.3.220"),
    ]


def card_board(chips: list[AscendChip]) -> Values:
    """Return the card form of `-t board`: the serial number stands here alone."""
    return [
        ("NPU ID", chips[0].npu),
        ("Product Name", "NA"),
        ("Model", "NA"),
        ("Manufacturer", "Huawei"),
        ("Serial Number", chips[0].serial),
        ("Software Version", "25.2.0"),
        ("Firmware Version", "7.7.0.3.220"),
        ("Compatibility", "OK"),
        ("Board ID", "0x02"),
        ("PCB ID", "A"),
        ("BOM ID", 1),
        ("PCIe Bus Info", chips[0].pci),
        ("Slot ID", chips[0].npu),
        ("Class ID", "NA"),
        ("PCI Vendor ID", "0x19E5"),
        ("PCI Device ID", "0xD802"),
        ("Chip Count", len(chips)),
    ]


def _health(chip: AscendChip) -> Values:
    if not chip.codes:  # 26.x calls a chip without codes healthy, whatever the summary says
        return [("Health Status", "OK"), ("Error Code", "NA"), ("Error Information", "NA")]
    texts = [code.text for code in chip.codes]
    more = "".join(f"\n\n\t{'':<30} : {text}" for text in texts[1:])
    return [
        ("Health Status", chip.health),
        ("Error Code", " ".join(code.code for code in chip.codes)),
        ("Error Information", texts[0] + more),
    ]


def _fault_events(chip: AscendChip) -> Values:
    events = [
        f"event id=0x{code.code}, severity={code.severity}, node type ex=215, node id=0, "
        "sub node type ex=0, sub node id=0"
        for code in chip.codes
    ]
    if not events:
        return [("Fault Event Count", 0)]
    more = "".join(f"\n\t{'':<30} : {event}" for event in events[1:])
    return [("Fault Event Count", len(events)), ("Fault Event Information", events[0] + more)]


def _ecc(chip: AscendChip) -> Values:
    return [
        ("HBM Single Bit Error Count", 0),
        ("HBM Double Bit Error Count", 0),
        ("HBM Single Bit Aggregate Total Err Cnt", chip.ecc_single),
        ("HBM Double Bit Aggregate Total Err Cnt", chip.ecc_double),
        ("HBM Single Bit Isolated Pages Count", 0),
        ("HBM Double Bit Isolated Pages Count", chip.isolated_pages),
        ("HBM Single Bit Next-Isolated Pages Count", 0),
        ("HBM Double Bit Next-Isolated Pages Count", chip.next_isolated_pages),
    ]


def _common(chip: AscendChip) -> Values:
    return [
        ("Memory Usage Rate(%)", 0),
        ("HBM Usage Rate(%)", 100 * chip.hbm_used_mb // max(chip.hbm_total_mb, 1)),
        ("Aicore Usage Rate(%)", chip.utilization_percent),
        ("Aicore Freq(MHZ)", 1800),
        ("Aicore curFreq(MHZ)", 1800),
        ("Aicore Count", 20),
        ("Temperature(C)", chip.temperature_celsius),
        ("NPU Real-time Power(W)", f"{chip.power_watts:.1f}"),
    ]


def _usages(chip: AscendChip) -> Values:
    return [
        ("DDR Capacity(MB)", 0),
        ("DDR Usage Rate(%)", 0),
        ("HBM Capacity(MB)", chip.hbm_total_mb),
        ("HBM Usage Rate(%)", 100 * chip.hbm_used_mb // max(chip.hbm_total_mb, 1)),
        ("Aicore Usage Rate(%)", chip.utilization_percent),
    ]


def _hccs(chip: AscendChip) -> Values:
    def listed(values: Sequence[object]) -> str:
        return "[" + " ".join(f"{value:<12}" for value in values).rstrip() + "]"

    count = len(chip.hccs)
    is_ok = all(lanes == "1111" for lanes in chip.hccs)
    return [
        ("hccs health status", "OK" if is_ok else "NOK"),
        ("hccs lane mode", listed([4] * count)),
        ("hccs link lane list", listed([*chip.hccs])),
        ("hccs link speed", listed([224] * count)),
        ("hccs tx packets", listed([1048576] * count)),
        ("hccs tx bytes", listed([20971520] * count)),
        ("hccs retry count", listed([chip.hccs_errors] + [0] * (count - 1))),
        ("hccs error count", listed([0] * count)),
        ("hccs first error lane", "NA"),
    ]


def _pcie_err(chip: AscendChip) -> Values:
    names = ("TX Error Count", "RX Error Count", "Lcrc Error Count", "Ecrc Error Count")
    return [*((name, 0) for name in names), ("Retry Count", chip.pcie_retries)]


TOPICS: dict[str, Callable[[AscendChip], Values]] = {
    "board": _board,
    "health": _health,
    "current-fault-event": _fault_events,
    "ecc": _ecc,
    "common": _common,
    "usages": _usages,
    "hccs": _hccs,
    "pcie-err": _pcie_err,
}
