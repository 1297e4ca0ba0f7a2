"""Bring the descriptions in an atlas's folder from schema version 1 to the present one; no number changes."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError

from secondlens.atlas.store import manifest_of, read_json
from secondlens.atlas.upgrade import STAGE, replace_files
from secondlens.descriptions.store import CARD, FOLDER, SCHEMA_VERSION, DescriptionCard, texts_file
from secondlens.disk.files import write_table
from secondlens.errors import AtlasError
from secondlens.progress import Progress


def upgrade_descriptions(atlas: Path, progress: Progress | None = None) -> list[str]:
    """Upgrade the descriptions of an atlas, which may be of either schema; an interrupted upgrade goes on.

    Returns:
        Names of the folders that changed.

    Raises:
        AtlasError: for a folder without an atlas, an unfinished description of schema 1, another schema version, and a
            damaged file, by its name.
    """
    manifest_of(atlas)
    folders = [path for path in sorted((atlas / FOLDER).glob("*")) if path.is_dir()]
    for folder in folders:
        note = folder / "progress" / "settings.json"
        if note.is_file() and not (folder / CARD).is_file() and "null_draws" in read_json(note):
            raise AtlasError(
                f"{folder} holds an unfinished description of schema version 1; finish it with the secondlens that "
                "began it, or remove the folder"
            )
    return [folder.name for folder in folders if (folder / CARD).is_file() and _upgrade(folder, progress)]


def _upgrade(folder: Path, progress: Progress | None) -> bool:
    content = read_json(folder / CARD)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version == SCHEMA_VERSION:
        shutil.rmtree(folder / STAGE, ignore_errors=True)
        return False
    if version != 1:
        raise AtlasError(
            f"{folder / CARD} has schema version {version}, expected 1 to upgrade it to {SCHEMA_VERSION}; remove the "
            "folder and describe again"
        )
    try:
        new = DescriptionCard.model_validate(_card(content))
    except (KeyError, TypeError, ValidationError) as error:
        raise AtlasError(
            f"{folder / CARD} does not fit schema version 1 ({' '.join(str(error).split())[:160]}); remove the folder "
            "and describe again"
        ) from error
    tables = dict.fromkeys(map(texts_file, new.layers), _convert_table)
    replace_files(folder, CARD, new.model_dump(mode="json"), tables, progress)
    return True


def _card(old: dict[str, Any]) -> dict[str, Any]:
    settings = dict(old["settings"])
    settings["n_resamples"] = settings.pop("null_draws")
    return {**old, "schema_version": SCHEMA_VERSION, "settings": settings}


def _convert_table(old: Path, new: Path) -> None:
    """Name the column `share` `fraction`."""
    try:
        table = pq.read_table(old)
    except Exception as error:
        raise AtlasError(f"cannot read {old}: {error}; remove the folder and describe again") from error
    write_table(new, table.rename_columns(["fraction" if name == "share" else name for name in table.column_names]))
