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
    for name, label, goal in (
        ("prepare_own_milliseconds", "prepare over NVML's own time, ms", 50),
        ("allocation_to_order_milliseconds", "allocation to re-published order, ms", 100),
    ):
        seen = calls[name]
        lines.append(f"| {label} | {seen['p50']:.1f} | {seen['p95']:.1f} | {seen['max']:.1f} | {goal} |")
    objects = calls["objects"]
    lines += [
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
