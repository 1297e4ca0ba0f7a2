"""Pictures that the user made with any tool: a folder of files named as `prompts.csv` says."""

from pathlib import Path

from secondlens.analysis.attack.pictures.base import Made, Order
from secondlens.data.decode import EXTENSIONS, UnreadableImage, decode
from secondlens.errors import AuditError


class FolderMaker:
    """The picture of an order is FOLDER/NAME with any picture's ending."""

    drawn = False

    def __init__(self, location: str) -> None:
        """Raises `AuditError` where there is no such folder."""
        self._folder = Path(location).expanduser()
        if not self._folder.is_dir():
            raise AuditError(f"no such folder of pictures: {self._folder}")
        self.name = f"folder:{location}"
        self.settings: dict[str, object] = {}

    def make(self, order: Order) -> Made:
        """The user's picture; raises `AuditError` where it is missing or cannot be read."""
        for ending in sorted(EXTENSIONS):
            path = self._folder / f"{order.name}{ending}"
            if path.is_file():
                try:
                    return Made(decode(path))
                except UnreadableImage as error:
                    raise AuditError(f"cannot read {path}: {error.reason}; make it again") from error
        raise AuditError(
            f"no picture {order.name}.png in {self._folder}; prompts.csv in the attack's folder lists every file and "
            "its prompt: make those that are missing and run the same command again"
        )
