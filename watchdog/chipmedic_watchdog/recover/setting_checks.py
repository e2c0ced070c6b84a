"""Checks that the sections of `[recover]` share."""

from __future__ import annotations

from string import Formatter


def positive(settings: object, *keys: str) -> None:
    """See that quantities are above zero.

    Raises:
        ValueError: one is not; it names the key.
    """
    for key in keys:
        value = getattr(settings, key)
        if value <= 0:
            raise ValueError(f"{key}: {value:g} is not a positive number")


def placeholders(key: str, argv: tuple[str, ...], allowed: set[str]) -> None:
    """See that a command has none but the known placeholders.

    Raises:
        ValueError: it has another one; it names the key and those that there are.
    """
    for argument in argv:
        for _, name, _, _ in Formatter().parse(argument):
            if name is not None and name not in allowed:
                known = ", ".join("{" + word + "}" for word in sorted(allowed))
                raise ValueError(f"{key}: {{{name}}} is not a placeholder here; there are: {known}")
