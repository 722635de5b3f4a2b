"""``python -m deploy.policy_page``: the tables of docs/policy.md, made from the policies themselves."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kubectl_slicewise.policy_keys import SCHEMAS, as_markdown, keys_of

PAGE = Path(__file__).parents[1] / "docs" / "policy.md"


def page(text: str) -> str:
    """The page with its tables as the policies are now; what stands around them stays."""
    for kind, schema in SCHEMAS.items():
        begin, end = f"<!-- keys of {kind} -->\n", "<!-- end -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n{as_markdown(keys_of(schema()))}\n\n{end}{tail}"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page anew."""
    argparse.ArgumentParser(
        prog="python -m deploy.policy_page", description="Write the tables of keys in docs/policy.md anew."
    ).parse_args(arguments)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
