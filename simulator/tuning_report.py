"""What a search found: what would change in the policy, what it saves on days not seen, and the advice.

    {"trace", "server", "startup_seconds", "seeds", "trials", "searched_hours", "judged_hours", "blocks",
     "present": {"attainment", "gpu_hours"}, "tuned": {...} or null,
     "saved_percent": {"mean", "ci95"} or null, "attained_points": {"mean", "ci95"} or null,
     "changes": {PATH: {"from", "to"}}, "recommended", "advice"}

``saved_percent`` is of the present policy's GPU-hours, ``attained_points`` of a hundred; ``ci95`` is the 95 %
interval over the blocks (days), null with one. Pure.
"""

from __future__ import annotations

import difflib
from typing import Any

import yaml

from cluster.autoscaling_policy import AutoscalingPolicy
from simulator.paired import Difference
from simulator.tuning import Setup, Tally, Tuned
from simulator.tuning_space import knobs_of

_NOTICEABLE_POINTS = 0.1


def advice(policy: AutoscalingPolicy, tuned: Tuned) -> tuple[bool, str]:
    """Whether the change is worth making, and why."""
    judged = tuned.judgement
    if judged is None:
        return False, f"none of {tuned.trials} policies was better than the present one: keep it"
    objective = 0.99 if policy.slo is None else policy.slo.attainment
    before, after = judged.present.attainment(), judged.tuned.attainment()
    saved = judged.saved
    if after < min(objective, before):
        return False, (
            f"on the days not seen it would answer {after:.2%} in time, the present policy {before:.2%}: "
            "what the search found does not carry over; keep the present policy"
        )
    if before < objective and 100.0 * (after - before) >= _NOTICEABLE_POINTS:
        return True, (
            f"the present policy misses its objective on the days not seen ({before:.2%}); "
            f"the tuned one answers {after:.2%} in time for {-saved.mean:+.1f} % GPU-hours"
        )
    if saved.ends is None or saved.ends[0] <= 0.0:
        return False, "the saving on the days not seen is within the noise: keep the present policy"
    return True, f"saves {saved.mean:.1f} % GPU-hours on days not seen, with {after:.2%} in time"


def as_json(policy: AutoscalingPolicy, tuned: Tuned, setup: Setup) -> dict[str, Any]:
    """The document of the module's docstring."""
    judged = tuned.judgement
    marks = setup.history.marks
    recommended, why = advice(policy, tuned)
    return {
        "trace": setup.history.judged.name,
        "server": setup.server.name,
        "startup_seconds": setup.startup_seconds,
        "seeds": list(setup.seeds),
        "trials": tuned.trials,
        "searched_hours": round(setup.history.seen.span_seconds / 3600.0, 3),
        "judged_hours": round((marks[-1] - marks[0]) / 3600.0, 3),
        "blocks": len(marks) - 1,
        "present": _tally(tuned.seen_present if judged is None else judged.present),
        "tuned": None if judged is None else _tally(judged.tuned),
        "saved_percent": None if judged is None else _difference(judged.saved),
        "attained_points": None if judged is None else _difference(judged.attained),
        "changes": changes(policy, tuned.policy),
        "recommended": recommended,
        "advice": why,
    }


def as_text(policy: AutoscalingPolicy, tuned: Tuned, setup: Setup) -> str:
    """The same for people, with the difference of the policies as a patch."""
    report = as_json(policy, tuned, setup)
    lines = [
        f"{report['trace']}, {report['server']}, start-up {report['startup_seconds']:g} s: "
        f"{report['trials']} policies on {report['searched_hours']:g} h, "
        f"judged on {report['judged_hours']:g} h in {report['blocks']} blocks, {len(setup.seeds)} seeds",
    ]
    for name in ("present", "tuned"):
        if report[name] is not None:
            found = report[name]
            lines.append(f"  {name:8} {found['gpu_hours']:10.2f} GPU-h   {found['attainment']:.3%} in time")
    if tuned.judgement is not None:
        lines.append(f"  GPU-hours saved {_words(tuned.judgement.saved)} %")
        lines.append(f"  more in time    {_words(tuned.judgement.attained)} points")
    lines.append(("Recommended: " if report["recommended"] else "Not recommended: ") + report["advice"] + ".")
    patch = as_patch(policy, tuned.policy) if report["recommended"] else ""
    return "\n".join([*lines, *(["", patch] if patch else []), "Nothing was applied."])


def as_patch(present: AutoscalingPolicy, tuned: AutoscalingPolicy) -> str:
    """A unified diff of the two policies, empty where they are the same."""
    before, after = (
        yaml.safe_dump(
            policy.model_dump(mode="json", by_alias=True, exclude_unset=True), sort_keys=False
        ).splitlines()
        for policy in (present, tuned)
    )
    return "\n".join(difflib.unified_diff(before, after, "present", "tuned", lineterm=""))


def changes(present: AutoscalingPolicy, tuned: AutoscalingPolicy) -> dict[str, dict[str, float]]:
    """By dotted path what was and what would be."""
    before, after = (policy.model_dump(by_alias=True) for policy in (present, tuned))
    found: dict[str, dict[str, float]] = {}
    for knob in knobs_of(present):
        old: Any = before
        new: Any = after
        for key in knob.path.split("."):
            old, new = old[key], new[key]
        if old != new:
            found[knob.path] = {"from": old, "to": new}
    return found


def _tally(tally: Tally) -> dict[str, float]:
    return {"attainment": round(tally.attainment(), 6), "gpu_hours": round(tally.gpu_hours(), 3)}


def _difference(found: Difference) -> dict[str, Any]:
    ends = None if found.ends is None else [round(end, 3) for end in found.ends]
    return {"mean": round(found.mean, 3), "ci95": ends}


def _words(found: Difference) -> str:
    if found.ends is None:
        return f"{found.mean:+.2f} (one block: no interval)"
    return f"{found.mean:+.2f} [{found.ends[0]:+.2f}, {found.ends[1]:+.2f}]"
