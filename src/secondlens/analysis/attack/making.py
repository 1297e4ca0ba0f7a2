"""Third stage: pictures of the chosen captions, each written as soon as it is made."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secondlens.analysis.attack.folder import AttackFolder, Cell, stopped
from secondlens.analysis.attack.image_makers import ImageMaker, Order, save_marked
from secondlens.analysis.attack.settings import AttackSettings
from secondlens.disk.files import make_folder, write_text
from secondlens.errors import SecondLensError
from secondlens.progress import Progress


def orders_of(
    descriptions: Mapping[Cell, Mapping[str, Any]], settings: AttackSettings
) -> dict[str, tuple[Cell, Order]]:
    """Every picture that is to be made, by its name: `CELL/D-I`, the D-th chosen caption's I-th picture."""
    orders = {}
    for cell, line in descriptions.items():
        for place, index in enumerate(line["chosen"]):
            for number in range(settings.images):
                name = f"{cell.place}/{place:02d}-{number:02d}"
                orders[name] = (
                    cell,
                    Order(line["kept"][index], cell.seed(settings.seed, "picture", place, number), name),
                )
    return orders


def make_pictures(
    folder: AttackFolder,
    descriptions: Mapping[Cell, Mapping[str, Any]],
    maker: ImageMaker,
    settings: AttackSettings,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """A line a picture: its cell, name, caption, cues in it, seed, metadata. Those that exist are not made again.

    Raises what the back end raises; what was made before is kept.
    """
    orders = orders_of(descriptions, settings)
    write_prompts(folder, orders)
    journal = folder.journal(
        "images", {"image_model": maker.name, "image_settings": maker.settings, "seed": settings.seed}
    )
    lines = {line["name"]: line for line in journal.open(lambda line: (Cell.of(line), line["name"], line["prompt"]))}
    for done, (name, (cell, order)) in enumerate(orders.items()):
        path = folder.images / f"{name}.png"
        known = lines.get(name)
        if known is None or known["prompt"] != order.prompt or not path.is_file():
            make_folder(path.parent)
            try:
                made = maker.make(order)
            except SecondLensError as error:
                raise stopped(error, f"{done} of {len(orders)} pictures are kept") from error
            save_marked(made, path, order, maker.name, maker.drawn)
            place = int(name.rpartition("/")[2].partition("-")[0])
            lines[name] = {
                **cell.facts(),
                "name": name,
                "prompt": order.prompt,
                "cues": descriptions[cell]["cues"][place],
                "seed": order.seed,
                "metadata": made.metadata,
            }
            journal.add(lines[name])
        if progress is not None:
            progress("pictures", done + 1, len(orders))
    return [lines[name] for name in orders]


def write_prompts(folder: AttackFolder, orders: Mapping[str, tuple[Cell, Order]]) -> Path:
    """prompts.csv: what to make, for those who make pictures with a tool of their own."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "prompt"))
    writer.writerows((f"{name}.png", order.prompt) for name, (_, order) in orders.items())
    path = folder.path / "prompts.csv"
    write_text(path, text.getvalue())
    return path
