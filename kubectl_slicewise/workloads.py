"""``kubectl slicewise workloads``: what the autoscaler makes of each workload, and what lacks room."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from autoscaler.workload_page import CONFIG_MAP, KEY, LONGEST_SECONDS, Page, Row, page_of
from cluster.autoscaling_policy import load_autoscaling_policy
from cluster.client import Api, ApiRefused
from cluster.numbered_maps import Found, look, map_names
from cluster.policy_source import AUTOSCALING_SELECTOR
from cluster.policy_text import PolicyRefused
from cluster.wire import ConfigMap
from kubectl_slicewise.policy_files import POLICY_KEY, NotFound
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
        found = look(api, options.policy_namespace, CONFIG_MAP)
        policies = policy_maps(api, options.namespace)
    finally:
        api.close()
    where = f"ConfigMap {options.policy_namespace}/{CONFIG_MAP}"
    if not any(KEY in data for data in found.data.values()):
        raise NotFound(
            f"{where} is not there; slicewise-controller writes it once it leads and has decided: see "
            "whether it runs, without --dry-run, and with an autoscaling policy"
        )
    page = read_page(found, where)
    if options.namespace is not None:
        kept = tuple(row for row in page.workloads if row.namespace == options.namespace)
        page = msgspec.structs.replace(page, workloads=kept)
    if options.output == "json":
        print(msgspec.json.format(msgspec.json.encode(page), indent=2).decode())
    else:
        print(as_table(page.workloads))
    missing = absent(found, options.policy_namespace)
    # Of a workload in a ConfigMap that is missing nothing can be said.
    for sentence in missing or undecided(policies, page.workloads):
        print(f"note: {sentence}", file=sys.stderr)
    if not page.written_at:
        return 0
    age = (datetime.now(UTC) - datetime.fromisoformat(page.written_at)).total_seconds()
    if age > _OLD_SECONDS:
        print(
            f"kubectl slicewise workloads: {where} was written {age:.0f} s ago; "
            "no slicewise-controller leads",
            file=sys.stderr,
        )
    return 0


def policy_maps(api: Api, namespace: str | None) -> list[ConfigMap]:
    """The ConfigMaps of autoscaling policies; none where they may not be listed. Raises ApiUnreachable."""
    inside = "" if namespace is None else f"/namespaces/{quote(namespace)}"
    try:
        return api.list_objects(
            f"/api/v1{inside}/configmaps", ConfigMap, {"labelSelector": AUTOSCALING_SELECTOR}
        )
    except ApiRefused:
        return []


def undecided(policies: Iterable[ConfigMap], decided: Iterable[Row]) -> list[str]:
    """A sentence for each policy whose workload no decision was made about, with where the reason stands."""
    there = {(row.namespace, row.kind, row.name) for row in decided}
    found = []
    for one in policies:
        meta = one.metadata
        where = f"{meta.namespace}/{meta.name}"
        try:
            target = load_autoscaling_policy(one.data.get(POLICY_KEY, ""), where).target
        except PolicyRefused:
            found.append(f"policy {where} is refused; kubectl slicewise policy validate says why")
            continue
        if (meta.namespace, target.kind, target.name) not in there:
            found.append(
                f"policy {where}: nothing is decided about {target.kind} {target.name}; see: kubectl -n "
                f"{meta.namespace} get events --field-selector involvedObject.name={meta.name}"
            )
    return sorted(found)


def read_page(found: Found, where: str) -> Page:
    """Put the page of all ConfigMaps together. Raises NotFound for what is none."""
    try:
        page = page_of(found)
        if 0 in found.data:
            datetime.fromisoformat(page.written_at)
    except ValueError as problem:
        raise NotFound(
            f"{where}, {KEY}: {problem}; expected what slicewise-controller of this version writes: update "
            "the older of the two"
        ) from None
    return page


def absent(found: Found, namespace: str) -> list[str]:
    """A sentence for each ConfigMap whose workloads are not on the page."""
    names = map_names(CONFIG_MAP)
    sentences = {number: f"cannot be read: {why}" for number, why in found.unread.items()}
    sentences |= dict.fromkeys(found.gone, "is gone; slicewise-controller makes it again within ten minutes")
    return [
        f"ConfigMap {namespace}/{names[number]} {sentence}; its workloads are missing here"
        for number, sentence in sorted(sentences.items())
    ]


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
