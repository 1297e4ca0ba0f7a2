import io
import json
import os
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from pictures import encoded, noise, write_tar
from PIL import Image

from secondlens.data import (
    DatasetSource,
    FileListSource,
    FolderSource,
    ImageSource,
    TarSource,
    UnreadableImage,
    decode,
    open_source,
)
from secondlens.data.sources import is_one_image
from secondlens.errors import ImageError, MissingExtra


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number, name in enumerate(["b/2.JPG", "b/10.png", "a.webp", "c/d/e.tiff"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise(seed=number).save(root / name)
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden.jpg").write_bytes(b"")
    (root / ".cache").mkdir()
    (root / ".cache/x.jpg").write_bytes(b"")
    return root


def pixels(source: ImageSource, index: int) -> bytes:
    return decode(source.read(index)).tobytes()


def assert_portable(source: ImageSource) -> None:
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy.ids) == list(source.ids)
    assert pixels(copy, 0) == pixels(source, 0)
    assert json.loads(json.dumps(source.description)) == source.description
    assert isinstance(source, ImageSource)
    assert open_source(source) is source


def test_folder(folder: Path) -> None:
    source = open_source(str(folder))
    assert isinstance(source, FolderSource)
    assert source.ids == ("a.webp", "b/10.png", "b/2.JPG", "c/d/e.tiff")
    assert source.path(1) == folder / "b/10.png"
    assert pixels(source, 1) == noise(seed=1).tobytes()
    assert source.description == {"kind": "folder", "location": str(folder)}
    assert_portable(source)


def test_folder_follows_links_but_no_loops(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    noise().save(elsewhere / "z.png")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "c/up").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    source = FolderSource(folder)
    assert source.ids == ("a.webp", "b/10.png", "b/2.JPG", "c/d/e.tiff", "gone.jpg", "linked/z.png")
    with pytest.raises(UnreadableImage, match=r"^missing file$"):
        decode(source.read(4))


def test_folder_with_a_name_that_is_no_text(folder: Path) -> None:
    odd = os.fsencode(folder) + b"/\xff.png"
    with open(odd, "wb") as file:  # noqa: PTH123 - a pathlib path is text
        file.write(encoded(noise(seed=9), "PNG"))
    source = FolderSource(folder)
    index = source.ids.index("\\xff.png")
    assert pixels(source, index) == noise(seed=9).tobytes()


def test_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_text("")
    with pytest.raises(ImageError, match=r"found none; extensions looked for: .*\.jpg .*\.webp"):
        open_source(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        open_source(tmp_path / "nothing")
    with pytest.raises(ImageError, match="is not a folder"):
        FolderSource(tmp_path / "x.gz")


def test_list_of_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    source = open_source(["b/10.png", Path("./a.webp"), str(folder / "c/d/e.tiff")])
    assert source.ids == ("b/10.png", "a.webp", f"{folder.as_posix()}/c/d/e.tiff")
    assert source.path(0) == folder / "b/10.png"
    assert pixels(source, 2) == noise(seed=3).tobytes()
    assert source.description == {"kind": "files", "location": str(folder), "base": str(folder)}
    assert_portable(source)
    assert open_source("a.webp").ids == ("a.webp",)


def test_table_of_files_is_relative_to_itself(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text('\ufefffile,label\nphotos/b/10.png,3\n"photos/a.webp",4\n', encoding="utf-8")
    source = open_source(table)
    assert isinstance(source, FileListSource)
    assert source.ids == ("photos/b/10.png", "photos/a.webp")
    assert pixels(source, 0) == noise(seed=1).tobytes()
    assert source.description == {"kind": "files", "location": str(table), "base": str(tmp_path)}
    assert_portable(source)
    text = tmp_path / "files.txt"
    text.write_text(f"photos/b/10.png\n\n{folder}/a.webp\r\n")
    assert open_source(str(text)).ids == ("photos/b/10.png", f"{folder.as_posix()}/a.webp")


def test_one_image_or_a_set_of_one(folder: Path, tmp_path: Path) -> None:
    image = folder / "a.webp"
    sets = [tmp_path / "one", tmp_path / "one.txt", tmp_path / "one.tar", tmp_path / "nothing.webp"]
    sets[0].mkdir()
    (sets[0] / "a.webp").write_bytes(image.read_bytes())
    sets[1].write_text(str(image))
    with tarfile.open(sets[2], "w") as shard:
        shard.add(image, "a.webp")
    assert all(len(open_source(some).ids) == 1 for some in [image, *sets[:3]])
    assert is_one_image(image)
    assert is_one_image(str(image))
    assert not any(is_one_image(some) for some in [*sets, "datasets:a.webp", f"file://{image}"])


def test_lists_and_tables_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="the list of files has none"):
        open_source([])
    with pytest.raises(ImageError, match=r"'a.jpg', 'b.jpg', 'c.jpg' and 1 more more than once"):
        open_source(["a.jpg", "b.jpg", "c.jpg", "d.jpg"] * 2 + ["e.jpg"])
    table = tmp_path / "t.csv"
    table.write_text("path,label\na.jpg,1\n")
    with pytest.raises(ImageError, match=r"column 'file' in .*t.csv, its columns are \['path', 'label'\]"):
        open_source(table)
    table.write_text("")
    with pytest.raises(ImageError, match="column 'file'"):
        open_source(table)
    table.write_text("label,file\n1,a.jpg\n2\n")
    with pytest.raises(ImageError, match="line 3"):
        open_source(table)
    table.write_bytes(b"file\n\xff\xfe.jpg\n")
    with pytest.raises(ImageError, match="UTF-8"):
        open_source(table)
    with pytest.raises(ImageError, match="No such file"):
        FileListSource.from_table(tmp_path / "none.csv")


@pytest.mark.parametrize("given", [3, None, object()])
def test_things_that_hold_no_pictures(given: object) -> None:
    with pytest.raises(ImageError, match=f"came {type(given).__name__}"):
        open_source(given)


def test_a_file_of_an_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "x.rar").write_bytes(b"PK")
    with pytest.raises(ImageError, match=r"came the file .*x.rar"):
        open_source(tmp_path / "x.rar")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    root = tmp_path / "shards"
    for number in range(3):
        members = {
            "a/7.txt": b"seven",
            "a/7.mask.png": encoded(noise(seed=99), "PNG"),
            "a/7.png": encoded(noise(seed=number), "PNG"),
            "a/8.cls": b"1",
            f"a/{'long' * 40}.PNG": encoded(noise(seed=10 + number), "PNG"),
        }
        write_tar(root / f"{number:03d}.tar", members)
    return root


def test_tar(shards: Path) -> None:
    source = open_source(shards / "001.tar")
    assert isinstance(source, TarSource)
    assert source.ids == ("001.tar/a/7.png", f"001.tar/a/{'long' * 40}.PNG")
    assert pixels(source, 1) == noise(seed=11).tobytes()
    assert pixels(source, 0) == noise(seed=1).tobytes()
    assert source.path(0) is None
    assert source.description == {"kind": "tar", "location": [str(shards / "001.tar")]}
    assert_portable(source)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("{000..002}.tar", "012"),
        ("{001..002}.tar", "12"),
        ("00{2,0}.tar", "20"),
        ("0{0,}{0..1}.tar", "01"),
        ("*.tar", "012"),
        ("00[02].tar", "02"),
    ],
)
def test_tar_patterns(shards: Path, pattern: str, found: str) -> None:
    if "{0,}" in pattern:
        write_tar(shards / "00.tar", {"x.png": encoded(noise(), "PNG")})
        write_tar(shards / "01.tar", {"x.png": encoded(noise(), "PNG")})
    source = open_source(f"{shards}/{pattern}")
    names = list(dict.fromkeys(id_.split("/")[0] for id_ in source.ids))
    if "{0,}" in pattern:
        assert names == ["000.tar", "001.tar", "00.tar", "01.tar"]
    else:
        assert names == [f"00{number}.tar" for number in found]
    assert [Path(path).name for path in source.description["location"]] == names


