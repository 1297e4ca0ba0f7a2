"""Run every benchmark, each in a process of its own, and write the table in README.md.

python -m benchmarks            all of them (about 20 minutes on two cores); those of the viewer need chromium
python -m benchmarks.decoding   needs photographs of yours, and so is not among them
python -m benchmarks --table    only the table, from the results that are there
"""

import subprocess
import sys

from benchmarks.table import write_table

COMMANDS = (
    "survey --model vit-b-32 --layers 8-10 --images 1000",
    "survey --model vit-b-32 --layers 0-10 --images 1000 --memory 6",
    "survey --model vit-l-14 --layers 20-22 --images 112 --batch-size 16",
    "oracle --model vit-b-32 --layer 9",
    "oracle --model vit-b-32 --layer 9 --dtype float32",
    "ablation --model vit-b-32 --layers 0-10 --images 1000",
    "rendering --scenes 4000 --workers 2",
    "heatmaps --model vit-b-32 --texts 1",
    "heatmaps --model vit-b-32 --texts 100",
    "indirect --model vit-b-32 --layer 9 --neurons 512 --rounds 3",
    "indirect --model vit-b-32 --layer 10 --neurons 3072 --rows 256 --rounds 3",
    "indirect --model vit-l-14 --layer 21 --images 4 --neurons 128 --rounds 2",
    "viewer export",
    "viewer filter",
    "viewer upload",
    "viewer load",
)


def main() -> None:
    if "--table" not in sys.argv[1:]:
        for command in COMMANDS:
            print(f"python -m benchmarks.{command}", file=sys.stderr)
            module, *arguments = command.split()
            subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *arguments], check=True)
    write_table()


if __name__ == "__main__":
    main()
