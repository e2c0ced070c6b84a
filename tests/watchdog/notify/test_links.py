"""Links of notices: signed, for one use, with an end; reading one changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.config import loads
from chipmedic.errors import ConfigError
from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.notify import news
from chipmedic_watchdog.notify.links import (
    Link,
    LinkAct,
    Linker,
    LinkRefused,
    LinkSettings,
    identity_of,
    read,
    sign,
)
from chipmedic_watchdog.notify.news import Desk
from chipmedic_watchdog.notify.settings import (
    ChannelKind,
    ChannelSettings,
    Language,
    NotifySettings,
)
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story

KEY = b"0123456789abcdef0123456789abcdef"
LINK_ID = identity_of("inc-000042/opened-1/chat", LinkAct.ACKNOWLEDGE)
LINK = Link(id=LINK_ID, act=LinkAct.ACKNOWLEDGE,
            target="inc-000042", expires_at=2_000, language="zh")  # fmt: skip


def test_a_link_comes_back_until_its_end() -> None:
    token = sign(LINK, KEY)
    assert read(token, KEY, 2_000) == LINK
    with pytest.raises(LinkRefused, match="expired"):
        read(token, KEY, 2_001)


@pytest.mark.parametrize("token", ["", ".", "a.b", "é.ü", "x" * 2_000, "e30.AAAA"])
def test_what_is_no_link_is_refused(token: str) -> None:
    with pytest.raises(LinkRefused, match="wrong"):
        read(token, KEY, 0)


def test_another_key_and_another_content_are_refused() -> None:
    token = sign(LINK, KEY)
    with pytest.raises(LinkRefused, match="wrong"):
        read(token, b"another key of enough bytes", 0)
    forged = sign(replace(LINK, target="inc-000043"), b"guessed guessed guessed")
    with pytest.raises(LinkRefused, match="wrong"):
        read(forged.rpartition(".")[0] + "." + token.rpartition(".")[2], KEY, 0)


@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_one_changed_letter_is_refused(place: int, letter: str) -> None:
    token = sign(LINK, KEY)
    place %= len(token)
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(LinkRefused):
            read(changed, KEY, 0)


def test_a_link_fits_into_a_line() -> None:
    assert len(sign(LINK, KEY)) < 80
    assert sign(LINK, KEY).isascii()


@given(st.text(max_size=80))
def test_any_word_is_refused_quietly(token: str) -> None:
    with pytest.raises(LinkRefused):
        read(token, KEY, 0)


def settings(tmp_path: Path) -> NotifySettings:
    (tmp_path / "key").write_bytes(KEY)
    return NotifySettings(
        channels={"chat": ChannelSettings(kind=ChannelKind.STDOUT)},
        external_url="https://watch.example.org/",
        links=LinkSettings(key_file=str(tmp_path / "key")),
    )


def notice(database: Database, chosen: NotifySettings) -> str:
    linker = Linker(chosen.links, chosen.external_url, chosen.links.read_key())
    desk = Desk(settings=chosen, linker=linker)
    ids = database.read_now(lambda c: news.unread(c, chosen, story.NOW))
    database.write_now(lambda c: news.write_news(c, ids, desk, story.NOW))
    return str(story.rows(database, schema.notices)[-1]["body"])


@pytest.mark.parametrize(
    ("language", "labels"),
    [(Language.EN, ("I look after it: ", "Approve: ")), (Language.ZH, ("由我处理：", "批准："))],
)
def test_a_notice_holds_the_links_that_fit(
    database: Database, tmp_path: Path, language: Language, labels: tuple[str, str]
) -> None:
    story.put_incident(database)
    story.put_recovery(database, state="proposed", mode="propose")
    body = notice(database, replace(settings(tmp_path), language=language))
    found = [line for line in body.splitlines() if "https://watch.example.org/act/" in line]
    assert [line.startswith(label) for line, label in zip(found, labels, strict=True)] == [True] * 2
    link = read(found[1].rpartition("/")[2], KEY, story.NOW)
    assert (link.act, link.target, link.language) == (LinkAct.APPROVE, "rec-000007", language.value)


def test_nothing_is_offered_that_is_done_already(database: Database, tmp_path: Path) -> None:
    story.put_incident(database, acknowledged_at=story.NOW, acknowledged_by="mei")
    story.put_recovery(database, state="running")
    assert "/act/" not in notice(database, settings(tmp_path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[notify.links]\nkey_file = "/k"', "links need external_url"),
        ('[notify]\nexternal_url = "watch.example.org"', "no http"),
        ("[notify.links]\nvalid_seconds = 0", "valid_seconds: 0 is not a positive number"),
    ],
)
def test_settings_that_make_no_links(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        loads(text, WatchdogSettings)


def test_a_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("short")
    with pytest.raises(ConfigError, match="under 16 bytes; openssl rand -hex 32"):
        LinkSettings(key_file=str(tmp_path / "key")).read_key()
    with pytest.raises(ConfigError, match="No such file"):
        LinkSettings(key_file=str(tmp_path / "none")).read_key()
