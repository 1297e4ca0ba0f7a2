"""Check that each room of secondlens imports only rooms below it, and print the rooms in order.

Imports inside functions and under TYPE_CHECKING count; modules that are named only as strings (`import_module`) do
not. `errors` and `progress` may be imported by every room.
"""

import sys
from pathlib import Path

import grimp

SOURCE = Path(__file__).parents[1] / "src" / "secondlens"

ROOMS = (
    "errors",
    "progress",
    "world",
    "numerics",
    "disk",
    "data",
    "lens",
    "atlas",
    "surveys",
    "descriptions",
    "analysis",
    "studies",
    "viewer",
    "cli",
)
"""From bottom to top."""

PAGE = {"secondlens"}
"""The public page imports what it exports; every module may import it, for the version."""

LIBRARIES = {
    "world": {"numpy", "PIL"},
    "numerics": {"torch", "triton", "jaxtyping", "numpy", "scipy"},
}
"""The only libraries that a room may import besides the standard library; others may import any."""

LONGEST = 450
"""Lines that a file may have."""


def violations(graph: grimp.ImportGraph) -> set[str]:
    """Return the imports against the order, each as "importer -> imported"."""
    level = {room: number for number, room in enumerate(ROOMS)}
    if unknown := {name.split(".")[1] for name in graph.find_children("secondlens")} - set(level):
        sys.exit(f"ROOM WITHOUT A PLACE: expected all in ROOMS, got {sorted(unknown)}. Add them to {__file__}.")
    wrong = set()
    for importer in graph.modules - PAGE:
        if graph.is_module_squashed(importer):  # a library
            continue
        room = importer.split(".")[1]
        for imported in graph.find_modules_directly_imported_by(importer) - PAGE:
            if graph.is_module_squashed(imported):
                allowed = imported in LIBRARIES.get(room, {imported}) | sys.stdlib_module_names
            else:
                below = imported.split(".")[1]
                allowed = below == room or level[below] < level[room]
            if not allowed:
                wrong.add(f"{importer} -> {imported}")
    return wrong


def lines_of(room: str) -> list[tuple[int, Path]]:
    """Return the number of lines of each file of a room."""
    files = (SOURCE / room).rglob("*.py") if (SOURCE / room).is_dir() else [SOURCE / f"{room}.py"]
    return [(len(file.read_text(encoding="utf-8").splitlines()), file) for file in files]


def main() -> int:
    """Print the rooms with their files and lines, and what is wrong; return 1 where there is something."""
    graph = grimp.build_graph("secondlens", include_external_packages=True, cache_dir=None)
    wrong = violations(graph)
    for line in sorted(wrong):
        print(f"IMPORT AGAINST THE ORDER: expected only imports of rooms below, got {line}. Move one of the two.")
    print("rooms, from bottom to top:")
    long = []
    for room in ROOMS:
        files = lines_of(room)
        long += [(lines, file) for lines, file in files if lines > LONGEST]
        print(f"  {room:<13} {len(files):>3} files {sum(lines for lines, _ in files):>6} lines")
    for lines, file in long:
        print(f"LONG FILE: expected at most {LONGEST} lines, got {lines} in {file}. Divide it by purpose.")
    return int(bool(wrong or long))


if __name__ == "__main__":
    sys.exit(main())
