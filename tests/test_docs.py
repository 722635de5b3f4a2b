"""What the pages name is there: links and their headings, files, modules, metrics, flags."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from autoscaler.doors.external_metrics import DESIRED_REPLICAS, IN_FLIGHT
from cluster import event_reasons
from metrics import names

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCE = re.compile(r"```.*?```", re.DOTALL)
# Of kubectl, kube-controller-manager, Cluster Autoscaler, Karpenter and pip; ours are in our code.
FOREIGN_FLAGS = {
    "--delete-emptydir-data",
    "--field-selector",
    "--grpc-expander-cert",
    "--grpc-expander-url",
    "--help",
    "--horizontal-pod-autoscaler-tolerance",
    "--ignore-daemonsets",
    "--ignore-dra-requests",
    "--no-cache-dir",
    "--prune",
    "--prune-allowlist",
    "--raw",
}


@cache
def tracked() -> tuple[str, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    return tuple(listed.stdout.splitlines())


@cache
def sources() -> str:
    ours = [name for name in tracked() if not name.startswith("tests/")]
    files = [name for name in ours if name.endswith((".py", ".yaml", ".toml")) or name == "Makefile"]
    return "\n".join((ROOT / name).read_text(encoding="utf-8") for name in files if (ROOT / name).exists())


@cache
def anchors(page: Path) -> frozenset[str]:
    """The headings as GitHub names them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return frozenset(heading.strip().replace(" ", "-") for heading in plain)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    astray = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            astray.append(link)
    assert astray == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_modules_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    files = set(re.findall(r"`([\w./-]+\.(?:py|yaml|md))`", text))
    ends = tuple(f"/{name}" for name in tracked())
    missing = [name for name in files if not any(end.endswith(f"/{name}") for end in ends)]
    for module in re.findall(r"python -m ([\w.]+)", text):
        path = ROOT / module.replace(".", "/")
        if (
            module != "pytest"
            and not path.with_suffix(".py").exists()
            and not (path / "__main__.py").exists()
        ):
            missing.append(module)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_that_are_named_exist(page):
    named = set(re.findall(r"\bslicewise_[a-z0-9_]+", page.read_text(encoding="utf-8")))
    # What HPA asks for by name is served to it, not scraped.
    assert sorted(named - names.BY_NAME.keys() - {DESIRED_REPLICAS, IN_FLIGHT}) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_that_are_named_exist(page):
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
    assert sorted(flag for flag in named - FOREIGN_FLAGS if flag not in sources()) == []


def test_every_event_reason_is_explained():
    reasons = {value for name, value in vars(event_reasons).items() if name.isupper()}
    reasons -= {event_reasons.NORMAL, event_reasons.WARNING}
    told = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert sorted(reason for reason in reasons if f"`{reason}` |" not in told) == []


def test_every_event_reason_is_written_by_something():
    named = [name for name in vars(event_reasons) if name.isupper()]
    # Once where it is defined.
    assert [name for name in named if len(re.findall(rf"\b{name}\b", sources())) < 2] == []
