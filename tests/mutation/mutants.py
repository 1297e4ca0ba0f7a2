"""Change the source in one small place at a time, and see whether a test fails.

    python tests/mutation/mutants.py --seed 0 --count 60          # print the mutants that are drawn
    python tests/mutation/mutants.py --seed 0 --count 60 --run    # run their tests as well

The draw is stratified: every area gets its share of `--count`; within an area an operator is drawn, by the square root
of its number of sites, then one of its sites: rare operators (a dropped merge, a flipped flag) have a chance beside
signs and constants. Each mutant is written into a copy of the tree, never into the checkout. Its file's own tests run
first, then its area's; those that survive are run again with `--survivors`, and then see wider tests too.
Results are appended to `--results`, so a run that was stopped goes on. Choices (defaults, module constants) and
performance (block sizes, memory estimates) are not mutated, nor is what only words or draws something.
"""

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

import pytest
from areas import AREAS, DIRECT, EQUIVALENT, SKIPPED, UNSTEADY, Area
from sites import ROOT, Mutant, Sites

PACKAGE = "src/secondlens"
LIMIT = 600
"""Seconds of processor time that a mutant's tests may take."""

# What tests import besides the package; the first comes before anything that imports torchvision.
IMPORTED = (
    "torchvision_names",
    "numpy",
    "torch",
    "scipy.stats",
    "sklearn",
    "PIL.Image",
    "pyarrow.parquet",
    "hypothesis",
)
IMPORTED += ("transformers", "transformers.models.clip", "jaxtyping", "pydantic", "typer.testing")


def sources(area: Area) -> list[Path]:
    """The files of an area."""
    files = {path for pattern in area.source for path in (ROOT / PACKAGE).glob(pattern)}
    return sorted(files - {ROOT / PACKAGE / name for name in SKIPPED})


def draw(areas: dict[str, Area], seed: int, count: int) -> Iterator[Mutant]:
    """Mutants of all areas, each area's share of `count`; known equivalents are replaced by the next."""
    weights = sum(area.weight for area in areas.values())
    before = 0
    for name, area in areas.items():
        share = round((before + area.weight) * count / weights) - round(before * count / weights)
        before += area.weight
        rng, sites = random.Random(f"{seed} {name}"), defaultdict[str, list[Mutant]](list)
        for path in sources(area):
            for mutant in Sites(name, path).found:
                sites[mutant.operator].append(mutant)
        while share and sites:
            operators = sorted(sites)
            operator = rng.choices(operators, [len(sites[name]) ** 0.5 for name in operators])[0]
            mutant = sites[operator].pop(rng.randrange(len(sites[operator])))
            sites = defaultdict(list, {key: value for key, value in sites.items() if value})
            if (mutant.path, mutant.after) not in EQUIVALENT:
                share -= 1
                yield mutant


def run_tests(tree: Path, tests: list[str]) -> str | None:
    """The first test that fails in a tree, None if all pass.

    In a fork of this process, which has imported what tests need: only the package itself is imported anew.
    """
    chosen = [test for test in dict.fromkeys(tests) if (tree / test.split("::")[0]).exists()]
    options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", *(f"--deselect={test}" for test in UNSTEADY)]
    log = tree.parent / "log"
    child = os.fork()
    if child == 0:
        code = 3
        try:
            os.setsid()
            # Of processor time, which other people's work does not change; and of sleeping for ever.
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 5))
            signal.alarm(10 * LIMIT)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1), os.dup2(output, 2)
            os.chdir(tree)
            os.environ |= {"PYTHONPATH": str(tree / "src"), "TMPDIR": str(tree.parent / "tmp")}
            sys.path.insert(0, str(tree / "src"))
            code = int(pytest.main([*options, *chosen]))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status == 0:
        return None
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    lines = log.read_text(errors="replace").splitlines()
    failed = [line.split(" - ")[0].split(" ", 1)[1] for line in lines if line[:6] in ("FAILED", "ERROR ")]
    return failed[0] if failed else f"pytest ended with {os.waitstatus_to_exitcode(status)}"


def copy_tree(folder: Path) -> Path:
    """What tests need of the checkout, with ../shared beside it."""
    tree = folder / "tree"
    (folder / "tmp").mkdir()
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    (folder / "shared").symlink_to((ROOT.parent / "shared").resolve())
    return tree


def judge(tree: Path, mutant: Mutant, area: Area, wide: bool) -> dict:
    """Run the tests of one mutant in a tree."""
    file, text = tree / mutant.path, (ROOT / mutant.path).read_bytes()
    direct = [test for part, tests in DIRECT.items() if part in mutant.path for test in tests]
    try:
        file.write_bytes(text[: mutant.start] + mutant.new.encode() + text[mutant.end :])
        forget(file)
        caught = run_tests(tree, [*direct, *area.quick]) or (run_tests(tree, area.wide) if wide else None)
    finally:
        file.write_bytes(text)
        forget(file)
    return {"key": mutant.key, "caught": caught, "wide": wide, **asdict(mutant)}


def forget(file: Path) -> None:
    """Remove compiled copies: Python compares only a size and a time in seconds."""
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        compiled.unlink()


def run(mutants: list[Mutant], jobs: int, wide: bool, results: dict[str, dict], file: Path) -> None:
    """Judge mutants, `jobs` at a time, each in a copy of the tree; append what is found to the file."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TRITON_INTERPRET"):
        os.environ.setdefault(name, "1")
    sys.path.insert(0, str(ROOT / "tests"))
    for name in IMPORTED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch, ThreadPoolExecutor(jobs) as pool:
        trees = SimpleQueue[Path]()
        for job in range(jobs):
            (Path(scratch) / str(job)).mkdir()
            trees.put(copy_tree(Path(scratch) / str(job)))

        def work(mutant: Mutant) -> dict:
            tree = trees.get()
            try:
                return judge(tree, mutant, AREAS[mutant.area], wide)
            finally:
                trees.put(tree)

        for record in pool.map(work, mutants):
            results[record["key"]] = record
            with file.open("a") as lines:
                lines.write(json.dumps(record) + "\n")


def main() -> None:
    """Draw, run what has no result yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--areas", nargs="+", default=list(AREAS), choices=list(AREAS))
    parser.add_argument("--run", action="store_true", help="run the quick tests of mutants without a result")
    parser.add_argument("--survivors", action="store_true", help="run survivors again, the wider tests as well")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("mutants.jsonl"))
    options = parser.parse_args()
    areas = {name: AREAS[name] for name in options.areas if any(sources(AREAS[name]))}
    mutants = list(draw(areas, options.seed, options.count))
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    results = {record["key"]: record for record in map(json.loads, lines)}
    waiting = [m for m in mutants if options.run and m.key not in results]
    waiting += [m for m in mutants if options.survivors and m.key in results and not results[m.key]["caught"]]
    if waiting:
        run(waiting, options.jobs, options.survivors, results, options.results)
    print("| file:line | operator | before | after | caught by |\n|---|---|---|---|---|")
    for mutant in mutants:
        verdict = results[mutant.key]["caught"] or "survived" if mutant.key in results else ""
        place = f"{mutant.path.removeprefix(PACKAGE + '/')}:{mutant.line}"
        before, after = (f"`{text}`".replace("|", "\\|") for text in (mutant.before, mutant.after))
        print(f"| {place} | {mutant.operator} | {before} | {after} | {verdict} |")
    caught = sum(bool(results[m.key]["caught"]) for m in mutants if m.key in results)
    print(f"\n{caught} of {sum(m.key in results for m in mutants)} caught")


if __name__ == "__main__":
    main()
