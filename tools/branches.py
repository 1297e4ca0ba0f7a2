"""Print the branch coverage of each package, from the data that `pytest --cov` has written."""

import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from coverage import Coverage

COUNTS = ("covered_branches", "num_branches", "covered_lines", "num_statements")


def main() -> None:
    """Print a line per package: branches and lines that were run, and all."""
    data = Coverage()
    data.load()
    with tempfile.NamedTemporaryFile() as file:
        data.json_report(outfile=file.name)
        files = json.loads(Path(file.name).read_text(encoding="utf-8"))["files"]
    packages: dict[str, list[int]] = defaultdict(lambda: [0] * len(COUNTS))
    for name, content in files.items():
        inside = Path(name).parts[Path(name).parts.index("secondlens") + 1 :]
        for package in (inside[0].removesuffix(".py"), "all"):
            for column, count in enumerate(COUNTS):
                packages[package][column] += content["summary"][count]
    print(f"{'package':<16}{'branches':>18}{'lines':>20}")
    packages["all"] = packages.pop("all")
    for package, (branches, all_branches, lines, all_lines) in packages.items():
        print(f"{package:<16}{share(branches, all_branches):>18}{share(lines, all_lines):>20}")


def share(count: int, total: int) -> str:
    """Return "87 % of 1,234"."""
    return f"{100 * count / total:.0f} % of {total:,}" if total else "-"


if __name__ == "__main__":
    sys.exit(main())