def test_list_of_tars(shards: Path) -> None:
    assert len(open_source([shards / "000.tar", str(shards / "002.tar")]).ids) == 4


def test_a_tar_is_reopened_from_its_description(shards: Path) -> None:
    source = open_source(f"{shards}/*.tar")
    assert open_source(source.description["location"]).ids == source.ids


def test_dotted_names_without_a_plain_one(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "x.tar", {"1.left.png": b"l", "1.right.png": b"r", ".hidden.png": b"h"})
    assert open_source(tar).ids == ("x.tar/1.left.png",)


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_compressed_tar(tmp_path: Path, mode: str) -> None:
    names = {"gz": "gzip", "bz2": "bzip2", "xz": "xz"}
    for name in ("x.tar", f"x.tar.{mode}"):
        with tarfile.open(tmp_path / name, f"w:{mode}") as archive:
            archive.addfile(tarfile.TarInfo("empty.jpg"))
        with pytest.raises(ImageError, match=f"x.tar.* is compressed with {names[mode]}"):
            open_source(tmp_path / name)


def test_damaged_tars(shards: Path, tmp_path: Path) -> None:
    whole = (shards / "000.tar").read_bytes()
    with tarfile.open(shards / "000.tar") as archive:
        boundary = archive.getmembers()[2].offset
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in archive.getmembers())
    damaged = bytearray(whole)
    damaged[boundary : boundary + 512] = b"x" * 512
    for number, content in enumerate(
        [
            whole[: boundary + 700],
            whole[:boundary],
            whole[: boundary + 100],
            whole[:end],
            damaged,
            b"",
            b"text" * 300,
        ]
    ):
        tar = tmp_path / f"broken-{number}.tar"
        tar.write_bytes(content)
        with pytest.raises(ImageError, match=f"expected a whole tar, .*broken-{number}.tar is truncated"):
            open_source(tar)


