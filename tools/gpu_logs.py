"""Read the logs of pytest and compute-sanitizer for gpu_check.py, by pure functions."""

from __future__ import annotations

import re
from collections import Counter

_PYTEST_LAST = re.compile(r"^=*\s*((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s", re.MULTILINE)
_PYTEST_SKIP = re.compile(r"^SKIPPED \[(\d+)\] \S+: (.+)$", re.MULTILINE)
_MEMCHECK = re.compile(r"ERROR SUMMARY: (\d+) errors?")
_RACECHECK = re.compile(r"RACECHECK SUMMARY: \d+ hazards? displayed \((\d+) errors?, (\d+) warnings?\)")
_KINDS = "Invalid|Race reported|Potential|Address|Program hit|Misaligned|Barrier error|Uninitialized"
_FINDING = re.compile(rf"^=+ (?:Error: |Warning: )?((?:{_KINDS}).*)$")
_PLACE = re.compile(r"^=+\s+(?:at (?:0x[0-9a-f]+ in )?)([\w:]*\w+)")


def pytest_counts(log: str) -> dict[str, int]:
    """Return the counts of pytest's closing line, as in `{"passed": 12, "skipped": 3}`; {} if it did not end."""
    lines = _PYTEST_LAST.findall(log)
    pairs = re.findall(r"(\d+) ([a-z]+)", lines[-1]) if lines else []
    return {name.rstrip("s") if name == "errors" else name: int(count) for count, name in pairs}


def skip_reasons(log: str) -> dict[str, int]:
    """Return how many tests were skipped per reason, the most frequent first. Needs pytest's -rs."""
    reasons: Counter[str] = Counter()
    for count, reason in _PYTEST_SKIP.findall(log):
        reasons[reason.strip()] += int(count)
    return dict(reasons.most_common())


def sanitizer_counts(log: str) -> dict[str, int] | None:
    """Return the errors and warnings of compute-sanitizer's summaries, or None where it wrote none."""
    memcheck, racecheck = _MEMCHECK.findall(log), _RACECHECK.findall(log)
    if not memcheck and not racecheck:
        return None
    errors = sum(map(int, memcheck)) + sum(int(count) for count, _ in racecheck)
    return {"errors": errors, "warnings": sum(int(count) for _, count in racecheck)}


def sanitizer_findings(log: str, limit: int | None = 20) -> list[str]:
    """Return each kind of finding once, with its kernel and its count, as in `Invalid ... in kernel (64x)`."""
    findings: Counter[str] = Counter()
    lines = log.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        found = _FINDING.match(line)
        if found:
            # Addresses, threads and blocks differ from one report to the next.
            text = re.sub(r"\s+(?:at|on|by thread|in block) (?:0x[0-9a-f]+|\(.*?\)).*$", "", found[1])
            place = _PLACE.match(following)
            findings[f"{text} in {place[1]}" if place and place[1] not in text else text] += 1
    return [f"{text} ({count}x)" for text, count in findings.most_common(limit)]


def times(finding: str) -> int:
    """Return the count in a finding of `sanitizer_findings`."""
    return int(finding.rpartition("(")[2].removesuffix("x)"))


def last_lines(log: str, count: int = 3) -> str:
    """Return the last lines that are not empty, joined. Most often they hold why a command failed."""
    return " / ".join([line.strip() for line in log.splitlines() if line.strip()][-count:])
