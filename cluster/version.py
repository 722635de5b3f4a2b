"""The version of this installation, for command lines and metrics."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """The package's version; "unknown" where the code runs without being installed."""
    try:
        return version("slicewise")
    except PackageNotFoundError:
        return "unknown"
