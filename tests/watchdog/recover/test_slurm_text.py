"""What Slurm prints, read; lines as Slurm 22.05.8 printed them, with other names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.recover.slurm import text

SHOWN = (
    "NodeName=train-07 Arch=x86_64 CoresPerSocket=1  CPUAlloc=2 CPUTot=2 CPULoad=0.16 "
    "OS=Linux 6.1.0-18 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=1 State={state} "
    "Partitions=train  AllocTRES= ExtSensorsTemp=n/s{reason}\n"
)


@pytest.mark.parametrize(
    ("state", "reason", "drained", "down", "answers", "words", "by"),
    [
        ("IDLE", "", False, False, True, "", ""),
        ("ALLOCATED+DRAIN", " Reason=chipmedic:inc-000004 chip.lost [root@2026-11-24T06:45:30]",
         True, False, True, "chipmedic:inc-000004 chip.lost", "root@2026-11-24T06:45:30"),
        ("DOWN+NOT_RESPONDING", " Reason=Not responding [slurm@2026-11-24T06:47:52]",
         False, True, False, "Not responding", "slurm@2026-11-24T06:47:52"),
        ("DOWN+DRAIN+NOT_RESPONDING", " Reason=x", True, True, False, "x", ""),
        ("IDLE*", "", False, False, True, "", ""),
        ("IDLE+DRAIN", " Reason=see State=IDLE, [a] Reason=b [ops@2026-11-24T06:45:30]",
         True, False, True, "see State=IDLE, [a] Reason=b", "ops@2026-11-24T06:45:30"),
    ],
)  # fmt: skip
def test_a_node(
    state: str, reason: str, drained: bool, down: bool, answers: bool, words: str, by: str
) -> None:
    node = text.read_node(SHOWN.format(state=state, reason=reason))
    assert (node.name, node.is_drained, node.is_down, node.answers) == (
        "train-07",
        drained,
        down,
        answers,
    )
    assert (node.reason, node.reason_by) == (words, by)


@pytest.mark.parametrize("shown", ["", "Node train-07 not found", "NodeName=a State=IDLE\nmore"])
def test_what_is_no_node_is_refused(shown: str) -> None:
    with pytest.raises(ValueError, match="not one node"):
        text.read_node(shown)


JOB = "812|COMPLETING|1|1|1|2026-11-24T06:46:51|812|N/A|N/A|train-[03-04,11]|None|\n"


def test_a_job() -> None:
    job = text.read_job(JOB, "812")
    assert (job.state, job.restarts, job.may_requeue, job.is_batch) == ("COMPLETING", 1, True, True)
    assert job.nodes == ("train-03", "train-04", "train-11")
    assert job.address == "812"


def test_the_line_of_the_job_that_was_asked_for_counts() -> None:
    array = "813|RUNNING|0|0|1|N/A|814|0|N/A|a|None|\n814|PENDING|2|1|1|N/A|814|1|N/A||BeginTime|\n"
    assert text.read_job(array, "814").restarts == 2
    assert text.read_job(array, "814").address == "814_1", "814 alone is the whole array"
    assert text.read_job("4|RUNNING|0|1|1|N/A|3|1|N/A|a|None|\n", "3_1").id == "4"
    with pytest.raises(ValueError, match="not the job 9"):
        text.read_job(array, "9")


@pytest.mark.parametrize(("whole", "read"), [("811", "811"), ("N/A", ""), ("0", ""), ("", "")])
def test_a_part_of_a_heterogeneous_job_says_of_which(whole: str, read: str) -> None:
    shown = f"812|RUNNING|0|1|1|N/A|812|N/A|{whole}|a|None|\n"
    assert text.read_job(shown, "812").whole == read


@pytest.mark.parametrize(
    "shown", ["", "812|RUNNING|\n", "812|RUNNING|x|1|1|N/A|812|N/A|N/A|a|None|\n"]
)
def test_what_is_no_job_is_refused(shown: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        text.read_job(shown, "812")


SINFO = """\
train-01|idle|Unknown|Unknown|none
train-02|allocated|Unknown|Unknown|none
train-02|allocated|Unknown|Unknown|none
train-03|drained*|mei|2026-11-24T06:45:30|fan | no. 3, ordered
train-04|down*|root|2026-11-24T06:47:52|Not responding
train-05|idle~|Unknown|Unknown|none
train-06|mixed#|Unknown|Unknown|none
train-07|unknown|Unknown|Unknown|none
"""


def test_all_nodes() -> None:
    views = {view.node: view for view in text.read_nodes(SINFO)}
    assert [name for name, view in views.items() if view.is_available] == [
        "train-01",
        "train-02",
        "train-06",
        "train-07",  # slurmctld has just started
    ]
    assert [name for name, view in views.items() if view.is_down] == ["train-04", "train-05"]
    assert views["train-03"].why == "drained*: fan | no. 3, ordered [mei]"


@pytest.mark.parametrize(
    ("state", "reason", "is_meant"),
    [
        ("drained", "fan on order", True),
        ("drained*", "fan on order", True),
        ("draining", "fan on order", False),  # jobs run there: their end is news
        ("drained*", "chipmedic:inc-000004 chip.lost", False),
        ("drained*", "Not responding", False),
        ("drained", "none", False),
        ("down*", "Not responding", False),
        ("down*", "fan on order", False),
        ("maint", "none", True),
        ("maint*", "none", True),
        ("idle$", "none", True),
        ("reboot^", "Reboot ASAP", True),
        ("reboot*", "none", True),
        ("down^", "none", True),
        ("reboot@", "none", False),  # it waits for its jobs
        ("allocated@", "none", False),
        ("idle~", "none", True),
        ("idle%", "none", True),
        ("idle#", "none", False),
        ("allocated-", "none", False),
        ("idle*", "none", False),
    ],
)
def test_whether_a_node_is_meant_to_be_away(state: str, reason: str, is_meant: bool) -> None:
    (view,) = text.read_nodes(f"train-01|{state}|mei|2026-11-24T06:45:30|{reason}\n")
    assert bool(view.expected) == is_meant
    assert not is_meant or view.expected == view.why


@pytest.mark.parametrize("shown", ["", "\n", "sinfo: error\n", "train-01|\n"])
def test_an_answer_that_cannot_be_read_is_never_a_cluster_in_order(shown: str) -> None:
    with pytest.raises(ValueError, match="sinfo"):
        text.read_nodes(shown)


@pytest.mark.parametrize(
    ("short", "names"),
    [
        ("", []),
        ("(null)", []),
        ("a1", ["a1"]),
        ("a[1-3]", ["a1", "a2", "a3"]),
        ("a[08-11,3],b", ["a08", "a09", "a10", "a11", "a3", "b"]),
        ("r[1-2]n[1-2]-ib", ["r1n1-ib", "r1n2-ib", "r2n1-ib", "r2n2-ib"]),
    ],
)
def test_lists_of_hosts(short: str, names: list[str]) -> None:
    assert text.expand_hosts(short) == names


@pytest.mark.parametrize("short", ["a[1-", "a]1", "a[[1]]", "a[x]", "a[1-999999999]", "a[]"])
def test_what_is_no_list_of_hosts_is_refused(short: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        text.expand_hosts(short)


@given(st.text(alphabet="ab[]-,019", max_size=40))
def test_a_list_of_hosts_is_read_whole_or_refused(shown: str) -> None:
    try:
        names = text.expand_hosts(shown)
    except ValueError:
        return
    assert not set("".join(names)) & set("[],"), "no bracket is a part of a name"
    assert all(names)
    assert text.expand_hosts(",".join(names)) == names


STATES = st.lists(st.sampled_from(sorted(text.OUT_OF_SERVICE | {"IDLE", "MIXED"})), min_size=1)


@given(STATES, st.text(alphabet="ab[]@ =:.-", max_size=30))
def test_no_reason_changes_what_a_node_is(states: list[str], reason: str) -> None:
    given_reason = f" Reason={reason}" if reason.strip() else ""
    node = text.read_node(SHOWN.format(state="+".join(states), reason=given_reason))
    assert node.name == "train-07"
    assert node.flags == set(states)
    assert node.reason in reason
    assert node.reason_by in reason


@given(st.lists(st.sampled_from(SINFO.splitlines()) | st.text("ab|\n", max_size=9), max_size=9))
def test_every_node_that_is_told_is_in_the_view_or_all_is_refused(lines: list[str]) -> None:
    try:
        views = text.read_nodes("\n".join(lines))
    except ValueError:
        return
    told = {line.strip().split("|")[0] for line in "\n".join(lines).splitlines() if line.strip()}
    assert {view.node for view in views} == told
    assert len(views) == len(told)
    assert not any(view.is_down and view.is_available for view in views)
    assert not any(view.expected and view.is_available for view in views)


@given(st.text(alphabet="ab[]-,019 |=\n", max_size=40))
def test_what_is_read_as_a_job_is_the_one_that_was_asked_for(shown: str) -> None:
    try:
        job = text.read_job(shown, "1")
    except ValueError:
        return
    lines = [line for line in shown.splitlines() if line.strip()]
    assert job.id == "1" or len(lines) == 1