def test_tars_that_cannot_be_used(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot read .*003.tar: No such file"):
        open_source(f"{shards}/{{000..003}}.tar")
    with pytest.raises(ImageError, match="no file matches"):
        open_source(f"{shards}/9*.tar")
    with pytest.raises(ImageError, match="ascending range"):
        open_source(f"{shards}/{{5..3}}.tar")
    with pytest.raises(ImageError, match="found none; extensions looked for"):
        open_source(write_tar(tmp_path / "t.tar", {"a.txt": b"x"}))
    copy = write_tar(tmp_path / "again/000.tar", {"a/7.png": b"x"})
    with pytest.raises(ImageError, match=r"'000.tar/a/7.png' more than once"):
        open_source([shards / "000.tar", copy])


@pytest.fixture
def hugging(tmp_path: Path) -> datasets.Dataset:
    noise(seed=2).save(tmp_path / "on-disk.png")
    rows = [
        {"bytes": encoded(noise(seed=0), "PNG"), "path": None},
        {"bytes": encoded(noise(seed=1).convert("CMYK"), "JPEG"), "path": None},
        {"bytes": None, "path": str(tmp_path / "on-disk.png")},
        None,
    ]
    data = datasets.Dataset.from_dict({"label": [0, 1, 2, 3], "photo": rows})
    return data.cast_column("photo", datasets.Image())


def test_hugging_face_dataset(hugging: datasets.Dataset) -> None:
    source = open_source(hugging.with_transform(lambda rows: {"pixels": rows["label"]}))
    assert isinstance(source, DatasetSource)
    assert source.ids == ("0", "1", "2", "3")
    # Undecoded: once a decoder has seen a picture, its bit depth is forgotten.
    assert isinstance(source.read(0), bytes)
    assert isinstance(source.read(2), Path)
    assert pixels(source, 0) == noise(seed=0).tobytes()
    assert pixels(source, 2) == noise(seed=2).tobytes()
    with pytest.raises(UnreadableImage, match=r"^CMYK: "):
        decode(source.read(1))
    with pytest.raises(UnreadableImage, match=r"^no picture: "):
        source.read(3)
    assert source.description["location"] is None
    assert source.description["rows"] == 4
    assert_portable(source)


def test_saved_dataset(hugging: datasets.Dataset, tmp_path: Path) -> None:
    hugging.save_to_disk(tmp_path / "one")
    both = datasets.DatasetDict(train=hugging, test=hugging.select([2]))
    both.save_to_disk(tmp_path / "both")
    datasets.DatasetDict(only=hugging).save_to_disk(tmp_path / "only")
    source = open_source(f"datasets:{tmp_path}/one")
    assert pixels(source, 0) == noise(seed=0).tobytes()
    assert_portable(source)
    test = open_source(f"datasets:{tmp_path}/both:test")
    assert test.ids == ("0",)
    assert pixels(test, 0) == noise(seed=2).tobytes()
    assert test.description["location"] == f"datasets:{tmp_path}/both:test"
    assert open_source(test.description["location"]).ids == ("0",)
    assert open_source(f"datasets:{tmp_path}/only").description["location"].endswith("only:only")
    with pytest.raises(ImageError, match="came no split; splits of this data set: test, train"):
        open_source(f"datasets:{tmp_path}/both")
    with pytest.raises(ImageError, match="came the split 'val'; splits"):
        open_source(f"datasets:{tmp_path}/both:val")
    with pytest.raises(ImageError, match="without splits; leave out :train"):
        open_source(f"datasets:{tmp_path}/one:train")
    with pytest.raises(ImageError, match=r"cannot load .*nowhere"):
        open_source(f"datasets:{tmp_path}/nowhere")
    with pytest.raises(ImageError, match=r"choose one: data\[KEY\]"):
        open_source(both)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"secondlens\[datasets\]"):
        open_source("datasets:somewhere")
    assert open_source([noise()]).ids == ("0",)


