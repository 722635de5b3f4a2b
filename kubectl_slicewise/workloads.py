"""``kubectl slicewise workloads``: what the autoscaler makes of each workload, and what lacks room."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

import msgspec

from autoscaler.workload_page import CONFIG_MAP, KEY, LONGEST_SECONDS, Page, Row
from cluster.client import Api
from cluster.kept_map import KeptMap
from kubectl_slicewise.policy_files import NotFound
from kubectl_slicewise.tables import table

_HEADER = (
    "NAMESPACE",
    "WORKLOAD",
    "CURRENT",
    "DESIRED",
    "READY",
    "PLACEABLE",
    "UNPLACEABLE",
    "HEADROOM",
    "REASON",
    "WHY",
)
# Twice as old as the leader lets it grow: then nobody writes it.
_OLD_SECONDS = 2.0 * LONGEST_SECONDS


def add_flags(flags: argparse.ArgumentParser) -> None:
    """The flags of the verb, beside those of a cluster; kubectl's own names."""
    flags.add_argument("-n", "--namespace", metavar="NAMESPACE", help="only of this namespace (default: all)")
    flags.add_argument(
        "--policy-namespace",
        metavar="NAMESPACE",
        default="slicewise-system",
        help=f"namespace of ConfigMap {CONFIG_MAP} (default: slicewise-system)",
    )
    flags.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the page. Raises ApiError; NotFound where there is none, or none that can be read."""
    api = Api.connect(options.kubeconfig, options.context)
    try:
        data = KeptMap(api, options.policy_namespace, CONFIG_MAP).read() or {}
    finally:
        api.close()
    where = f"ConfigMap {options.policy_namespace}/{CONFIG_MAP}"
    text = data.get(KEY, "")
    if not text:
        raise NotFound(
            f"{where} is not there; slicewise-controller writes it once it leads and has decided: see "
            "whether it runs, without --dry-run, and with an autoscaling policy"
        )
    page = read_page(text, where)
    if options.namespace is not None:
        kept = tuple(row for row in page.workloads if row.namespace == options.namespace)
        page = msgspec.structs.replace(page, workloads=kept)
    if options.output == "json":
        print(msgspec.json.format(msgspec.json.encode(page), indent=2).decode())
    else:
        print(as_table(page.workloads))
    age = (datetime.now(UTC) - datetime.fromisoformat(page.written_at)).total_seconds()
    if age > _OLD_SECONDS:
        print(
            f"kubectl slicewise workloads: {where} was written {age:.0f} s ago; "
            "no slicewise-controller leads",
            file=sys.stderr,
        )
    return 0


def read_page(text: str, where: str) -> Page:
    """Read the text of the page. Raises NotFound for one that is none."""
    try:
        page = msgspec.json.decode(text.encode(), type=Page)
        datetime.fromisoformat(page.written_at)
    except (msgspec.DecodeError, ValueError) as problem:
        raise NotFound(
            f"{where}, {KEY}: {problem}; expected what slicewise-controller of this version writes: update "
            "the older of the two"
        ) from None
    return page


def as_table(workloads: tuple[Row, ...]) -> str:
    """One row a workload."""
    cells = [
        (
            row.namespace,
            f"{row.kind.lower()}/{row.name}",
            str(row.current),
            str(row.desired),
            str(row.ready),
            "-" if row.placeable is None else str(row.placeable),
            str(row.unplaceable) if row.unplaceable else "-",
            f"{row.headroom:.0%}" if row.headroom else "-",
            row.reason,
            row.sentence,
        )
        for row in workloads
    ]
    return table(_HEADER, cells, right=frozenset({2, 3, 4, 5, 6, 7}))
