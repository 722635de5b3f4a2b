"""``slicewise-node``: what runs on a GPU node."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from node import discover


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit status 0 done, 1 no NVML here, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="slicewise-node", description="GPU discovery on a node")
    commands = parser.add_subparsers(dest="command", required=True)
    discover.add_arguments(commands.add_parser("discover", help="print the node's GPUs as NVML shows them"))
    return discover.run(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
