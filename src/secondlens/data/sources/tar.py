"""Pictures in WebDataset-style tar shards, indexed once and then read by seeking."""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from secondlens.data.decode import EXTENSIONS
from secondlens.data.sources.base import check_ids, has_picture_extension, text_id
from secondlens.errors import ImageError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class _Member(NamedTuple):
    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarSource:
    """One picture a sample of uncompressed tar shards, in their order; the ids are `shard-name.tar/member`.

    As in WebDataset, a sample is the members whose names agree up to the first dot of the file name: of
    `7.jpg`, `7.txt` and `7.mask.png` the picture is `7.jpg`. Raises `ImageError` if a shard is missing,
    compressed, truncated or no tar, if there is no picture, or if two shards of one name repeat a member.
    """

    shards: tuple[Path, ...]
    ids: tuple[str, ...] = field(init=False, repr=False)
    _places: tuple[tuple[int, int, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ids: list[str] = []
        places: list[tuple[int, int, int]] = []
        for number, shard in enumerate(self.shards):
            for member in one_picture_a_sample(_members(shard)):
                ids.append(text_id(f"{shard.name}/{member.name}"))
                places.append((number, member.offset, member.size))
        if not ids:
            raise ImageError(
                f"expected pictures in {', '.join(map(str, self.shards[:3])) or 'tar shards'}, found none; "
                f"extensions looked for: {' '.join(sorted(EXTENSIONS))}"
            )
        check_ids(ids, "the list of shards")
        object.__setattr__(self, "ids", tuple(ids))
        object.__setattr__(self, "_places", tuple(places))

    @classmethod
    def of(cls, shards: str | Path | Sequence[str | Path]) -> "TarSource":
        """The pictures of one shard, a list of them, or a pattern: `{000..012}.tar`, `{a,b}.tar`, `*.tar`."""
        given = [shards] if isinstance(shards, str | Path) else shards
        return cls(tuple(path for one in given for path in _expand(str(one))))

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "tar"; `location`, the absolute paths of the shards in order."""
        return {"kind": "tar", "location": [str(shard.resolve()) for shard in self.shards]}

    def read(self, index: int) -> bytes:
        """The bytes of the picture at `index`."""
        number, offset, size = self._places[index]
        # Opened for each read: no handle, and so no file position, is ever shared between processes.
        with self.shards[number].open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    def path(self, index: int) -> None:
        """None: no picture of a shard is a file of its own."""
        return


@dataclass(frozen=True)
class NestedTarSource:
    """The pictures of the tars in one tar, as ImageNet's training images are published: one inner tar a class.

    Nothing is unpacked. The ids are `inner-name/member`, sorted, so that they are those of the unpacked folder tree.
    Raises `ImageError` where a tar is missing, compressed, truncated or no tar, or where there is no picture.
    """

    archive: Path
    ids: tuple[str, ...] = field(init=False, repr=False)
    _places: tuple[tuple[int, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        inner = [member for member in _members(self.archive) if member.name.endswith(".tar")]
        found: list[tuple[str, int, int]] = []
        with self.archive.open("rb") as stream:
            for outer in inner:
                stream.seek(outer.offset)
                for member in members_from(stream, f"{outer.name} in {self.archive}"):
                    if member.offset + member.size > outer.offset + outer.size:
                        raise ImageError(
                            f"expected a whole tar, {outer.name} in {self.archive} is truncated; download it again"
                        )
                    if has_picture_extension(member.name):
                        name = f"{PurePosixPath(outer.name).stem}/{PurePosixPath(member.name).name}"
                        found.append((text_id(name), member.offset, member.size))
        if not found:
            raise ImageError(f"expected tars of pictures inside {self.archive}, found none; is it another archive?")
        found.sort()
        check_ids([name for name, _, _ in found], f"the archive {self.archive}")
        object.__setattr__(self, "ids", tuple(name for name, _, _ in found))
        object.__setattr__(self, "_places", tuple((offset, size) for _, offset, size in found))

    @property
    def description(self) -> dict[str, Any]:
        """`kind` "nested tar"; `location`, the absolute path of the outer one."""
        return {"kind": "nested tar", "location": str(self.archive.resolve())}

    def read(self, index: int) -> bytes:
        """The bytes of the picture at `index`."""
        offset, size = self._places[index]
        with self.archive.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    def path(self, index: int) -> None:
        """None: no picture of an archive is a file of its own."""
        return


def _expand(pattern: str) -> list[Path]:
    # A file that really is named like a pattern is meant literally.
    if Path(pattern).exists():
        return [Path(pattern)]
    paths: list[Path] = []
    for name in expand_braces(pattern):
        # Path.glob takes no absolute pattern.
        found = [Path(path) for path in sorted(glob(name))] if has_magic(name) else [Path(name)]  # noqa: PTH207
        if not found:
            raise ImageError(f"expected tar shards, no file matches {name!r}; check the pattern")
        paths += found
    return paths


def expand_braces(pattern: str) -> list[str]:
    """`a-{0..2}.tar` or `{a,b}.tar` as the names it stands for; raises `ImageError` for a descending range."""
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    limits = _RANGE.fullmatch(braces[1])
    if limits is None:
        choices = braces[1].split(",")
    else:
        numbers = range(int(limits[1]), int(limits[2]) + 1)
        choices = [f"{number:0{len(limits[1])}d}" for number in numbers]
        if not choices:
            raise ImageError(f"expected an ascending range in {pattern!r}, came {braces[0]}; swap its ends")
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [name for choice in choices for name in expand_braces(before + choice + after)]


def _members(shard: Path) -> Iterator[_Member]:
    """Name, offset and size of the regular files of a tar, or `ImageError` naming the shard."""
    try:
        with shard.open("rb") as stream:
            magic = stream.read(6)
            for prefix, compression in _COMPRESSED.items():
                if magic.startswith(prefix):
                    raise ImageError(
                        f"expected an uncompressed tar, {shard} is compressed with {compression}: its "
                        "pictures cannot be read in any order; decompress it"
                    )
            stream.seek(0)
            yield from members_from(stream, str(shard))
    except OSError as error:
        raise ImageError(f"expected a tar shard, cannot read {shard}: {error.strerror}") from error


def members_from(stream: Any, name: str) -> Iterator[_Member]:
    """The regular files of the tar that starts where a binary stream stands; offsets count from the stream's start."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for info in archive:
                if info.isreg() and not info.issparse():
                    yield _Member(info.name, info.offset_data, info.size)
            # tarfile takes any header it cannot read for the end; the true end is a block of zeros.
            stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ImageError(
                f"expected a whole tar, {name} is truncated or damaged at byte {archive.offset}; copy or write it again"
            )
    except tarfile.TarError as error:
        raise ImageError(
            f"expected a whole tar, {name} is truncated, damaged or no tar ({error}); copy or write it again"
        ) from error


def one_picture_a_sample(members: Iterator[_Member]) -> list[_Member]:
    """Of each sample's members the picture, as `TarSource` says."""
    chosen: dict[str, tuple[bool, _Member]] = {}
    for member in members:
        path = PurePosixPath(member.name)
        if path.name.startswith(".") or not has_picture_extension(member.name):
            continue
        stem, _, extension = path.name.partition(".")
        key, plain = str(path.with_name(stem)), "." not in extension
        if key not in chosen or (plain and not chosen[key][0]):
            chosen[key] = (plain, member)
    return [member for _, member in chosen.values()]
