"""Pictures with matplotlib, which is an extra: figures are made and saved here."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from secondlens.disk.files import check_file, check_folder, make_folder, write_whole
from secondlens.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")
# Okabe and Ito's palette: told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


def new_figure(purpose: str, width: float | int, height: float | int) -> "Figure":
    """An empty figure, in inches. purpose: what it is for, such as "the picture of the matrix".

    Raises `MissingExtra` without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plots", purpose) from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: Path, dpi: int) -> None:
    """Write it atomically, in the format of the file's ending."""
    options: dict[str, Any] = {"dpi": dpi, "format": path.suffix[1:].lower()}
    make_folder(path.parent)
    write_whole(path, lambda temporary: figure.savefig(temporary, **options))


def check_picture(path: Path | None) -> None:
    """Before what takes long: refuse a picture that could not be drawn or written; None: none is wanted.

    Raises `OutputError` for another ending than `ENDINGS` or a place that cannot be written to, `MissingExtra` without
    matplotlib.
    """
    if path is not None:
        check_file(path, *ENDINGS)
        new_figure(f"the picture {path.name}", 1, 1)


def check_report(folder: Path | None) -> None:
    """The same for the folder of a report with pictures."""
    if folder is not None:
        check_folder(folder)
        new_figure("the report's picture", 1, 1)
