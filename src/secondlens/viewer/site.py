"""`Site`: the files of a viewer by name, each made when it is asked for.

The export writes them all; the server answers with the same bytes. A name is looked up in a table, never joined onto
a folder, so that no name reaches any other file.
"""

import mimetypes
import threading
from collections import OrderedDict
from collections.abc import Callable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import secondlens
from secondlens.atlas.metrics import metrics_in
from secondlens.atlas.store import Atlas
from secondlens.descriptions.store import Descriptions
from secondlens.disk.json_text import json_text
from secondlens.lens.model import LensModel
from secondlens.numerics.histogram import HIGHEST, LOWEST, PER_OCTAVE
from secondlens.viewer.audits import read_audits
from secondlens.viewer.beside import compare_atlases
from secondlens.viewer.findings import read_ablations, read_attack
from secondlens.viewer.heat import HeatMaps, framing, grid_of, heat_fields
from secondlens.viewer.layout import SLICE, slices
from secondlens.viewer.neurons import IDS, PER_SPRITE, NeuronFiles, PictureFiles
from secondlens.viewer.words import TEXTS, WordFiles

FORMAT = 2
KEPT = 256
"""Files that a server keeps in memory."""

# The system's table differs between machines; these are all the endings there are.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".bin": "application/octet-stream",
}


