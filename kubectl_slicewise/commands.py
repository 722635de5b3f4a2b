"""What each command does: read the cluster (or a snapshot), ask the product's own pure code, print.

Reading a whole cluster is a few lists; the prices are solved here, once, from what was read, so no connection
to a running Slicewise is needed. The clock is read here and passed on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from autoscaler.fleetpage.reader import FleetReader
from autoscaler.nodes.karpenter import overlays
from autoscaler.nodes.words import advice_as_json, hint_as_json
from cluster.autoscaling_policy import remarks
from cluster.client import Api
from cluster.disruption import BUDGETS_PATH, PodDisruptionBudget
from cluster.envelopes import object_decoder
from cluster.policy import ClusterPolicy, PolicyRefused, load_autoscaling_policy, load_cluster_policy
from cluster.wire import Pod
from kubectl_slicewise import explain as explaining
from kubectl_slicewise import fleet_table, node_advice
from kubectl_slicewise import repack as repacking
from kubectl_slicewise.policy_files import AUTOSCALING, NotFound, read_policies
from kubectl_slicewise.policy_keys import SCHEMAS, as_table, keys_of
from kubectl_slicewise.policy_notes import cluster_notes
from scheduler.pod_shape import CARBON_CLASS_ANNOTATION
from scheduler.puzzles import puzzles
from scheduler.service import Service, carbon_provider, from_snapshot
from scheduler.snapshot import Snapshot, encode, read_or_take


def explain(options: argparse.Namespace) -> int:
    """``explain pod NAME``."""
    snapshot, where = _snapshot(options)
    pod = _pod(snapshot, options.namespace, options.name, where)
    service = _priced(snapshot, where)
    demand = service.decider.demand(pod)
    full_name = f"pod {options.namespace}/{options.name}"
    if demand is None:
        raise NotFound(f"{full_name} asks for no GPU, so Slicewise leaves it to the scheduler untouched")
    if not demand.understood:
        facts = service.decider.fleet.facts
        found = (*demand.problems, *puzzles(pod, facts, facts.classes))
        problems = "; ".join(found) or "an unusual claim"
        raise NotFound(
            f"{full_name}: its GPU demand is not understood ({problems}), "
            "so Slicewise leaves it to the scheduler untouched"
        )
    policy = _policy(snapshot, where)
    for problem in (*demand.problems, *_unknown_class(demand.carbon_class, policy)):
        print(f"note: {problem}", file=sys.stderr)
    shown = explaining.explanation(
        service.decider.bills(pod),
        namespace=options.namespace,
        name=options.name,
        node=pod.spec.node_name or pod.status.nominated_node_name,
        nominated=not pod.spec.node_name,
        currency=policy.currency,
    )
    _print(options, explaining.as_json(shown), explaining.as_table(shown))
    return 0


def _unknown_class(name: str | None, policy: ClusterPolicy) -> tuple[str, ...]:
    known = policy.carbon.classes
    if name is None or name in known:
        return ()
    expected = f"one of {', '.join(known)}" if known else "a class of the policy, which has none"
    return (
        f"{CARBON_CLASS_ANNOTATION}: got {name!r}, expected {expected} (carbon.classes); the pod may run "
        "whatever the grid",
    )


def nodes(options: argparse.Namespace) -> int:
    """``nodes``."""
    snapshot, where = _snapshot(options)
    service, policy = _priced(snapshot, where), _policy(snapshot, where)
    if options.scale_down:
        advice = node_advice.scale_down_from(service, snapshot, _budgets(options), policy)
        _print(options, advice_as_json(advice), node_advice.advice_table(advice, policy))
        return 0
    if options.hints:
        found = node_advice.hints_from(service, snapshot, policy)
        _print(options, [hint_as_json(h) for h in found], node_advice.hints_table(found, policy))
        return 0
    if options.overlays:
        import yaml

        made = overlays(node_advice.standing_from(service, snapshot, policy))
        print(yaml.safe_dump_all(made, sort_keys=False), end="")
        if not made:
            print(
                "note: no NodeOverlay: no kind of node here differs from its list price by risk "
                "(nodes[].interruptionsPerHour) or carbon",
                file=sys.stderr,
            )
        return 0
    view = FleetReader(service.fleet, lambda: policy, service.carbon, time.monotonic)()
    _print(options, fleet_table.as_json(view), fleet_table.as_table(view))
    if not view.nodes:
        print(
            f"note: no node of {where} offers a GPU that Slicewise can read: resources nvidia.com/… with the "
            "labels of GPU feature discovery, or ResourceSlices of gpu.nvidia.com or gpu.slicewise.io",
            file=sys.stderr,
        )
    return 0


def snapshot(options: argparse.Namespace) -> int:
    """``snapshot``."""
    taken, _ = _snapshot(options)
    sys.stdout.buffer.write(encode(taken) + b"\n")
    sys.stdout.buffer.flush()
    print(
        f"snapshot of {len(taken.nodes)} nodes, {len(taken.pods)} pods, {len(taken.resource_slices)} slices, "
        f"{len(taken.resource_claims)} claims; serve it with: slicewise-scheduler --from-snapshot FILE",
        file=sys.stderr,
    )
    return 0


def policy_keys(options: argparse.Namespace) -> int:
    """``policy keys KIND [KEY]``."""
    schema = SCHEMAS[options.kind]()
    keys = keys_of(schema, options.key)
    if not keys:
        raise NotFound(
            f"{options.kind} has no key {options.key!r}; expected a path such as "
            f"{', '.join(key.path for key in keys_of(schema)[3:6])}; leave it out to see all"
        )
    _print(options, schema, as_table(keys))
    return 0


def repack(options: argparse.Namespace) -> int:
    """``repack``: always a dry run."""
    snapshot, where = _snapshot(options)
    service, policy = _priced(snapshot, where), _policy(snapshot, where)
    made = repacking.made_from(service, snapshot, _budgets(options), policy)
    _print(options, repacking.as_json(made), repacking.as_table(made, policy))
    return 0


def validate(options: argparse.Namespace) -> int:
    """``policy validate FILE``: the policies in it, bare or in ConfigMaps."""
    refused = 0
    for found in read_policies(options.file):
        notes = found.notes
        try:
            if found.kind == AUTOSCALING:
                policy = load_autoscaling_policy(found.text, options.file)
                target = policy.target
                print(f"{options.file}: a valid AutoscalingPolicy for {target.kind} {target.name}")
                notes += remarks(policy)
            else:
                cluster = load_cluster_policy(found.text, options.file)
                if cluster.carbon.provider != "file":  # which may lie only where the product runs
                    carbon_provider(cluster, options.file)
                print(f"{options.file}: a valid ClusterPolicy")
                notes += cluster_notes(cluster)
        except PolicyRefused as problem:
            refused += 1
            print(f"kubectl slicewise policy validate: {problem}", file=sys.stderr)
        for note in notes:
            print(f"{options.file}: note: {note}", file=sys.stderr)
    return 1 if refused else 0


def _snapshot(options: argparse.Namespace) -> tuple[Snapshot, str]:
    return read_or_take(
        options.from_snapshot,
        lambda: Api.connect(options.kubeconfig, options.context),
        options.policy_namespace,
        time.time(),
    )


def _budgets(options: argparse.Namespace) -> list[PodDisruptionBudget]:
    if options.from_snapshot:
        print("note: a snapshot holds no PodDisruptionBudgets; none is respected here", file=sys.stderr)
        return []
    api = Api.connect(options.kubeconfig, options.context)
    try:
        return api.list_objects(BUDGETS_PATH, PodDisruptionBudget)
    finally:
        api.close()


def _policy(snapshot: Snapshot, where: str) -> ClusterPolicy:
    return load_cluster_policy(snapshot.policy, where) if snapshot.policy.strip() else ClusterPolicy()


def _pod(snapshot: Snapshot, namespace: str, name: str, where: str) -> Pod:
    decoder = object_decoder(Pod)
    for raw in snapshot.pods:
        pod = decoder.decode(raw)
        if pod.metadata.namespace == namespace and pod.metadata.name == name:
            return pod
    raise NotFound(
        f"pod {namespace}/{name}: not among the {len(snapshot.pods)} unfinished pods of {where}; "
        "check the name, or give its namespace with -n"
    )


def _priced(snapshot: Snapshot, where: str) -> Service:
    service = from_snapshot(snapshot, where)
    service.prepare()
    return service


def _print(options: argparse.Namespace, document: object, text: str) -> None:
    print(json.dumps(document, indent=2) if options.output == "json" else text)
