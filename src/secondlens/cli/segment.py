"""`secondlens segment`: where an image shows what a text says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.options import AtlasArgument, DeviceOption, parse_layers
from secondlens.cli.output import JsonOption, print_json, print_table, running
from secondlens.errors import ImageError, SecondLensError


def segment_command(
    model: Annotated[str, typer.Argument(help="A model reference, e.g. hf:openai/clip-vit-base-patch32.")],
    atlas: AtlasArgument,
    image: Annotated[str, typer.Argument(help="A picture, or a folder or list of them.")],
    out: Annotated[Path, typer.Option(help="The overlay's file (.png); for several pictures, a folder.")],
    text: Annotated[
        list[str] | None,
        typer.Option(help="What to look for, or a classifier's label; may be repeated. Default: what is predicted."),
    ] = None,
    method: Annotated[str, typer.Option(help="How; an unknown name lists all.")] = "traced-contribution",
    layers: Annotated[str | None, typer.Option(help="Neurons of these, e.g. 8,9,10; default: the atlas's.")] = None,
    rule: Annotated[
        str | None, typer.Option(help="How neurons are chosen: paper, signed, share or all; default: the method's own.")
    ] = None,
    neurons: Annotated[int, typer.Option(help="How many, for the rules paper and signed.")] = 200,
    share: Annotated[float, typer.Option(help="Of the score, for --rule share.")] = 0.5,
    path: Annotated[
        list[str] | None, typer.Option(help="Contributions only through READER:HEAD; may be repeated.")
    ] = None,
    mixing: Annotated[str, typer.Option(help="How traced methods go back: norms, attention or block.")] = "norms",
    fit: Annotated[str, typer.Option(help="squash, aspect or windows: how a picture is brought to size.")] = "squash",
    overlap: Annotated[float, typer.Option(help="Of neighbouring windows.")] = 0.5,
    threshold: Annotated[float, typer.Option(help="Of a normalised heat map, for the masks.")] = 0.5,
    edges: Annotated[bool, typer.Option(help="Draw maps to the picture's edges (needs the extra 'refine').")] = False,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Write an overlay, the mask, and heat maps as pictures and arrays."""
    from secondlens.analysis.heatmaps import HeatMapper, Options
    from secondlens.atlas import Atlas
    from secondlens.data import decode
    from secondlens.data.sources import is_one_image, open_source
    from secondlens.disk.files import check_file, check_folder
    from secondlens.lens import load_model
    from secondlens.viewer.reports.segmented import write_segmentation

    chosen = parse_layers(layers)
    options = Options(
        layers=None if chosen is None else tuple(chosen),
        rule=rule,
        neurons=neurons,
        share=share,
        mixing=mixing,
        paths=None if path is None else tuple(_path(one) for one in path),
    )
    source = open_source(image)
    several = not is_one_image(image)
    if several:
        check_folder(out)
    else:
        check_file(out, ".png")
    names = _names(source.ids) if several else []
    found, skipped = [], []
    with running() as run:
        mapper = HeatMapper(
            load_model(model, device=device),
            Atlas.open(atlas),
            text or None,
            method=method,
            options=options,
            fit=fit,  # type: ignore[arg-type]
            overlap=overlap,
            edges=edges,
        )
        for index, name in enumerate(source.ids):
            try:
                picture = decode(source.read(index))
            except ImageError as error:
                if not several:
                    raise
                skipped.append({"image": name, "reason": str(error)})
            else:
                target = out / names[index] if several else out
                found.append(write_segmentation(picture, name, mapper(picture), target, threshold).row())
            if several:
                run.progress("segmenting", index + 1, len(source.ids))
    if not found:
        raise ImageError(f"none of the {len(skipped)} pictures could be read; the first: {skipped[0]['reason']}")
    facts = {"method": method, "threshold": threshold, "fit": fit}
    if as_json:
        print_json({**facts, "images": found, "skipped": skipped} if several else {**facts, **found[0]})
        return
    rows = [
        [entry["image"], row["text"], row["score"], row["area"], row["wins"]]
        for entry in found
        for row in entry["texts"]
    ]
    print_table(["image", "text", "score", "area", "wins"], rows, f"Written to {out}")
    for one in skipped:
        typer.echo(f"skipped {one['image']}: {one['reason']}", err=True)


def _path(text: str) -> tuple[int, int]:
    reader, colon, head = text.partition(":")
    if not (colon and reader.isdigit() and head.isdigit()):
        raise SecondLensError(f"expected a path such as 11:3 (reader and head), got {text!r}")
    return int(reader), int(head)


def _names(ids: Sequence[str]) -> list[str]:
    """A file name for each id; the second of two that would be the same gets a number."""
    taken: dict[str, int] = {}
    names = []
    for name in ids:
        stem = "_".join(Path(name).with_suffix("").parts).replace(":", "_").lstrip("/_")
        taken[stem] = taken.get(stem, 0) + 1
        names.append(f"{stem}.png" if taken[stem] == 1 else f"{stem}-{taken[stem]}.png")
    return names
