"""Pictures behind a URL that fsspec knows (s3://, gs://, hf://, https://, file:// ...): a folder, or tar shards.

Only the list of pictures is read at once. A survey takes pictures in a fixed random order, so each is one request for
its own bytes; the loader's processes keep several under way. Every process opens its own connection.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from secondlens.data.decode import EXTENSIONS
from secondlens.data.sources.base import check_ids, has_picture_extension, text_id
from secondlens.data.sources.tar import expand_braces, members_from, one_picture_a_sample
from secondlens.errors import ImageError


def is_url(name: str) -> bool:
    """Whether a name is the URL of a file system, such as s3://bucket/folder."""
    return "://" in name


def open_url(url: str) -> tuple[Any, str]:
    """(file system, path in it); `ImageError` where fsspec does not know it or lacks the library for it."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ImageError(
            f"cannot open {url}: {error}; expected a URL that fsspec knows, with the library for it installed on every "
            "machine (s3fs for s3://, gcsfs for gs://)"
        ) from error


@dataclass(frozen=True)
class RemoteFolderSource:
    """Every picture below a URL, in the order of the paths relative to it: the ids, as of a `FolderSource`.

    Hidden files and folders are left out. Raises `ImageError` where there is no picture or it cannot be listed.
    """

    url: str
    ids: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        system, root = open_url(self.url)
        root = root.rstrip("/")
        try:
            found = system.find(root)
        except OSError as error:
            raise ImageError(f"expected a folder of pictures, cannot list {self.url}: {error}") from error
        names = [path[len(root) + 1 :] for path in found if path.startswith(f"{root}/")]
        shown = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
        files = tuple(sorted(name for name in shown if has_picture_extension(name)))
        if not files:
            raise ImageError(
                f"expected picture files in {self.url}, found none; "
                f"extensions looked for: {' '.join(sorted(EXTENSIONS))}"
            )
        object.__setattr__(self, "ids", files)

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "remote folder"; `location`, the URL."""
        return {"kind": "remote folder", "location": self.url}

    def read(self, index: int) -> bytes:
        """The bytes of the picture at `index`."""
        system, root = open_url(self.url)
        return system.cat_file(f"{root.rstrip('/')}/{self.ids[index]}")

    def path(self, index: int) -> None:
        """None: it is not a file of this machine."""
        return


@dataclass(frozen=True)
class RemoteTarSource:
    """One picture a sample of tar shards behind URLs; ids and rules are those of `TarSource`."""

    shards: tuple[str, ...]
    ids: tuple[str, ...] = field(init=False, repr=False)
    _places: tuple[tuple[int, int, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ids: list[str] = []
        places: list[tuple[int, int, int]] = []
        for number, url in enumerate(self.shards):
            system, path = open_url(url)
            try:
                with system.open(path, "rb") as stream:
                    members = one_picture_a_sample(members_from(stream, url))
            except OSError as error:
                raise ImageError(f"expected a tar shard, cannot read {url}: {error}") from error
            for member in members:
                ids.append(text_id(f"{url.rpartition('/')[2]}/{member.name}"))
                places.append((number, member.offset, member.size))
        if not ids:
            raise ImageError(f"expected pictures in {', '.join(self.shards[:3]) or 'tar shards'}, found none")
        check_ids(ids, "the list of shards")
        object.__setattr__(self, "ids", tuple(ids))
        object.__setattr__(self, "_places", tuple(places))

    @classmethod
    def of(cls, shards: str | Sequence[str]) -> "RemoteTarSource":
        """The pictures of one shard, a list of them, or a pattern with braces or asterisks."""
        given = [shards] if isinstance(shards, str) else shards
        urls: list[str] = []
        for pattern in (one for many in given for one in expand_braces(many)):
            if "*" not in pattern:
                urls.append(pattern)
                continue
            system, path = open_url(pattern)
            found = [system.unstrip_protocol(name) for name in sorted(system.glob(path))]
            if not found:
                raise ImageError(f"expected tar shards, none matches {pattern!r}; check the pattern")
            urls += found
        return cls(tuple(urls))

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "remote tar"; `location`, the URLs in order."""
        return {"kind": "remote tar", "location": list(self.shards)}

    def read(self, index: int) -> bytes:
        """The bytes of the picture at `index`: one request for a range of the shard."""
        number, offset, size = self._places[index]
        system, path = open_url(self.shards[number])
        return system.cat_file(path, start=offset, end=offset + size)

    def path(self, index: int) -> None:
        """None: no picture of a shard is a file of its own."""
        return
