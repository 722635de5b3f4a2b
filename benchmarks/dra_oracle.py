"""Whether the replay of the device allocator gives what the real allocators of Kubernetes give.

Random cases (``tests.oracle.cases``) are put to ``dra.allocator`` and to the real
k8s.io/dynamic-resource-allocation of 1.34, 1.35 and 1.36 with default feature gates (Go programs, built when
they are not there). Before 1.36 the real one takes pools in random order: then each of its answers must
be one of the replay's for some order, and cases with one answer for all orders are counted as exact. A search
that either side gives up (0.3 s, 20,000 devices tried) is replaced by another case. Writes
build/bench/dra_oracle.json; exit status 1 when an answer differs.  Usage: python -m benchmarks.dra_oracle
[--cases 10000] [--seed 1] [--versions 1.34,1.35,1.36]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.scheduler_run import say
from deploy.local.build import BinaryUnavailable
from dra.releases import RELEASES, Version
from tests.oracle.build import ensure_oracle, program, running
from tests.oracle.cases import make_case
from tests.oracle.compare import judge, replay

OUTPUT = Path("build/bench/dra_oracle.json")
MOST_STEPS = 20_000
_SHOWN = 10
_EVERY_SECONDS = 10.0


def compare(version: Version, path: Path, cases: int, seed: int) -> dict[str, Any]:
    """Put ``cases`` cases that both sides decide to both; CPU seconds are of this process and of Go."""
    outcomes: Counter[str] = Counter()
    exact = several = seen_all = asked = 0
    different: list[str] = []
    allocator = ""
    replay_seconds, told = 0.0, time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with running(path) as oracle:
        while sum(outcomes.values()) < cases:
            case = make_case(version, seed, asked)
            asked += 1
            oracle.send(case)
            began = time.process_time()
            replayed = replay(version, case, most_steps=MOST_STEPS)
            replay_seconds += time.process_time() - began
            line = oracle.receive()
            allocator = line["allocator"]
            verdict = judge(version, case, replayed, line)
            if verdict.outcome == "undecided":
                continue
            outcomes[verdict.kind] += 1
            exact += verdict.orders == 1
            several += verdict.orders > 1
            seen_all += verdict.orders == verdict.seen > 1
            if verdict.outcome == "different":
                different.append(verdict.detail)
                if len(different) <= _SHOWN:
                    say(f"differs: {verdict.detail}")
            if time.monotonic() - told > _EVERY_SECONDS:
                told = time.monotonic()
                say(f"{version}: {sum(outcomes.values())} of {cases}, {len(different)} differ")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "library": program(version).version.split("-")[0],
        "allocator": allocator.strip("*"),
        "cases": sum(outcomes.values()),
        "same": sum(outcomes.values()) - len(different),
        "different": len(different),
        "undecided": asked - sum(outcomes.values()),
        "outcomes": dict(sorted(outcomes.items())),
        "one_answer_for_every_order": exact,
        "several_answers": several,
        "several_answers_all_seen": seen_all,
        "replay_cpu_seconds": replay_seconds,
        "real_cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "differences": different[:_SHOWN],
    }


def _versions(text: str) -> tuple[Version, ...]:
    wanted = text.split(",")
    unknown = [item for item in wanted if item not in RELEASES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown version {', '.join(unknown)}: expected some of {', '.join(RELEASES)}"
        )
    return tuple(version for version in RELEASES if version in wanted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; exit status 1 when an answer differs, 2 when an oracle cannot be built."""
    parser = argparse.ArgumentParser(prog="benchmarks.dra_oracle", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="cases a version (default 10000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--versions", type=_versions, default=tuple(RELEASES), help="1.34,1.35,1.36")
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {
        "machine": {"cores": os.cpu_count()},
        "seed": options.seed,
        "versions": {},
    }
    for version in options.versions:
        try:
            path = ensure_oracle(version, say)
        except BinaryUnavailable as problem:
            say(f"dra_oracle: {problem}")
            return 2
        found = compare(version, path, options.cases, options.seed)
        report["versions"][version] = found
        what = f"{version} ({found['library']}, {found['allocator']})"
        print(
            f"{what}: {found['same']} of {found['cases']} alike, "
            f"{found['one_answer_for_every_order']} of them whatever the order of pools; "
            f"{found['undecided']} given up and replaced"
        )
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written: {OUTPUT}")
    return 1 if any(found["different"] for found in report["versions"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
