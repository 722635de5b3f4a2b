"""What ``slicewise-controller`` says of flags that it cannot run with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from autoscaler.__main__ import main
from tests.kubeconfigs import nobody


def refusal(flags: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on standard error; the status is 2."""
    usual = ["--prometheus-url", "http://127.0.0.1:1", "--kubeconfig", str(nobody(folder))]
    assert main([*usual, *flags]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said
