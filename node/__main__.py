"""``slicewise-node``: what runs on a GPU node: ``discover`` shows its GPUs, ``serve`` is its DRA driver,
``report`` says whose they are under the device plugin.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from node import options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit status 0 done, 1 it cannot run here, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="slicewise-node", description="GPUs of a node, and their DRA driver"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    found = commands.add_parser("discover", help="print the node's GPUs as NVML shows them")
    served = commands.add_parser("serve", help="run the DRA driver of this node")
    options.add_arguments(served)
    reported = commands.add_parser("report", help="publish whose the GPUs are, under the device plugin")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["serve"]:
        from node import serve  # each command loads its own half: the driver has to stay small

        return serve.run(parser.parse_args(words))
    if words[:1] == ["report"]:
        from node import podresources_reporter

        podresources_reporter.add_arguments(reported)
        return podresources_reporter.run(parser.parse_args(words))
    from node import discover

    discover.add_arguments(found)
    return discover.run(parser.parse_args(words))


if __name__ == "__main__":
    sys.exit(main())
