"""``kubectl slicewise explain pod NAME``: the bill of a placement.

Prints what the pod costs on the node it runs on (or is nominated to) and on the next best nodes, term by
term, in money per hour, by the same pure code the webhook uses. The pod itself is taken out of the fleet
first, so the bill answers "where would it go, were it to come now?". Prices move with the cluster: a bill
of now is not the bill of then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubectl_slicewise.tables import money, table
from scheduler.bill import Bill

NEXT_BEST = 3


@dataclass(frozen=True, slots=True)
class Explanation:
    """The bills to show: ``chosen`` is None while the pod has no node."""

    namespace: str
    name: str
    currency: str
    chosen: Bill | None
    nominated: bool
    alternatives: tuple[Bill, ...]
    feasible_nodes: int
    refused: tuple[tuple[str, int], ...]
    absent: tuple[tuple[str, str], ...] = ()


def explanation(
    bills: Sequence[Bill], *, namespace: str, name: str, node: str, nominated: bool, currency: str
) -> Explanation:
    """Pick the chosen node's bill and the next best; refusals are counted by reason, most frequent first."""
    feasible = sorted((bill for bill in bills if bill.feasible), key=lambda bill: (bill.total, bill.node))
    chosen = next((bill for bill in bills if bill.node == node), None) if node else None
    others = [bill for bill in feasible if chosen is None or bill.node != chosen.node]
    reasons: dict[str, int] = {}
    for bill in bills:
        if not bill.feasible:
            reasons[bill.reason] = reasons.get(bill.reason, 0) + 1
    return Explanation(
        namespace=namespace,
        name=name,
        currency=currency,
        chosen=chosen,
        nominated=nominated,
        alternatives=tuple(others[: NEXT_BEST if chosen else NEXT_BEST + 1]),
        feasible_nodes=len(feasible),
        refused=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        absent=tuple(sorted({item for bill in bills for item in bill.absent.items()})),
    )


def as_table(shown: Explanation) -> str:
    """The explanation as text."""
    bills = ([shown.chosen] if shown.chosen else []) + list(shown.alternatives)
    terms = sorted({term for bill in bills for term in bill.terms})
    rows = []
    for bill in bills:
        mark = "chosen" if bill is shown.chosen else "next best" if shown.chosen else "candidate"
        if bill is shown.chosen and shown.nominated:
            mark = "nominated"
        cells = [money(bill.terms[term]) if term in bill.terms else "no data" for term in terms]
        rows.append([bill.node, mark, *cells, f"{bill.total:+.4f}"])
    lines = [
        f"Pod {shown.namespace}/{shown.name}: {shown.currency} per hour on each node, lowest is best",
        "",
    ]
    if rows:
        header = ["NODE", "", *[term.upper() for term in terms], "TOTAL"]
        lines.append(table(header, rows, right=frozenset(range(2, len(header)))))
    else:
        lines.append("No node can take this pod now.")
    lines.append("")
    lines.append(f"{shown.feasible_nodes} nodes can take it.")
    lines += [f"{count} cannot: {reason}" for reason, count in shown.refused]
    lines += [f"Left out everywhere: {term} ({reason})" for term, reason in shown.absent]
    return "\n".join(lines)


def as_json(shown: Explanation) -> dict[str, object]:
    """The explanation as JSON-ready data; money per hour."""

    def bill(one: Bill) -> dict[str, object]:
        return {"node": one.node, "total": one.total, "terms": dict(one.terms), "feasible": one.feasible}

    return {
        "pod": {"namespace": shown.namespace, "name": shown.name},
        "currency": shown.currency,
        "chosen": bill(shown.chosen) if shown.chosen else None,
        "nominated": shown.nominated,
        "alternatives": [bill(one) for one in shown.alternatives],
        "feasibleNodes": shown.feasible_nodes,
        "refused": [{"reason": reason, "nodes": count} for reason, count in shown.refused],
        "absent": dict(shown.absent),
    }
