"""What `doctor` found: facts in sections, and troubles with what to do about each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OK, NOTE, TROUBLE = "ok", "note", "trouble"


@dataclass(frozen=True)
class Fact:
    """One line.

    Attributes:
        name: of what was looked at.
        value: what was found, in words.
        state: OK, NOTE (works, but differently or with less) or TROUBLE.
        remedy: what to do about it, one sentence; empty where nothing is to be done.
    """

    name: str
    value: str
    state: str = OK
    remedy: str = ""


@dataclass
class Section:
    """Facts of one subject.

    Attributes:
        title: of the section.
        facts: in the order in which they are shown.
    """

    title: str
    facts: list[Fact] = field(default_factory=list)

    def add(self, name: str, value: object, state: str = OK, remedy: str = "") -> None:
        """Add a fact; arguments as those of `Fact`."""
        self.facts.append(Fact(name, str(value), state, remedy))


def troubles(sections: list[Section]) -> list[Fact]:
    """Return what does not work."""
    return [fact for section in sections for fact in section.facts if fact.state == TROUBLE]


def as_json(sections: list[Section]) -> dict[str, Any]:
    """Return everything as plain containers: for each section a mapping from names to value, state and remedy."""
    plain: dict[str, Any] = {}
    for section in sections:
        plain[section.title] = {
            fact.name: {"value": fact.value, "state": fact.state} | ({"remedy": fact.remedy} if fact.remedy else {})
            for fact in section.facts
        }
    return {"fine": not troubles(sections), **plain}
