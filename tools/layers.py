"""Check that each package of secondlens imports only packages below it.

Imports inside functions and under TYPE_CHECKING count; modules that are named only as strings (`import_module`) do
not. Today's violations are listed in layers.txt. The list may only shrink: a violation that is not in it fails, and so
does an entry of it that no longer holds.
"""

import sys
from pathlib import Path

import grimp

ORDER = (
    {"errors"},
    {"progress"},
    {"world"},
    {"numerics"},
    {"disk"},
    {"data"},
    {"lens"},
    {"atlas"},
    {"plots"},
    {"surveys"},
    {"descriptions"},
    {"applications"},
    {"studies"},
    {"reproduction"},
    {"viewer"},
    {"demo"},
    {"cli"},
)
"""From bottom to top; packages of one level may not import each other."""

PAGE = {"secondlens"}
"""The public page imports what it exports; every module may import it, for the version."""

LIBRARIES = {"world": {"numpy", "PIL"}, "numerics": {"torch", "triton", "jaxtyping", "numpy", "scipy", "sklearn"}}
"""The only libraries that a package may import besides the standard library; others may import any."""

LISTED = Path(__file__).with_name("layers.txt")


def violations(graph: grimp.ImportGraph) -> set[str]:
    """Return the imports against the order, each as "importer -> imported"."""
    level = {package: number for number, packages in enumerate(ORDER) for package in packages}
    if unknown := {name.split(".")[1] for name in graph.find_children("secondlens")} - set(level):
        sys.exit(f"PACKAGE WITHOUT A LAYER: expected all in ORDER, got {sorted(unknown)}. Add them to {__file__}.")
    wrong = set()
    for importer in graph.modules - PAGE:
        if graph.is_module_squashed(importer):  # a library
            continue
        package = importer.split(".")[1]
        for imported in graph.find_modules_directly_imported_by(importer) - PAGE:
            if graph.is_module_squashed(imported):
                allowed = imported in LIBRARIES.get(package, {imported}) | sys.stdlib_module_names
            else:
                below = imported.split(".")[1]
                allowed = below == package or level[below] < level[package]
            if not allowed:
                wrong.add(f"{importer} -> {imported}")
    return wrong


def main() -> int:
    """Print the layers and every difference from the list; return 1 where there is one."""
    graph = grimp.build_graph("secondlens", include_external_packages=True, cache_dir=None)
    listed, today = set(LISTED.read_text().splitlines()), violations(graph)
    print("layers:", " < ".join("|".join(sorted(packages)) for packages in ORDER), f"({len(today)} violations listed)")
    for line in sorted(today - listed):
        print(f"IMPORT AGAINST THE LAYERS: expected only imports of lower packages, got {line}. Move one of the two.")
    for line in sorted(listed - today):
        print(f"VIOLATION IS GONE: expected {line}, got no such import. Delete the line from {LISTED.name}.")
    return int(listed != today)


if __name__ == "__main__":
    sys.exit(main())
