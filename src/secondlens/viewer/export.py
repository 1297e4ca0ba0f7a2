"""`export`: the site of an atlas as plain files in a folder, and such a folder read back for `secondlens view SITE`."""

import json
import shutil
from pathlib import Path
from typing import Any

from secondlens.atlas.store import Atlas
from secondlens.data.sources import ImageSource
from secondlens.disk.files import disk_errors
from secondlens.errors import AtlasError
from secondlens.lens.model import LensModel
from secondlens.progress import Running
from secondlens.viewer.heat import HEAT, IMAGES, heat_maps
from secondlens.viewer.site import Site

FACTS = "data/site.json"


def export(
    atlas: Atlas,
    out: str | Path,
    *,
    title: str | None = None,
    model: LensModel | None = None,
    source: ImageSource | None = None,
    heat_images: int = IMAGES,
    beside: Atlas | None = None,
    ablations: Path | None = None,
    attack: Path | None = None,
    audit: Path | None = None,
    running: Running = HEAT,
) -> dict[str, Any]:
    """Write the site of an atlas; any static web server can show it. Returns folder, files and bytes.

    The folder is written beside its place and put there when it is whole; a site that was there is replaced.
    model, source: the model and the images of the survey, for heat maps on each neuron's first `heat_images` images.
    beside: a second atlas of the same images, for the page that compares the two. ablations: `ablations.json` of a
    study, for the chart of accuracies on the overview page. attack: an attack's folder, for its gallery.
    audit: a JSON file of an audit or a folder of them, for the review page.

    Raises `AtlasError` for a folder that holds something else than a site, an atlas of another model, a second atlas of
    other images, or an audit of another atlas.
    """
    out = Path(out)
    _require_free(out)
    # What can be refused comes before what takes long.
    site = Site(atlas, title=title)
    site.add(beside=beside, ablations=ablations, attack=attack, audit=audit)
    if model is not None:
        if source is None:
            raise AtlasError("heat maps need the images of the survey beside the model")
        maps = heat_maps(model, atlas, source, atlas.layers, images=heat_images, running=running)
        site.add_heat(model, heat_images, maps)
    partial = out.with_name(f".{out.name}.partial")
    size = 0
    with disk_errors(out.parent):
        shutil.rmtree(partial, ignore_errors=True)
        # The facts last: a folder that has them is complete.
        ordered = sorted(site.names, key=lambda name: (name == FACTS, name.endswith(FACTS)))
        for done, name in enumerate(ordered, 1):
            content = site.make(name)
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            size += len(content)
            running.progress("files", done, len(ordered))
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    return {"site": str(out), "files": len(ordered), "bytes": size}


def _require_free(out: Path) -> None:
    """Raise unless nothing of value is there: no folder, an empty one, or a site of ours."""
    if not out.exists():
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    try:
        known = "format" in json.loads((out / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = False
    if not known:
        raise AtlasError(f"{out} is there and holds something else than an exported site; choose another folder")


class ExportedSite:
    """`names` and `read(name)` of a folder, as `Site` has them. Links out of the folder are not followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            self.title: str = facts["title"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AtlasError(
                f"{folder} is neither an atlas nor an exported site; make one with: secondlens export"
            ) from error
        found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
        self._paths = {path.relative_to(folder).as_posix(): path for path in found}

    @property
    def names(self) -> list[str]:
        """All files."""
        return list(self._paths)

    def read(self, name: str) -> bytes:
        """One file's bytes; `KeyError` for a name that is not among `names`."""
        return self._paths[name].read_bytes()


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported site."""
    return (folder / FACTS).is_file()
