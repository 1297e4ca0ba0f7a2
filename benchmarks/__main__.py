"""Run every benchmark, each in a process of its own, and write the table in README.md.

python -m benchmarks            all of them (about an hour on two cores); those of the viewer need chromium
python -m benchmarks --quick    all of them small (about five minutes), to see that they run: the table goes to stdout,
                                results to a folder that is thrown away
python -m benchmarks --table    only the table, from the results that are there

Not among them: `benchmarks.decoding`, which needs photographs of yours, and `benchmarks.beside`, which needs a command.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.table import table_text, write_table

COMMANDS = (
    "survey --model vit-b-32 --layers 8-10 --images 1000",
    "survey --model vit-b-32 --layers 0-10 --images 1000 --memory 6",
    "survey --model vit-l-14 --layers 20-22 --images 112 --batch-size 16",
    "oracle --model vit-b-32 --layer 9",
    "oracle --model vit-b-32 --layer 9 --dtype float32",
    "sparse --signals 9216 --reference 2",
    "ablation --model vit-b-32 --layers 0-10 --images 1000",
    "rendering --scenes 4000 --workers 2",
    "heatmaps --model vit-b-32 --texts 1",
    "heatmaps --model vit-b-32 --texts 100",
    "indirect --model vit-b-32 --layer 9 --neurons 512 --rounds 3",
    "indirect --model vit-b-32 --layer 10 --neurons 3072 --rows 256 --rounds 3",
    "indirect --model vit-l-14 --layer 21 --images 4 --neurons 128 --rounds 2",
    "cluster --model vit-b-32 --layers 8-10 --images 2048",
    "precision",
    "roofline",
    "growth",
    "viewer export",
    "viewer filter",
    "viewer upload",
    "viewer load",
)
QUICK = (
    "survey --model vit-b-32 --layers 10-10 --images 16 --batch-size 8 --top 4",
    "sparse --texts 2000 --nonzero 8 --signals 16 --reference 1",
    "ablation --model vit-b-32 --layers 10-10 --images 8 --batch-size 4",
    "rendering --scenes 200 --workers 2",
    "heatmaps --model vit-b-32 --methods raw-attention contribution --repeats 2",
    "indirect --model vit-b-32 --layer 10 --images 4 --neurons 16 --rows 16 --rounds 1",
    "cluster --model tiny --layers 8-10 --images 128 --top 10 --rounds 1",
    "precision --count 24 --top 5 --layers 3-4",
    "roofline",
    "growth --quick",
)


def run(commands: tuple[str, ...], results: str | None = None) -> None:
    """One after the other; the first that fails ends it."""
    environment = dict(os.environ) if results is None else {**os.environ, "SECONDLENS_BENCH_RESULTS": results}
    for command in commands:
        print(f"python -m benchmarks.{command}", file=sys.stderr, flush=True)
        module, *arguments = command.split()
        subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *arguments], check=True, env=environment,
                       stdout=sys.stderr)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        with tempfile.TemporaryDirectory() as results:
            run(QUICK, results)
            print(table_text(Path(results)))
        return
    if not arguments.table:
        run(COMMANDS)
    write_table()


if __name__ == "__main__":
    main()
