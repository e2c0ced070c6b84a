"""The network port of each chip, asked through `hccn_tool`, and its chip-to-chip links.

hccn_tool takes a lock for the whole host and numbers chips in its own way (the physical id). Idle
hosts have ports without a cable or a module: what a port says of its light or its network counts
only once it has been up.
"""

from __future__ import annotations

from collections.abc import Mapping

from chipmedic import Chip, Component, ComponentKind, GapReason, Metric
from chipmedic.tool_report import ProblemKind
from chipmedic_collectors.ascend import hccn, hccs, optical
from chipmedic_collectors.ascend.asking import Tools
from chipmedic_collectors.ascend.identity import Place
from chipmedic_collectors.report_scan import ScanDraft
from chipmedic_collectors.standing_codes import StandingCodes
from chipmedic_collectors.tool_asking import Asked
from chipmedic_collectors.tool_trouble import reason_of

MINUTE = 60.0
SLOW_SECONDS = 300.0
NEVER = float("inf")
_SECONDS = 5.0
_NOT_HERE = (ProblemKind.TOOL_MISSING, ProblemKind.UNSUPPORTED)
_NET, _OPTICAL, _HCCS = "net_health:", "optical:", "hccs:"


class Ports:
    """Asks for the links of one chip; each method returns after how long to ask it again."""

    def __init__(self, tools: Tools, codes: StandingCodes) -> None:
        self._tools = tools
        self._codes = codes
        self.phy_ids: dict[Place, int] = {}
        """How hccn_tool numbers the chips."""
        self._is_up: dict[str, bool] = {}
        """By uid, of ports that were up since the agent began."""
        self._was_ok: set[str] = set()
        """Chips whose chip-to-chip links were said to be well."""

    def state(self, chip: Chip, draft: ScanDraft) -> float:
        """Ask whether the port is up, and how often it went down."""
        asked = self._ask(chip, "-link", draft)
        if asked is None:
            return MINUTE
        links = [link for row in asked.report.chips for link in row.links or []]
        for link in links:
            draft.read(port_of(chip, link.index or 0), Metric.LINK_UP, link.is_up)
        if not links:
            words = asked.words or "no state"
            draft.gap(port_of(chip), Metric.LINK_UP, reason_in(asked), words)
            return NEVER if asked.has(*_NOT_HERE) else MINUTE
        if chip.uid in self._is_up or links[0].is_up:
            self._is_up[chip.uid] = links[0].is_up
        if (downs := self._ask(chip, "-link_stat", draft)) is not None:
            count = hccn.link_downs(downs.text)
            if count is not None:
                draft.read(port_of(chip, links[0].index or 0), Metric.LINK_DOWNED, count)
        return MINUTE

    def network(self, chip: Chip, draft: ScanDraft) -> float:
        """Ask whether the port reaches the address that it is told to watch; a downed one cannot.

        `Init` means that no address is set.
        """
        is_up = self._is_up.get(chip.uid, False)
        asked = self._ask(chip, "-net_health", draft) if is_up else None
        state = hccn.bad_network_state(asked.text) if asked is not None else None
        words = f"hccn_tool -net_health: {state}"
        told = {f"{_NET}{state.replace(' ', '_')}": words} if state is not None else {}
        self._tell(port_of(chip), _NET, told, draft)
        return _rest(asked)

    def counters(self, chip: Chip, draft: ScanDraft) -> float:
        """Ask how many packets were bad, or had to be sent again."""
        asked = self._ask(chip, "-stat", draft)
        if asked is not None and (count := hccn.errors(asked.text)) is not None:
            draft.read(port_of(chip), Metric.LINK_ERRORS, count)
        return _rest(asked)

    def light(self, chip: Chip, draft: ScanDraft) -> float:
        """Ask for the optical module, judged by its own limits."""
        known = any(self._codes.shows(port_of(chip), f"{_OPTICAL}{c}") for c in optical.CODES)
        if chip.uid not in self._is_up and not known:
            return SLOW_SECONDS
        asked = self._ask(chip, "-optical", draft)
        if asked is None:
            return SLOW_SECONDS
        told = {f"{_OPTICAL}{code}": words for code, words in optical.judge(asked.text).items()}
        if told or optical.is_whole(asked.text):
            self._tell(port_of(chip), _OPTICAL, told, draft)
        return _rest(asked)

    def between_chips(self, chip: Chip, draft: ScanDraft) -> float:
        """Ask for the HCCS links: lanes, errors, and the driver's own word for all of them."""
        which = ("-i", str(chip.index), "-c", str(chip.die))
        asked = self._tools.npu_smi("info", "-t", "hccs", *which, timeout_seconds=_SECONDS)
        links = hccs.read(asked.text)
        for number, link in links.lanes.items():
            component = Component(ComponentKind.LINK, f"{chip.uid}/hccs{number}")
            draft.read(component, Metric.LINK_UP, link.is_up)
            if link.errors is not None:
                draft.read(component, Metric.LINK_ERRORS, link.errors)
        component = Component(ComponentKind.LINK, f"{chip.uid}/hccs")
        if links.is_ok:
            self._was_ok.add(chip.uid)
        bad = f"{_HCCS}NOK"
        if links.is_ok is not None:
            was_ok = chip.uid in self._was_ok or self._codes.shows(component, bad)
            told = {bad: "hccs health status : NOK"} if was_ok and not links.is_ok else {}
            self._tell(component, _HCCS, told, draft)
        return NEVER if links.is_ok is None and asked.has(*_NOT_HERE) else SLOW_SECONDS

    def _tell(
        self, component: Component, topic: str, codes: Mapping[str, str], draft: ScanDraft
    ) -> None:
        for event in self._codes.events(component, codes, draft.at, topic=topic):
            draft.event(event)

    def _ask(self, chip: Chip, option: str, draft: ScanDraft) -> Asked | None:
        """Ask hccn_tool about a port; None where its number is not known."""
        phy_id = self.phy_ids.get((chip.index, chip.die))
        if phy_id is None:
            words = "its physical id is not known"
            draft.gap(port_of(chip), Metric.LINK_UP, GapReason.FAILED, words)
            return None
        return self._tools.hccn("-i", str(phy_id), option, "-g", timeout_seconds=_SECONDS)


def port_of(chip: Chip, number: int = 0) -> Component:
    """Return a network port of a chip."""
    return Component(ComponentKind.LINK, f"{chip.uid}/{number}")


def reason_in(asked: Asked) -> GapReason:
    """Return why an answer lacks what was asked for."""
    return reason_of(asked.report.problems[0].kind) if asked.report.problems else GapReason.FAILED


def _rest(asked: Asked | None) -> float:
    is_useless = asked is not None and not asked.report.chips and asked.has(*_NOT_HERE)
    return NEVER if is_useless else SLOW_SECONDS
