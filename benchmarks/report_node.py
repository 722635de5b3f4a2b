"""Sections of docs/benchmarks.md about the node: the driver's times, and the allocator's replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def driver(found: Json) -> list[str]:
    """The driver's own times, with the goals beside them."""
    calls, pods = found["calls"], found.get("pods") or {}
    lines = [
        "## The DRA driver",
        "",
        "`python -m benchmarks.dra`",
        "",
        f"{calls['node']} (a stand-in for NVML), {calls['claims']} claims through the driver's gRPC "
        f"services, Kubernetes {found['kubernetes']}. Prepare without the time spent in NVML.",
        "",
        "| what | p50 | p95 | largest | goal |",
        "|---|---|---|---|---|",
    ]
    order, bare = "allocation_to_order_milliseconds", calls["without_tables"]
    for seen, label, goal in (
        (calls["prepare_own_milliseconds"], "prepare over NVML's own time, ms", 50),
        (calls[order], "allocation to re-published order, ms", 100),
        (bare[order], "the same without the controller's tables, ms", 100),
    ):
        lines.append(f"| {label} | {seen['p50']:.1f} | {seen['p95']:.1f} | {seen['max']:.1f} | {goal} |")
    objects = calls["objects"]
    lines += [
        "",
        f"A claim spoils the order of {calls['spoilt_slices_a_claim']:.2f} slices on average, of "
        f"{bare['spoilt_slices_a_claim']:.2f} without the controller's tables.",
        "",
        f"Resident memory at most {calls['resident_mib']['highest']:.1f} MiB (goal 60). The node's slices: "
        f"{objects['slices']} objects, {objects['devices']} devices, at most "
        f"{objects['most_devices_a_slice']} devices (of 64 allowed) and "
        f"{objects['most_counter_sets_a_slice']} counter sets (of 8) in one.",
    ]
    running = pods.get("create_to_running_milliseconds")
    if running:
        lines += [
            "",
            f"On a real kubelet, containerd and runc, {pods['pods']} pods each, creation to Running, p50: "
            f"{running['plain']['p50']:.0f} ms without a GPU, "
            f"{running['with an instance']['p50']:.0f} ms with a MIG instance that is made for the pod.",
        ]
    return lines


def order_writes(found: Json) -> list[str]:
    """What the bound on re-publishing costs and saves."""
    bound = found["bound_percent_of_an_empty_gpu"]
    lines = [
        "## Slices written anew for their order",
        "",
        f"`{found['command']}`",
        "",
        "The driver writes a slice anew only when a pod would lose more by first-fit than "
        f"{bound['expected']:g} % of an empty GPU's worth ({bound['unexpected']:g} % for a profile that "
        "nobody is expected to ask for). Beside it: whenever another device would be better. No queue; "
        f"seeds {found['seeds'][0]} to {found['seeds'][1]}.",
        "",
        "| mix | accepted, always | accepted, bounded | difference, points (95 %) | writes for 100 pods, "
        "always | bounded |",
        "|---|---|---|---|---|---|",
    ]
    for one in found["mixes"]:
        accepted, writes = one["accepted_percent"], one["writes_per_100"]
        gained = one["accepted_difference"]
        low, high = gained["ci95"]
        lines.append(
            f"| {one['mix']} | {accepted['always']:.2f} % | {accepted['bounded']:.2f} % | "
            f"{gained['mean']:+.2f} [{low:+.2f}, {high:+.2f}] | {writes['always']:.0f} | "
            f"{writes['bounded']:.0f} |"
        )
    return lines


def oracle(found: Json) -> list[str]:
    """The replay against the real allocators."""
    lines = [
        "## The allocator's replay against the real allocators",
        "",
        "`python -m benchmarks.dra_oracle`",
        "",
        f"Random slices, claims, counters, taints, constraints, alternatives and selectors, seed "
        f"{found['seed']}. Before 1.36 the real allocator takes pools in random order: there each answer "
        "must be one that the replay gives for some order. Cases that either side gave up are replaced.",
        "",
        "| Kubernetes | allocator that runs | cases | the same | given up and replaced |",
        "|---|---|---|---|---|",
    ]
    for version, seen in found["versions"].items():
        lines.append(
            f"| {version} | {seen['allocator']} | {seen['cases']:,} | {seen['same']:,} "
            f"| {seen['undecided']} |"
        )
    return lines
