"""Run pip and print what it is doing: large downloads, the installation, and a sign of life after a silence.

`pip -q` prints nothing for minutes, and pip alone prints hundreds of lines. What pip writes to stderr is shown as it
is. Where pip fails, the last lines of the rest are shown too. Needs the standard library only.
"""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
import time

SILENCE = 20.0  # seconds
_DOWNLOAD = re.compile(r"\s*Downloading (\S+) \((\d+(?:\.\d+)?) ([MG])B\)")
_LEAST = 20.0  # MB


def about(line: str) -> str | None:
    """Return what a line of pip's means to a reader who waits, or None if it means nothing to them."""
    if found := _DOWNLOAD.match(line):
        size = float(found[2]) * (1000 if found[3] == "G" else 1)
        name = "-".join(found[1].rsplit("/", 1)[-1].split("-")[:2])
        return f"downloading {name} ({size:.0f} MB)" if size >= _LEAST else None
    if line.startswith("Installing collected packages: "):
        count = line.count(",") + 1
        return f"installing {count} package{'s' if count > 1 else ''}"
    if line.startswith(("Building wheels for", "Building editable")):
        return "building " + line.rsplit(": ", 1)[-1].strip()
    return None


def read(stream, lines: queue.Queue[str | None]) -> None:
    """Pass a stream's lines on, then None."""
    for line in stream:
        lines.put(line)
    lines.put(None)


def main(arguments: list[str], silence: float = SILENCE) -> int:
    """Run pip with these arguments; return its status."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, "--progress-bar", "off"]
    begin, now = time.monotonic(), "looking for packages"
    kept: list[str] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=read, args=(process.stdout, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=silence)
        except queue.Empty:
            print(f"   {time.monotonic() - begin:4.0f} s  still {now}", flush=True)
            continue
        if line is None:
            break
        kept = [*kept[-14:], line]
        said = about(line)
        if said:
            now = said
            print(f"   {time.monotonic() - begin:4.0f} s  {now}", flush=True)
    status = process.wait()
    if status != 0:
        print("".join(kept), end="", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
