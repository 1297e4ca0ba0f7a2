"""An exported site, read back: what `secondlens view SITE` serves."""

import json
from pathlib import Path

from secondlens.errors import AtlasError
from secondlens.viewer.export import FACTS


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
