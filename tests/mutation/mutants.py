"""Change the source in one small place at a time, and see whether a test fails.

    python tests/mutation/mutants.py --seed 0 --count 60          # print the mutants that are drawn
    python tests/mutation/mutants.py --seed 0 --count 60 --run    # run their tests as well

The draw is stratified: every area gets its share of `--count`; within an area an operator is drawn, by the square root
of its number of sites, then one of its sites: rare operators (a dropped merge, a flipped flag) have a chance beside
signs and constants. Each mutant is written into a copy of the tree, never into the checkout. Its area's quick tests run
first, and its wider tests if none of them fails.
Results are appended to `--results`, so a run that was stopped goes on. Choices (defaults, module constants) and
performance (block sizes, memory estimates) are not mutated, nor is what only words or draws something.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

from areas import AREAS, EQUIVALENT, REPLACED, UNSTEADY, Area
from sites import ROOT, Mutant, Sites

PACKAGE = "src/secondlens"


def sources(area: Area) -> list[Path]:
    """The files of an area."""
    return sorted(p for part in area.source for p in (ROOT / PACKAGE).glob(part) if p.name not in REPLACED)


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
            if mutant.key not in EQUIVALENT:
                share -= 1
                yield mutant


def pytest(tree: Path, tests: list[str], timeout: float) -> str | None:
    """The first test that fails in a tree, None if all pass."""
    chosen = [test for test in tests if (tree / test.split("::")[0]).exists()]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *chosen]
    command += [f"--deselect={test}" for test in UNSTEADY]
    environment = {**os.environ, **threads, "PYTHONPATH": str(tree / "src"), "TMPDIR": str(tree.parent / "tmp")}
    process = subprocess.Popen(
        command, cwd=tree, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "time limit"
    if process.returncode == 0:
        return None
    failed = [line.split(" - ")[0].split(" ", 1)[1] for line in output.splitlines() if line[:6] in ("FAILED", "ERROR ")]
    return failed[0] if failed else f"pytest ended with {process.returncode}"


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


def judge(tree: Path, mutant: Mutant, area: Area) -> dict:
    """Run the tests of one mutant in a tree."""
    file, text = tree / mutant.path, (ROOT / mutant.path).read_bytes()
    try:
        file.write_bytes(text[: mutant.start] + mutant.new.encode() + text[mutant.end :])
        forget(file)
        caught = pytest(tree, area.quick, 150) or pytest(tree, area.wide, 600)
    finally:
        file.write_bytes(text)
        forget(file)
    return {"key": mutant.key, "caught": caught, **asdict(mutant)}


def forget(file: Path) -> None:
    """Remove compiled copies: Python compares only a size and a time in seconds."""
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        compiled.unlink()


def main() -> None:
    """Draw, run what has no result yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--areas", nargs="+", default=list(AREAS), choices=list(AREAS))
    parser.add_argument("--run", action="store_true", help="run the tests of mutants without a result")
    parser.add_argument("--survivors", action="store_true", help="run those again that survived")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("mutants.jsonl"))
    options = parser.parse_args()
    areas = {name: AREAS[name] for name in options.areas if any(sources(AREAS[name]))}
    mutants = list(draw(areas, options.seed, options.count))
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    results = {record["key"]: record for record in map(json.loads, lines)}
    waiting = [m for m in mutants if m.key not in results or (options.survivors and not results[m.key]["caught"])]
    if options.run and waiting:
        with tempfile.TemporaryDirectory(prefix="mutants-") as scratch, ThreadPoolExecutor(options.jobs) as pool:
            trees = SimpleQueue[Path]()
            for job in range(options.jobs):
                (Path(scratch) / str(job)).mkdir()
                trees.put(copy_tree(Path(scratch) / str(job)))

            def work(mutant: Mutant) -> dict:
                tree = trees.get()
                try:
                    return judge(tree, mutant, AREAS[mutant.area])
                finally:
                    trees.put(tree)

            for name in {mutant.area for mutant in waiting}:
                if failed := pytest(Path(scratch) / "0" / "tree", AREAS[name].quick, 600):
                    sys.exit(f"the tests of {name} fail without a mutant: {failed}")
            for record in pool.map(work, waiting):
                results[record["key"]] = record
                with options.results.open("a") as file:
                    file.write(json.dumps(record) + "\n")
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