def test_image_columns() -> None:
    data = datasets.Dataset.from_dict({"label": [1]})
    with pytest.raises(ImageError, match=r"0 with an Image feature among \['label'\]"):
        open_source(data)
    row = [{"bytes": encoded(noise(seed=5), "PNG"), "path": None}]
    features = datasets.Features(mask=datasets.Image(), image=datasets.Image())
    data = datasets.Dataset.from_dict({"mask": row, "image": row}, features=features)
    assert DatasetSource.of(data).column == "image"
    with pytest.raises(ImageError, match="2 with an Image feature"):
        open_source(data.rename_column("image", "photo"))


def test_streams_are_refused(hugging: datasets.Dataset) -> None:
    def generator() -> Iterator[Image.Image]:
        yield noise()

    for stream in (hugging.to_iterable_dataset(), generator()):
        with pytest.raises(ImageError, match=r"read from its start; load it without streaming=True.*\.tar"):
            open_source(stream)


class MapStyle:
    def __init__(self, items: list) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


def test_map_style_datasets() -> None:
    image = noise(seed=4)
    source = open_source(MapStyle([image, (image, 3), {"image": image}, [image]] + [image] * 7))
    assert source.ids[:2] == ("00", "01")
    assert source.ids[-1] == "10"
    for index in range(5):
        assert pixels(source, index) == image.tobytes()
    assert source.description["type"].endswith("MapStyle")
    assert_portable(source)


def test_map_style_datasets_of_something_else(tmp_path: Path) -> None:
    source = open_source(MapStyle([3, {"photo": noise()}, {}]))
    with pytest.raises(ImageError, match="expected a PIL image in row 0, came int"):
        source.read(0)
    with pytest.raises(UnreadableImage, match="no picture"):
        source.read(2)
    with pytest.raises(ImageError, match="has none"):
        open_source(MapStyle([]))


def test_map_style_dataset_that_decodes_by_itself() -> None:
    class Decoding(MapStyle):
        def __getitem__(self, index: int) -> Image.Image:
            return Image.open(io.BytesIO(b"no picture"))

    with pytest.raises(UnreadableImage, match=r"^damaged: cannot identify"):
        open_source(Decoding([1])).read(0)


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.mkdir("empty")
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_file():
                opened.write(file, file.relative_to(folder))
        opened.writestr("__MACOSX/._a.webp", b"resource fork")
    return tmp_path / "photos.zip"


def test_zip_is_the_folder_that_it_was_made_of(folder: Path, archive: Path) -> None:
    source, unpacked = open_source(str(archive)), open_source(folder)
    assert source.ids == unpacked.ids
    assert [pixels(source, row) for row in range(4)] == [pixels(unpacked, row) for row in range(4)]
    assert source.description == {"kind": "zip", "location": str(archive)}
    assert source.path(0) is None
    assert_portable(source)
    assert open_source(source.description["location"]).ids == source.ids


def test_damaged_members_are_skipped_with_a_reason(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(archive)
    with zipfile.ZipFile(archive) as opened:
        member = opened.getinfo("b/2.JPG")
    content = bytearray(archive.read_bytes())
    content[member.header_offset + 200] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"damaged: .*b/2\.JPG"):
        source.read(source.ids.index("b/2.JPG"))
    assert pixels(source, 0)
    # Encrypted: the flag in the header is what a reader goes by.
    content = bytearray(archive.read_bytes())
    directory = content.index(b"PK\x01\x02")
    while bytes(content[directory + 46 : directory + 52]) != b"a.webp":
        directory = content.index(b"PK\x01\x02", directory + 4)
    content[directory + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"encrypted: "):
        source.read(source.ids.index("a.webp"))
    monkeypatch.setattr("secondlens.data.sources.zip.LARGEST", 100)
    with pytest.raises(UnreadableImage, match=r"too large: .* at most 100"):
        source.read(source.ids.index("b/10.png"))


def test_zips_that_cannot_be_used(archive: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(ImageError, match=r"as a zip archive: .* download it again"):
        open_source(broken)
    with pytest.raises(ImageError, match=r"does not exist|as a zip archive"):
        open_source(tmp_path / "none.zip")
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as opened:
        opened.writestr("readme.txt", "no images")
    with pytest.raises(ImageError, match=r"found none; extensions looked for: .*\.jpg"):
        open_source(tmp_path / "texts.zip")
