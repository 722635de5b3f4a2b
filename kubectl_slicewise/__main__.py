"""``kubectl slicewise``: explain, nodes, snapshot, repack, servers, workloads, tune, policy, simulate.

Tables go to stdout, notes to stderr.

Exit status: 0 done, 1 the cluster or the policy said no, 2 wrong usage: a flag, a file that cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cluster.api_errors import ApiError, NotConfigured
from cluster.policy import PolicyRefused
from kubectl_slicewise import commands, servers, tune, workloads
from kubectl_slicewise.policy_files import NotFound, Unreadable
from kubectl_slicewise.policy_keys import SCHEMAS
from scheduler.snapshot import SnapshotRefused
from simulator import autoscaling_command, batch_command, mig_command, packing_command


def parser() -> argparse.ArgumentParser:
    """The command line; kubectl's own flag names where they mean the same."""
    top = argparse.ArgumentParser(
        prog="kubectl slicewise",
        description="See how Slicewise prices GPU placements and sets replicas, check policies, and replay "
        "traces. Nothing here changes the cluster.",
    )
    cluster = argparse.ArgumentParser(add_help=False)
    cluster.add_argument("--kubeconfig", metavar="FILE", help="kubeconfig to use (default: as kubectl)")
    cluster.add_argument("--context", metavar="NAME", help="context of the kubeconfig (default: the current)")
    source = argparse.ArgumentParser(add_help=False, parents=[cluster])
    source.add_argument(
        "--policy-namespace",
        metavar="NAMESPACE",
        default="slicewise-system",
        help="namespace of ConfigMap slicewise-policy (default: slicewise-system)",
    )
    source.add_argument("--from-snapshot", metavar="FILE", help="read a snapshot file, not a cluster")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="how to print (default: table)"
    )

    verbs = top.add_subparsers(dest="verb", required=True)
    explain = verbs.add_parser(
        "explain",
        parents=[source, output],
        help="the price of a pod on its node and on the next best ones",
        description="Print the bill of a GPU pod, in money per hour by term, on the node where it is (or is "
        "nominated to) and on the next best ones, and why the others cannot take it.",
    )
    explain.add_argument("kind", metavar="pod", choices=("pod",), help="the word pod")
    explain.add_argument("name", metavar="NAME", help="the pod's name")
    explain.add_argument(
        "-n", "--namespace", default="default", help="the pod's namespace (default: default)"
    )
    explain.set_defaults(run=commands.explain)

    nodes = verbs.add_parser(
        "nodes",
        parents=[source, output],
        help="GPUs, MIG units in use and NVLink by node",
        description="List the GPU nodes: models, how much of each GPU is in use, NVLink, the grid's carbon.",
    )
    advice = nodes.add_mutually_exclusive_group()
    advice.add_argument(
        "--scale-down", action="store_true", help="which nodes may go, and which to keep (writes nothing)"
    )
    advice.add_argument(
        "--hints", action="store_true", help="kinds of node for the pods that wait, the cheapest first"
    )
    advice.add_argument(
        "--overlays",
        action="store_true",
        help="what risk and carbon add to the price of each kind of node, as Karpenter's NodeOverlays",
    )
    nodes.set_defaults(run=commands.nodes)

    snapshot = verbs.add_parser(
        "snapshot",
        parents=[source],
        help="write all that the scheduler knows to stdout, as one JSON document",
        description="Write nodes, GPU pods, slices, claims, classes, policy and carbon to stdout as one JSON "
        "document, which the other commands and slicewise-scheduler read with --from-snapshot.",
    )
    snapshot.set_defaults(run=commands.snapshot)

    repack = verbs.add_parser(
        "repack",
        parents=[source, output],
        help="which pods would be moved now, and why (writes nothing)",
        description="Plan as the controller would: which running pods to move for pods that wait, or because "
        "they run cheaper elsewhere, what each move costs and gains. Nothing is written.",
    )
    repack.set_defaults(run=commands.repack)

    servers.add_flags(
        verbs.add_parser(
            "servers",
            parents=[output],
            help="model servers that Prometheus sees, and what it lacks of them",
            description="List the model servers whose pods Prometheus scrapes, by namespace: how many pods, "
            "what is in flight, which latencies there are, and which signals of the autoscaler are missing "
            "and why. Exit status 1 where any is.",
        )
    )

    tune.add_parser(verbs)

    workloads.add_flags(
        verbs.add_parser(
            "workloads",
            parents=[cluster, output],
            help="replicas of each workload: wanted, placeable, and why",
            description="List the workloads that have an autoscaling policy: replicas now and decided, how "
            "many find room, the learned headroom, and the reason of the last decision. As the leading "
            "slicewise-controller wrote it, at most a minute ago.",
        )
    )

    policy = verbs.add_parser("policy", help="check a policy before it is applied, or list its keys")
    actions = policy.add_subparsers(dest="action", required=True)
    validate = actions.add_parser(
        "validate",
        help="check a ClusterPolicy or AutoscalingPolicy file",
        description="Check a policy, or the ConfigMaps of a manifest that hold policies. Every problem is "
        "told with its line, what was expected and what to do; a ConfigMap that the controller would not "
        "look at gets a note. Exit status 1 where a policy is refused.",
    )
    validate.add_argument("file", metavar="FILE", help="YAML file, - for standard input")
    validate.set_defaults(run=commands.validate)
    keys = actions.add_parser(
        "keys",
        help="every key of a policy: what it takes, its default, its meaning",
        description="List the keys of a policy with what they take, their defaults and their meaning; those "
        "at KEY and under it where one is given. As JSON: the whole JSON Schema of the policy, for editors.",
    )
    keys.add_argument("kind", choices=tuple(SCHEMAS), help="which policy")
    keys.add_argument(
        "key", nargs="?", default="", metavar="KEY", help="a path such as carbon or slo.measure"
    )
    keys.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="how to print (default: table)"
    )
    keys.set_defaults(run=commands.policy_keys)
    simulate = verbs.add_parser("simulate", help="replay a trace under several policies, beside a bound")
    studies = simulate.add_subparsers(dest="study", required=True)
    packing_command.add_parser(studies)
    mig_command.add_parser(studies)
    autoscaling_command.add_parser(studies)
    batch_command.add_parser(studies)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (ApiError, SnapshotRefused, PolicyRefused, NotFound, Unreadable) as problem:
        print(f"kubectl slicewise {options.verb}: {problem}", file=sys.stderr)
        return 2 if isinstance(problem, NotConfigured | SnapshotRefused | Unreadable) else 1
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Closing now spares Python's own complaint at exit.
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
