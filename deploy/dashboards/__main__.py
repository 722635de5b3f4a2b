"""``python -m deploy.dashboards``: write the dashboards' JSON files beside this module."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.dashboards.boards import BOARDS
from deploy.dashboards.panels import as_json

FOLDER = Path(__file__).parent


def texts() -> dict[str, str]:
    """The files' texts by name."""
    return {
        name: json.dumps(as_json(board), indent=2, ensure_ascii=False) + "\n"
        for name, board in BOARDS.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them all."""
    argparse.ArgumentParser(
        prog="python -m deploy.dashboards",
        description="Write the Grafana dashboards (deploy/dashboards/*.json) from the metric names. "
        "Import them in Grafana under Dashboards, New, Import, or by provisioning.",
    ).parse_args(arguments)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