class Site:
    """`names`, and `read(name)`. extra: more facts for `site.json`; see docs/viewer.md."""

    def __init__(self, atlas: Atlas, *, title: str | None = None) -> None:
        self.atlas = atlas
        self.title = title or atlas.folder.resolve().name
        self.extra: dict[str, Any] = {}
        self.neurons = NeuronFiles(atlas)
        self.pictures = PictureFiles(atlas)
        self.words = {name: WordFiles(atlas, Descriptions.open(atlas, name)) for name in Descriptions.names(atlas)}
        self._makers = dict(self._static()) | self._data()
        self._lock = threading.RLock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def add(
        self,
        *,
        beside: Atlas | None = None,
        ablations: Path | None = None,
        attack: Path | None = None,
        audit: Path | None = None,
    ) -> None:
        """What the site shows besides its atlas. beside: a second atlas of the same images, to compare. ablations:
        `ablations.json` of a study. attack: an attack's folder. audit: a JSON file of an audit, or a folder of them.

        Raises `AtlasError` for what cannot be read, or is of another atlas or other images.
        """
        if ablations is not None:
            self.extra["ablations"] = read_ablations(ablations)
        if attack is not None:
            self.add_attack(attack)
        if audit is not None:
            self.add_audits(audit)
        if beside is not None:
            self.add_comparison(Site(beside))

    def add_comparison(self, other: "Site") -> None:
        """Compare with a second atlas of the same images, whose own site lies in `beside/`."""
        facts, matches = compare_atlases(self.atlas, other.atlas)
        self.extra["comparison"] = {"title": other.title, **facts}
        for name in other.names:
            self._add(self._makers, f"comparison/{name}", other.make, name)
        for layer, content in matches.items():
            self._makers[f"data/layers/{layer:02d}/comparison.bin"] = lambda content=content: content  # type: ignore[misc]

    def add_heat(self, model: LensModel, images: int, maps: dict[int, HeatMaps] | None = None) -> None:
        """Heat maps on each neuron's first images; without `maps` a server is asked for them, neuron by neuron."""
        rows, columns = grid_of(model)
        shown = min(images, self.atlas.manifest.top)
        self.extra["heat"] = {
            "grid": [rows, columns],
            "framing": framing(model),
            "images": shown,
            "fields": [field.described() for field in heat_fields(shown, rows * columns)],
        }
        for layer, found in (maps or {}).items():
            for number, part in slices(self.atlas.manifest.model.neurons):
                self._add(self._makers, f"data/layers/{layer:02d}/heat-{number:04d}.bin", found.pack, part)

    def add_attack(self, folder: Path) -> None:
        """Show the gallery of an attack's report."""
        self.extra["attack"], files = read_attack(folder)
        for name, path in files.items():
            self._add(self._makers, name, path.read_bytes)

    def add_audits(self, path: Path) -> None:
        """Show audits, one file or a folder of them, for review."""
        self.extra["audit"], files = read_audits(path, self.atlas)
        for name, content in files.items():
            self._makers[name] = lambda content=content: content  # type: ignore[misc]

    @property
    def names(self) -> list[str]:
        """All files, as paths relative to the site."""
        return list(self._makers)

    def read(self, name: str) -> bytes:
        """A file's bytes; `KeyError` for a name that is not among `names`."""
        make = self._makers[name]
        with self._lock:
            if name not in self._kept:
                self._kept[name] = make()
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(name)
            return self._kept[name]

    def make(self, name: str) -> bytes:
        """As `read`, without keeping the bytes: an export writes each file once."""
        return self._makers[name]()

    def _static(self) -> list[tuple[str, Callable[[], bytes]]]:
        return [
            (name, resource.read_bytes) for name, resource in _walk(files("secondlens.viewer") / "static")
        ]  # fmt: skip

    def _data(self) -> dict[str, Callable[[], bytes]]:
        made: dict[str, Callable[[], bytes]] = {"data/site.json": self._facts}
        count = self.atlas.manifest.model.neurons
        for layer in self.atlas.layers:
            base = f"data/layers/{layer:02d}"
            made[f"{base}/columns.bin"] = lambda layer=layer: self.neurons.columns(layer)  # type: ignore[misc]
            for number, rows in slices(count):
                self._add(made, f"{base}/neurons-{number:04d}.bin", self.neurons.part, layer, rows)
                self._add(made, f"{base}/directions-{number:04d}.bin", self.neurons.directions, layer, rows)
        for name, words in self.words.items():
            base = f"data/words/{name}"
            self._add(made, f"{base}/texts.json", words.texts)
            for number, rows in slices(words.settings.texts, TEXTS):
                self._add(made, f"{base}/index-{number:04d}.bin", words.index, rows)
                if words.pool is not None:
                    self._add(made, f"{base}/found-{number:04d}.bin", words.found, rows)
            for layer in words.layers:
                self._add(made, f"{base}/layer-{layer:02d}-columns.bin", words.column_file, layer)
                for number, rows in slices(count):
                    self._add(made, f"{base}/layer-{layer:02d}-{number:04d}.bin", words.part, layer, rows)
                    if words.held_out.there:
                        self._add(made, f"{base}/held-{layer:02d}-{number:04d}.json", words.held_out.part, layer, rows)
        pictures = len(self.atlas.source_ids)
        for number, rows in slices(pictures, IDS):
            self._add(made, f"data/images/ids-{number:04d}.json", self.pictures.ids, rows)
        if self.pictures.there:
            for number, rows in slices(pictures, PER_SPRITE):
                self._add(made, f"data/images/sprite-{number:05d}.jpg", self.pictures.sprite, rows)
        return made

    @staticmethod
    def _add(into: dict[str, Callable[[], bytes]], name: str, make: Callable[..., bytes], *arguments: Any) -> None:
        into[name] = lambda: make(*arguments)

    def _facts(self) -> bytes:
        """`site.json`: everything that a page needs to know before it reads a binary file."""
        manifest = self.atlas.manifest
        facts = {
            "format": FORMAT,
            "secondlens": secondlens.__version__,
            "title": self.title,
            "atlas": manifest.model_dump(exclude={"files"}),
            "slice": SLICE,
            "columns": [metric.name for metric in metrics_in("drawn")],
            "metrics": [metric.described() for metric in metrics_in("drawn")],
            "layers": [
                {
                    "layer": card.layer,
                    "paths": card.paths,
                    "second_pass": card.second_pass,
                    "fields": [field.described() for field in self.neurons.fields(card.layer)],
                }
                for card in manifest.layers
            ],
            "histogram": {"lowest": LOWEST, "highest": HIGHEST, "per_octave": PER_OCTAVE},
            "words": [words.described(name) for name, words in self.words.items()],
            "images": self.pictures.described(),
            "heat": None,
            "ablations": None,
            "attack": None,
            "audit": None,
            "comparison": None,
            "served": None,
            **self.extra,
        }
        return json_text(facts).encode()


def content_type(name: str) -> str:
    """The media type of a file by its ending."""
    ending = name[name.rfind(".") :]
    return TYPES.get(ending) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def _walk(folder: Traversable, before: str = "") -> list[tuple[str, Traversable]]:
    found = []
    for child in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = f"{before}{child.name}"
        found += _walk(child, f"{name}/") if child.is_dir() else [(name, child)]
    return found
