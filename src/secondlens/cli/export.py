"""`secondlens export`: an atlas as a web site of plain files."""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.options import DeviceOption, WorkersOption
from secondlens.cli.output import JsonOption, print_facts, print_json, running


def export_command(
    atlas: Annotated[Path, typer.Argument(help="An atlas's folder.")],
    site: Annotated[Path, typer.Argument(help="Folder of the site; one that is there is replaced.")],
    title: Annotated[str | None, typer.Option(help="Shown on every page; default: the atlas's folder.")] = None,
    model: Annotated[str | None, typer.Option(help="The atlas's model: adds heat maps to the top images.")] = None,
    images: Annotated[str | None, typer.Option(help="Where the surveyed images are now, for heat maps.")] = None,
    heat_images: Annotated[int, typer.Option(min=1, help="Images a neuron with heat maps.")] = 12,
    beside: Annotated[Path | None, typer.Option(help="A second atlas of the same images, to compare.")] = None,
    ablations: Annotated[
        Path | None, typer.Option(help="ablations.json of 'secondlens ablate --out', to draw.")
    ] = None,
    attack: Annotated[Path | None, typer.Option(help="An attack's folder, for its gallery.")] = None,
    audit: Annotated[
        Path | None, typer.Option(help="JSON of 'secondlens audit ... --out', or a folder of such files, to review.")
    ] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Write the atlas as a site of plain files that any static web server shows, also offline."""
    from secondlens.atlas import Atlas
    from secondlens.atlas.surveyed import surveyed_images
    from secondlens.disk.files import check_folder
    from secondlens.lens import load_model
    from secondlens.viewer.export import export
    from secondlens.viewer.heat import HEAT

    check_folder(site)
    opened = Atlas.open(atlas)
    other = None if beside is None else Atlas.open(beside)
    with running(HEAT.batch_size, workers, device) as run:
        facts = export(
            opened,
            site,
            title=title,
            model=None if model is None else load_model(model, device=run.device),
            source=None if model is None else surveyed_images(opened, images),
            heat_images=heat_images,
            beside=other,
            ablations=ablations,
            attack=attack,
            audit=audit,
            running=run,
        )
    if as_json:
        print_json(facts)
        return
    print_facts({"site": site, "files": facts["files"], "size": f"{facts['bytes'] / 2**20:.1f} MiB"})
    typer.echo(f"look at it with: secondlens view {site}   or: python -m http.server --directory {site}", err=True)
