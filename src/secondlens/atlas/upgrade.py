"""Bring an atlas of schema version 1 to the present one, in its folder and without its model.

1. Compare every file with its hash in the old manifest.
2. Write the files that change into the sub-folder `.upgrade`, and there the new manifest last.
3. Move them to where the old ones are, the manifest last.

An upgrade that was stopped in step 2 has changed nothing yet, and starts over. One that was stopped in step 3 goes on
from the new manifest: a file is either still in `.upgrade` or has the new hash already.

What an old atlas lacks stays absent, and no number changes. So directions keep the signs that their survey gave them
(by a vote of the top images, not by the sum of projections), and descriptions stay true.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from secondlens.atlas.manifest import MANIFEST, SCHEMA_VERSION, Manifest
from secondlens.atlas.store import manifest_of, read_json
from secondlens.disk.files import disk_errors, make_folder, sha256, write_tensors, write_text
from secondlens.errors import AtlasError
from secondlens.progress import Progress, silent

STAGE = ".upgrade"
"""Sub-folder of the files that have been written and not yet moved."""

RENAMED = {"path_shares": "path_fractions", "top_share": "top_fraction", "proved": "certified"}
"""Tensors of a layer: the name in schema 1 and the one in schema 2."""

Convert = Callable[[Path, Path], None]
"""Read a file at the first path, and write it at the second as the new schema has it."""


def upgrade_atlas(folder: str | Path, progress: Progress | None = None) -> list[str]:
    """Upgrade an atlas to the present schema, or finish an upgrade that was interrupted.

    Descriptions are not part of this: see `descriptions.upgrade`.

    Returns:
        Names of the files that changed, without the manifest; none where the atlas has the present schema already.

    Raises:
        AtlasError: for a folder without an atlas, an unknown schema version, and a damaged file, by its name. Nothing
            has been changed then.
    """
    folder = Path(folder)
    path = manifest_of(folder)
    content = read_json(path)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version == SCHEMA_VERSION:
        shutil.rmtree(folder / STAGE, ignore_errors=True)
        return []
    if version != 1:
        raise AtlasError(
            f"{path} has schema version {version}, expected 1 to upgrade it to {SCHEMA_VERSION}; survey the model again"
        )
    try:
        changed = _manifest(content)
        layers = [layer["file"] for layer in changed["layers"]]
        new = Manifest.model_validate(changed)
    except (KeyError, TypeError, ValidationError) as error:
        raise AtlasError(
            f"{path} does not fit schema version 1 ({' '.join(str(error).split())[:160]}); survey the model again"
        ) from error
    replace_files(folder, MANIFEST, new.model_dump(mode="json"), dict.fromkeys(layers, _convert_layer), progress)
    return layers


def replace_files(
    folder: Path,
    manifest: str,
    content: dict[str, Any],
    converters: Mapping[str, Convert],
    progress: Progress | None = None,
) -> None:
    """Replace some files of a folder and then its manifest, so that an interrupted replacement can be finished.

    Args:
        folder: where the files are.
        manifest: name of the manifest.
        content: the new manifest, with the hashes of the old files under `files`.
        converters: name of each file that changes, and what writes its new content.

    Raises:
        AtlasError: where a file is missing or does not have the hash that the manifest says.
    """
    progress, stage = progress or silent, folder / STAGE
    staged = stage / manifest
    for name in (*content["files"], *converters):
        if Path(name).name != name or name not in content["files"]:
            raise AtlasError(f"{folder / manifest} has no hash of {name!r}, or names a file outside its folder")
    if not staged.is_file() or _without(read_json(staged), converters) != _without(content, converters):
        _require(folder, content["files"].items(), progress)
        shutil.rmtree(stage, ignore_errors=True)
        make_folder(stage)
        hashes = dict(content["files"])
        for number, (name, convert) in enumerate(converters.items()):
            progress("upgrading files", number, len(converters))
            convert(folder / name, stage / name)
            hashes[name] = sha256(stage / name)
        progress("upgrading files", len(converters), len(converters))
        write_text(staged, json.dumps({**content, "files": hashes}, indent=2, ensure_ascii=False))
    files: dict[str, str] = read_json(staged)["files"]
    for name in converters:
        if (stage / name).is_file():
            _require(stage, [(name, files[name])], silent)
    with disk_errors(folder):
        for name in converters:
            if (stage / name).is_file():
                (stage / name).replace(folder / name)
    _require(folder, files.items(), silent)
    with disk_errors(folder):
        staged.replace(folder / manifest)
    shutil.rmtree(stage, ignore_errors=True)


def _without(content: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return a manifest without the hashes of some files."""
    return {**content, "files": {name: value for name, value in content["files"].items() if name not in names}}


def _require(folder: Path, files: Iterable[tuple[str, str]], progress: Progress) -> None:
    hashes = list(files)
    for number, (name, expected) in enumerate(hashes):
        progress("checking files", number, len(hashes))
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise AtlasError(
                f"{folder / name} is missing or has changed since it was written; restore it, or survey again"
            )
    progress("checking files", len(hashes), len(hashes))


def _manifest(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of schema 2, with the old hashes. A complete atlas had looked up what one pass left open."""
    kept = {name: value for name, value in old.items() if name != "candidates"}
    layers = [{**layer, "uncertified": 0, "tied": 0} for layer in old["layers"]]
    return {**kept, "schema_version": SCHEMA_VERSION, "capacity": old["candidates"], "layers": layers}


def _convert_layer(old: Path, new: Path) -> None:
    try:
        tensors = load_file(old)
    except Exception as error:
        raise AtlasError(f"cannot read {old}: {error}; survey the model again") from error
    write_tensors(new, upgraded_tensors(tensors))


def upgraded_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a layer's tensors of schema 1 as schema 2 has them.

    `proved` was false for neurons whose top images a second pass had looked up: exact all the same, so `certified`.
    """
    found = {RENAMED.get(name, name): tensor for name, tensor in tensors.items() if name != "drift"}
    if "proved" in tensors:
        found["certified"] = torch.ones_like(tensors["proved"])
        found["tied"] = torch.zeros_like(tensors["proved"])
    return found
