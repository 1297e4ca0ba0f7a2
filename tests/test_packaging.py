"""What is imported is declared, and what is declared is pinned."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Not installed beside the tests: open_clip has an environment of its own.
DISTRIBUTIONS = {"open_clip": ["open_clip_torch"], "timm": ["timm"]}


def normalised(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def imported() -> dict[str, list[str]]:
    """Top-level packages that the source imports, and where."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.append(node.module)
            for name in names:
                found.setdefault(name.partition(".")[0], []).append(str(file.relative_to(ROOT)))
    return found


def test_every_imported_package_is_declared() -> None:
    declared = {normalised(text) for text in PROJECT["dependencies"]}
    for texts in PROJECT["optional-dependencies"].values():
        declared |= {normalised(text) for text in texts}
    known = packages_distributions() | DISTRIBUTIONS
    for package, files in imported().items():
        if package in sys.stdlib_module_names or package == "secondlens":
            continue
        distributions = {normalised(name) for name in known.get(package, [package])}
        assert distributions & declared, f"{package} ({', '.join(sorted(distributions))}) is imported in {files[0]}"


def test_every_declared_package_of_the_tests_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {normalised(line) for line in lines if not line.startswith("#")}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if not line.startswith("#"))
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert {normalised(text) for text in wanted} <= pinned


# What only works with an extra, and is imported by what asks for it: the server, and kernels for CUDA.
NEEDS_AN_EXTRA = ("secondlens.viewer.server.", "secondlens.numerics.kernels.")

IMPORT_ALL = """
import importlib, pkgutil, sys
absent, needy = sys.argv[1].split(","), tuple(sys.argv[2].split(","))
sys.modules |= dict.fromkeys(absent)
import secondlens
for module in pkgutil.walk_packages(secondlens.__path__, "secondlens."):
    if not module.name.startswith(needy):
        importlib.import_module(module.name)
"""


def test_every_module_is_imported_without_the_extras() -> None:
    base = {normalised(text) for text in PROJECT["dependencies"]}
    known = packages_distributions() | DISTRIBUTIONS
    absent = [
        package
        for package in imported()
        if package not in sys.stdlib_module_names
        and package != "secondlens"
        and not {normalised(name) for name in known.get(package, [package])} & base
    ]
    assert {"matplotlib", "ray", "fastapi", "open_clip"} <= set(absent)
    words = [sys.executable, "-c", IMPORT_ALL, ",".join(absent), ",".join(NEEDS_AN_EXTRA)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
