"""Images in a zip archive, as data sets are often downloaded: read by their members, nothing is unpacked."""

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from secondlens.data.decode import EXTENSIONS, UnreadableImage
from secondlens.data.sources.base import check_ids, has_picture_extension, text_id
from secondlens.errors import ImageError

LARGEST = 1 << 30
"""Bytes of an unpacked member at most: what claims more is not read into memory."""


@dataclass(frozen=True)
class ZipSource:
    """The images of one zip archive, by name; the ids are the members' names, as of the unpacked folder.

    Hidden members (a part of the name begins with a dot, or `__MACOSX`) are left out, as in a folder.

    Raises `ImageError` for a file that is missing or is not a zip archive, and for one without images.
    """

    archive: Path
    ids: tuple[str, ...] = field(init=False, repr=False)
    _members: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            with zipfile.ZipFile(self.archive) as opened:
                names = [member.filename for member in opened.infolist() if not member.is_dir()]
        except (OSError, zipfile.BadZipFile) as error:
            raise ImageError(f"cannot read {self.archive} as a zip archive: {error}; download it again") from error
        members = sorted(name for name in names if has_picture_extension(name) and not _hidden(name))
        if not members:
            raise ImageError(
                f"expected images in {self.archive}, found none; extensions looked for: {' '.join(sorted(EXTENSIONS))}"
            )
        ids = tuple(text_id(name) for name in members)
        check_ids(ids, f"the archive {self.archive}")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "_members", tuple(members))

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "zip"; `location`, the absolute path of the archive."""
        return {"kind": "zip", "location": str(self.archive.resolve())}

    def read(self, index: int) -> bytes:
        """Return the bytes of an image; raises `UnreadableImage` for a member that is damaged, encrypted or huge."""
        name = self._members[index]
        try:
            # Opened for each read: no handle, and so no file position, is ever shared between processes.
            with zipfile.ZipFile(self.archive) as opened:
                size = opened.getinfo(name).file_size
                if size > LARGEST:
                    raise UnreadableImage(f"too large: {size} bytes unpacked, at most {LARGEST}")
                return opened.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise UnreadableImage(f"damaged: {error}") from error
        except RuntimeError as error:  # a password is needed; NotImplementedError: a compression that is not known
            raise UnreadableImage(f"encrypted: {error}") from error

    def path(self, index: int) -> None:
        """Return None: no image of an archive is a file of its own."""
        return


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
