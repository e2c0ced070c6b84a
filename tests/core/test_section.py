"""A section says everything that is wrong, and nothing that only follows from another mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from chipmedic.config import loads
from chipmedic.errors import ConfigError
from chipmedic.section import Section, SectionRefused, above_zero, at_most, checks, one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool(Section):
    kind: str
    size: int = 1
    edge: int = 0

    def _fits(self) -> Iterator[str]:
        if self.edge > self.size:
            yield "edge: more than size"

    CHECKS = checks(above_zero("size"), one_of("kind", ("saw", "axe")), _fits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop(Section):
    tools: dict[str, Tool] = field(default_factory=dict)
    orders: tuple[str, ...] = ()
    limit: int = 3

    def _known(self) -> Iterator[str]:
        for number, name in enumerate(self.orders):
            if name not in self.tools:
                yield f"orders[{number}]: there is no {name}"

    CHECKS = checks(_known, at_most(5, "limit"))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, Shop)
    return sorted(caught.value.problems)


def test_a_right_file_is_silent() -> None:
    assert loads('orders = ["a"]\n[tools.a]\nkind = "axe"', Shop).tools["a"].size == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # A tool of which nothing is right is still one that can be ordered.
        ('orders = ["a", "b"]\n[tools.a]\nkind = 3\nsize = "x"',
         ["orders[1]: there is no b", "tools.a.kind: 3 is not a text",
          "tools.a.size: 'x' is not a whole number"]),
        # What depends on the wrong value is not judged; what does not, is.
        ('limit = 9\n[tools.a]\nkind = "pen"\nsize = "x"\nedge = 7',
         ["limit: 9 is more than 5", "tools.a.kind: 'pen' is not one of: saw, axe",
          "tools.a.size: 'x' is not a whole number"]),
        ('[tools.a]\nkind = "saw"\nedge = 7\nsise = 1',
         ["tools.a.edge: more than size", "tools.a.sise: unknown key; did you mean size?"]),
        ("tools = 3\norders = ['a']\nlimit = 6",
         ["limit: 6 is more than 5", "tools: 3 is not a table of tables"]),
        ("orders = ['a']\ntools.a = 3", ["tools.a: 3 is not a table"]),
        ("[tools.a]", ["tools.a.kind: required, and missing"]),
    ],
)  # fmt: skip
def test_no_mistake_hides_another(text: str, said: list[str]) -> None:
    assert problems(text) == said


def test_a_check_of_the_whole_file_runs_as_far_as_its_own_inputs_are_right() -> None:
    def few(shop: Shop) -> Iterator[str]:
        if shop.limit > 2:
            yield "limit: more than we have"

    with pytest.raises(ConfigError) as caught:
        loads("orders = 3", Shop, further=(few,))
    assert caught.value.problems == (
        "orders: 3 is not a list of texts", "limit: more than we have",
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        loads("limit = 'x'", Shop, further=(few,))
    assert caught.value.problems == ("limit: 'x' is not a whole number",)


def test_a_defect_in_a_check_is_no_problem_of_the_file() -> None:
    with pytest.raises(AttributeError):
        loads("limit = 'x'", Shop, further=(lambda shop: shop.no_such_field,))


def test_a_section_made_by_hand_is_held_to_the_same() -> None:
    with pytest.raises(SectionRefused) as caught:
        Tool(kind="pen", size=0, edge=1)
    assert len(caught.value.problems) == 3
