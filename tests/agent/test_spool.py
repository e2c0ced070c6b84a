"""The spool against kills, damage and overflow."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_story import BOOT, cleared, raised, records, updated
from chipmedic.errors import StoreError
from chipmedic.model import Change, Severity
from chipmedic_agent import spool as spool_module
from chipmedic_agent.record import Loss, Rank, Record, frame, loss_of, parse
from chipmedic_agent.spool import Spool, new_epoch
from chipmedic_proto.v1 import chipmedic_pb2 as pb

BYTES_MAX = 1 << 26


def fresh(root: Path, bytes_max: int = BYTES_MAX) -> Spool:
    return Spool.create(root, new_epoch(), bytes_max=bytes_max, boot_id=BOOT)


def reopened(root: Path, bytes_max: int = BYTES_MAX) -> Spool:
    spool = Spool.open(root, bytes_max=bytes_max, boot_id=BOOT, at=999.0)
    assert spool is not None
    return spool


def numbers(spool: Spool, from_seq: int = 0) -> list[int]:
    return [record.seq for record in spool.records(from_seq)]


def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    written = records([raised(1), updated(1), cleared(1)])
    spool.append(written)
    again = reopened(tmp_path)
    assert list(again.records()) == written
    assert (again.epoch, again.first_seq, again.next_seq) == (spool.epoch, 1, 4)


def test_there_is_nothing_to_open_in_an_empty_folder(tmp_path: Path) -> None:
    assert Spool.open(tmp_path, bytes_max=BYTES_MAX, boot_id=BOOT, at=0.0) is None


def test_a_file_that_is_no_segment_is_left_alone(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "e1", records([raised(1)]), bytes_max=1 << 20, boot_id="b")
    for name in ("copy.seg", "1 (old).seg"):
        (tmp_path / "e1" / name).write_bytes(b"x")
    again = Spool.open(tmp_path, bytes_max=1 << 20, boot_id="b", at=1.0)
    assert again is not None
    assert again.next_seq == spool.next_seq == 2


def test_the_stored_bytes_are_the_event_of_the_wire(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    spool.append(records([raised(4)]))
    event = pb.Event.FromString(next(iter(spool.records())).payload)
    assert (event.seq, event.transition) == (1, pb.TRANSITION_RAISED)
    assert (event.fault.component, event.boot_id) == ("chip:NPU-4", BOOT)


def test_acknowledged_segments_are_deleted_and_numbers_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 1024)
    spool = fresh(tmp_path)
    for seq in range(1, 101):
        spool.append(records([raised(seq)], seq))
    assert spool.size_bytes > 8 * 1024
    spool.acknowledge(100)
    assert spool.size_bytes == 0
    again = reopened(tmp_path)
    assert (again.next_seq, numbers(again)) == (101, [])
    again.append(records([raised(1)], 101))
    assert numbers(again) == [101]


def test_an_acknowledgement_in_the_middle_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 1024)
    spool = fresh(tmp_path)
    for seq in range(1, 101):
        spool.append(records([raised(seq)], seq))
    spool.acknowledge(50)
    assert numbers(spool, 51) == list(range(51, 101))
    assert spool.first_seq <= 51


@given(
    batches=st.lists(st.integers(1, 8), min_size=1, max_size=12),
    acks=st.lists(st.integers(0, 60), max_size=4),
    torn=st.integers(0, 400),
)
def test_a_kill_while_writing_costs_only_what_append_had_not_returned_from(
    batches: list[int], acks: list[int], torn: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        spool = fresh(root)
        seq, safe = 1, 0
        for count in batches:
            spool.append(records([raised(n) for n in range(count)], seq))
            seq += count
        safe = seq - 1
        for ack in acks:
            spool.acknowledge(min(ack, safe))
        # The kill: a part of one more record is at the end of the last segment.
        last = sorted((root / spool.epoch).glob("*.seg"))[-1]
        half = frame(records([raised(99)], seq)[0])
        with last.open("ab") as file:
            file.write(half[: min(torn, len(half) - 1)])
        again = reopened(root)
        acked = min(max(acks, default=0), safe)
        assert numbers(again, acked + 1) == list(range(acked + 1, safe + 1))
        assert again.next_seq == seq
        again.append(records([cleared(1)], seq))
        assert numbers(reopened(root))[-1] == seq


@given(cut=st.integers(0, 5000))
def test_a_segment_cut_anywhere_keeps_its_whole_records(cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        spool = fresh(root)
        written = records([raised(n) for n in range(20)])
        spool.append(written)
        path = next((root / spool.epoch).glob("*.seg"))
        data = path.read_bytes()
        path.write_bytes(data[:cut])
        whole = [r for i, r in enumerate(written) if sum(x.size for x in written[: i + 1]) <= cut]
        again = reopened(root)
        assert list(again.records()) == whole
        assert again.next_seq == len(whole) + 1


@given(st.data())
def test_damage_costs_what_it_hit_and_is_reported(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        spool = fresh(root)
        written = records([raised(n) for n in range(20)])
        spool.append(written)
        path = next((root / spool.epoch).glob("*.seg"))
        content = bytearray(path.read_bytes())
        # Somewhere before the last record, so that damage and a torn tail can be told apart.
        at = data.draw(st.integers(0, len(content) - written[-1].size - 1))
        length = data.draw(st.integers(1, min(600, len(content) - written[-1].size - at)))
        content[at : at + length] = bytes((byte ^ 0x5A) for byte in content[at : at + length])
        path.write_bytes(content)
        again = reopened(root)
        kept = list(again.records())
        gaps = [record for record in kept if record.rank is Rank.GAP]
        lost = {seq for gap in gaps for seq in _range(loss_of(gap))}
        events = {record.seq for record in kept if record.rank is not Rank.GAP}
        assert events | lost == set(range(1, 21))
        assert not events & lost
        assert all(record in written for record in kept if record.rank is not Rank.GAP)
        assert len(lost) <= 2 + length // written[0].size + 1
        assert kept == list(reopened(root).records()), "mended once, not again"


def _range(loss: Loss) -> range:
    return range(loss.first_seq, loss.last_seq + 1)


@given(st.binary(max_size=4000))
def test_any_bytes_can_be_parsed(data: bytes) -> None:
    parsed = parse(data)
    assert parsed.good_bytes <= len(data)
    again = parse(data[: parsed.good_bytes])
    assert again == parsed, "what follows the last whole record adds nothing"
    numbers_ = [record.seq for record in parsed.records]
    assert numbers_ == sorted(set(numbers_))


def test_a_lost_end_of_an_inner_segment_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 1024)
    spool = fresh(tmp_path)
    for seq in range(1, 31):
        spool.append(records([raised(seq)], seq))
    first, second = sorted((tmp_path / spool.epoch).glob("*.seg"))[:2]
    first.write_bytes(first.read_bytes()[:-5])
    again = reopened(tmp_path)
    (gap,) = (record for record in again.records() if record.rank is Rank.GAP)
    assert gap.seq == int(second.stem) - 1
    assert loss_of(gap).damaged == 1


# -- overflow


def overflown(root: Path, changes: list[Change], bytes_max: int) -> Spool:
    spool = fresh(root, bytes_max)
    for start in range(0, len(changes), 50):
        spool.append(records(changes[start : start + 50], start + 1))
    return spool


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 4096)


def by_rank(spool: Spool) -> dict[Rank, list[Record]]:
    found: dict[Rank, list[Record]] = defaultdict(list)
    for record in spool.records():
        found[record.rank].append(record)
    return found


@pytest.mark.usefixtures("small_segments")
def test_overflow_drops_repeats_and_infos_and_says_how_many(tmp_path: Path) -> None:
    changes: list[Change] = []
    for n in range(1000):
        sort = n % 4
        changes.append(
            raised(n) if sort == 0 else raised(n, Severity.INFO) if sort == 1 else updated(n)
        )
    spool = overflown(tmp_path, changes, 100_000)
    assert spool.size_bytes <= 100_000
    found = by_rank(spool)
    assert [r.seq for r in found[Rank.CRITICAL]] == list(range(1, 1001, 4)), "no critical is lost"
    lost = sum(loss_of(gap).count for gap in found[Rank.GAP])
    held = sum(len(found[rank]) for rank in found if rank is not Rank.GAP)
    assert lost + held == 1000
    assert spool.lost_events == lost
    assert list(reopened(tmp_path).records()) == list(spool.records())


@pytest.mark.usefixtures("small_segments")
def test_overflow_of_critical_faults_keeps_the_last_word_on_each(tmp_path: Path) -> None:
    changes: list[Change] = []
    for n in range(1500):
        chip = n % 30
        changes.append(raised(chip) if (n // 30) % 2 == 0 else cleared(chip))
    spool = overflown(tmp_path, changes, 60_000)
    last: dict[int, int] = {}
    for record in records(changes):
        last[record.key] = record.seq
    held = set(numbers(spool))
    assert set(last.values()) <= held
    assert spool.size_bytes <= 60_000


@pytest.mark.usefixtures("small_segments")
def test_critical_faults_that_are_all_open_stay_above_the_bound(tmp_path: Path) -> None:
    spool = overflown(tmp_path, [raised(n) for n in range(1000)], 60_000)
    assert numbers(spool) == list(range(1, 1001))


@pytest.mark.usefixtures("small_segments")
def test_numbers_only_grow_and_gaps_stand_in_the_holes(tmp_path: Path) -> None:
    changes: list[Change] = [updated(n) if n % 3 else raised(n) for n in range(1000)]
    spool = overflown(tmp_path, changes, 60_000)
    seqs = numbers(spool)
    assert seqs == sorted(set(seqs))
    told = {s for r in spool.records() if r.rank is Rank.GAP for s in _range(loss_of(r))}
    assert set(range(1, 1001)) - set(seqs) <= told, "every hole is inside a reported range"


def test_a_full_disk_is_a_store_error_and_leaves_nothing_half(tmp_path: Path) -> None:
    spool = fresh(tmp_path)
    spool.append(records([raised(1)]))
    path = next((tmp_path / spool.epoch).glob("*.seg"))
    path.unlink()
    with pytest.raises(StoreError, match=r"seg|No such file"):
        spool.append(records([raised(2)], 2))


@given(
    st.builds(
        Loss,
        first_seq=st.integers(1, 10**12),
        last_seq=st.integers(1, 10**12),
        repeats=st.integers(0, 9),
        infos=st.integers(0, 9),
        warnings=st.integers(0, 9),
        superseded=st.integers(0, 9),
        damaged=st.integers(0, 9),
    )
)
def test_the_report_of_a_loss_can_be_read_back(loss: Loss) -> None:
    assert Loss.parse(str(loss)) == loss
