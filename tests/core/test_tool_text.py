"""An answer copied out of a terminal is read as the tool printed it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.tool_readers import read_tool_run
from chipmedic.tool_report import ChipReport, ToolReader, ToolReport, ToolRun
from chipmedic.tool_text import as_printed
from fuzzing import examples

ANSWER = "Chips : 2\n    Chip 0 : ok\n\n    Chip 1 : [x@y]# odd\n"


def printed(text: str) -> str:
    return as_printed(ToolRun(("tool",), text, "", 0)).stdout


@pytest.mark.parametrize(
    "pasted",
    [
        ANSWER,
        "\ufeff" + ANSWER,
        "\x1b[1mChips\x1b[0m" + ANSWER.removeprefix("Chips"),
        "".join(f"    {line}\n" if line else "\n" for line in ANSWER.splitlines()),
        f"[root@node7 ~]# tool -q\n{ANSWER}[root@node7 ~]# \n",
        f"\n(base) ops@node7:~/x$ tool -q\n{ANSWER}\n(base) ops@node7:~/x$\n",
    ],
)
def test_what_the_terminal_added_is_taken_off(pasted: str) -> None:
    assert printed(pasted).rstrip("\n") == ANSWER.rstrip("\n")


def test_the_end_of_an_answer_that_was_cut_stays_cut() -> None:
    assert printed("a : 1\nb : 2") == "a : 1\nb : 2"
    assert printed("") == ""


def test_readers_get_the_answer_as_it_was_printed() -> None:
    def read(run: ToolRun) -> ToolReport:
        return ToolReport(vendor="test", chips=[ChipReport(name=run.stdout)])

    reader = ToolReader("test", lambda run: int(run.stdout.startswith("one")), read)
    report = read_tool_run(ToolRun(("tool",), "ops@n:~$ tool\n  one\n", "", 0), [reader])
    assert [chip.name for chip in report.chips] == ["one\n"]


LINES = st.lists(st.text(alphabet="ab01 :|%[]{}+-", min_size=1, max_size=20), min_size=1)
PROMPTS = st.sampled_from(["", "[ops@node7 ~]# tool -q\n", "ops@node7:/var/log$ tool\n\n"])


@settings(max_examples=examples(100))
@given(LINES, st.integers(0, 8), PROMPTS, st.sampled_from(["", "\x1b[32m", "\x1b[0;1m"]))
def test_any_answer_comes_out_as_it_went_in(
    lines: list[str], indent: int, prompt: str, colour: str
) -> None:
    answer = "".join(f"x{line.rstrip()}\n" for line in lines)
    pasted = "".join(f"{' ' * indent}{colour}{line}\n" for line in answer.splitlines())
    assert printed(prompt + pasted + prompt) == answer
