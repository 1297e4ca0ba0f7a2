"""`secondlens view`: the viewer in this machine's browser, with the model behind it where one is given."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secondlens.cli.options import DeviceOption
from secondlens.cli.output import warnings_to_stderr
from secondlens.errors import AtlasError, MissingExtra

if TYPE_CHECKING:
    from secondlens.viewer.server.app import Served

PORT = 8117


def view_command(
    atlas: Annotated[Path, typer.Argument(help="An atlas's folder, or that of an exported site.")],
    title: Annotated[str | None, typer.Option(help="Shown on every page; default: the folder's name.")] = None,
    model: Annotated[str | None, typer.Option(help="The atlas's model: new images, any text, heat maps.")] = None,
    images: Annotated[str | None, typer.Option(help="Where the surveyed images are now, for heat maps.")] = None,
    beside: Annotated[Path | None, typer.Option(help="A second atlas of the same images, to compare.")] = None,
    ablations: Annotated[
        Path | None, typer.Option(help="ablations.json of 'secondlens ablate --out', to draw.")
    ] = None,
    attack: Annotated[Path | None, typer.Option(help="An attack's folder, for its gallery.")] = None,
    audit: Annotated[
        Path | None, typer.Option(help="JSON of 'secondlens audit ... --out', or a folder of such files, to review.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = PORT,
    token: Annotated[
        str | None, typer.Option(envvar="SECONDLENS_TOKEN", help="The token; default beyond this machine: a new one.")
    ] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="A further name this server is reached by.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = False,
    device: DeviceOption = "cpu",
) -> None:
    """Serve the viewer until Ctrl-C."""
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise MissingExtra(error.name or "fastapi", "viewer", "the viewer's server") from error
    from secondlens.viewer.server.app import create_app
    from secondlens.viewer.server.guard import Access

    with warnings_to_stderr():
        more = {"beside": beside, "ablations": ablations, "attack": attack, "audit": audit}
        served = _served(atlas, title, model, images, device, more)
    access = Access.of(host, allow_host or (), token)
    settings = uvicorn.Config(
        create_app(served, access),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        # More than this many at once are told to come back: each may hold an upload in memory.
        limit_concurrency=128,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
    )
    listening = _bind(settings, host, port)
    address = f"http://{_shown(host)}:{listening.getsockname()[1]}/"
    typer.echo(
        f"{served.title} at {address}{f'?token={access.token}' if access.token else ''}  (Ctrl-C ends it)", err=True
    )
    if browser:
        import webbrowser

        webbrowser.open(address + (f"?token={access.token}" if access.token else ""))
    uvicorn.Server(settings).run(sockets=[listening])


def _served(
    folder: Path,
    title: str | None,
    model: str | None,
    images: str | None,
    device: str,
    more: dict[str, Path | None],
) -> "Served":
    from secondlens.viewer.export import ExportedSite, is_exported
    from secondlens.viewer.server.app import Served

    if is_exported(folder):
        if model is not None:
            raise AtlasError(f"{folder} is an exported site; give the atlas itself to serve it with a model")
        if any(given is not None for given in more.values()):
            raise AtlasError(f"{folder} is an exported site, which is shown as it is; export the atlas again with more")
        site = ExportedSite(folder)
        return Served(site, title or site.title)
    return _served_atlas(folder, title, model, images, device, more)


def _served_atlas(
    folder: Path,
    title: str | None,
    model: str | None,
    images: str | None,
    device: str,
    more: dict[str, Path | None],
) -> "Served":
    from secondlens.atlas import Atlas
    from secondlens.atlas.surveyed import surveyed_images
    from secondlens.lens import load_model
    from secondlens.viewer.heat import IMAGES
    from secondlens.viewer.server.analysis import Analysis
    from secondlens.viewer.server.app import Served
    from secondlens.viewer.site import Site

    opened = Atlas.open(folder)
    site = Site(opened, title=title)
    beside = more["beside"]
    site.add(
        beside=None if beside is None else Atlas.open(beside),
        ablations=more["ablations"],
        attack=more["attack"],
        audit=more["audit"],
    )
    if model is None:
        return Served(site, site.title, opened)
    loaded = load_model(model, device=device)
    pools = [words.pool for words in site.words.values() if words.pool is not None]
    analysis = Analysis(loaded, opened, pools[0] if pools else None)
    try:
        source: Any = surveyed_images(opened, images)
    except Exception as error:
        if images is not None:
            raise
        typer.echo(f"secondlens: no heat maps of top images: {error}", err=True)
        source = None
    served = Served(site, site.title, opened, analysis, source)
    if source is not None:
        site.add_heat(loaded, IMAGES)
    site.extra["served"] = served.status()
    return served


def _bind(settings: Any, host: str, port: int) -> Any:
    """A bound socket, so that a free port is known before the server runs; a port that is taken is a user's mistake."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # From here on a browser that is early waits instead of being turned away.
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise AtlasError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error
    return listening


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        print("secondlens: listening on every address of this machine", file=sys.stderr)
        return "localhost"
    return f"[{host}]" if ":" in host else host
