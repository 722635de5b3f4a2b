"""The short top-level names are ours, and the wheel holds the product and nothing else."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]


@pytest.mark.parametrize("name", sorted({package.partition(".")[0] for package in PACKAGES}))
def test_a_top_level_package_is_this_projects_own(name):
    # scheduler, metrics, autoscaler and dra exist on PyPI too: beside one of them ours would be shadowed.
    module = importlib.import_module(name)
    assert Path(module.__file__).parent == ROOT / name


def test_the_package_list_is_complete_and_leaves_tests_and_deploy_out():
    tops = {package.partition(".")[0] for package in PACKAGES}
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in tops
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert found == set(PACKAGES)
    assert not tops & {"tests", "deploy", "benchmarks"}


@pytest.mark.parametrize("script", PROJECT["project"]["scripts"].values())
def test_a_console_script_can_be_called(script):
    module, function = script.split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_data_that_the_packages_read_is_declared():
    declared = PROJECT["tool"]["setuptools"]["package-data"]
    for package, patterns in declared.items():
        folder = ROOT / package.replace(".", "/")
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package}: nothing matches {pattern}"
