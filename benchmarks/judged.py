"""The end of a benchmark that has targets: its result as a file, and what missed its target."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def judged(output: Path, report: dict[str, Any], missed: Sequence[str], say: Callable[[str], None]) -> int:
    """Write the report with what was missed; the exit status: 0 when nothing was."""
    report["missed"] = list(missed)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    say(f"written to {output}")
    for line in missed:
        say(f"missed: {line}")
    return 1 if missed else 0
