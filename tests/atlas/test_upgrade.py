"""Atlases of schema version 1, upgraded: same numbers, whatever interrupts it; nothing damaged gets through."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import secondlens as sl
from builders import WORDS
from secondlens.atlas.manifest import MANIFEST
from secondlens.atlas.upgrade import STAGE, upgrade_atlas
from secondlens.cli import app
from secondlens.descriptions import Descriptions, describe
from secondlens.descriptions.pools import open_pool
from secondlens.descriptions.upgrade import upgrade_descriptions
from secondlens.disk.files import sha256
from secondlens.errors import AtlasError
from secondlens.lens import load_model

RESOLVED = 7
"""Neurons of each layer of the old atlas whose top images a second pass has looked up."""


@pytest.fixture(scope="module")
def present(worded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of the present schema with two layers and one description."""
    folder = tmp_path_factory.mktemp("present")
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    (folder / "images").mkdir()
    for number, image in enumerate(noise):
        Image.fromarray(image).save(folder / "images" / f"{number:02d}.png")
    model = load_model(f"hf:{worded_folder}")
    atlas = sl.survey(model, folder / "images", folder / "atlas", layers=[0, 1], top=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECONDLENS_CACHE", str(folder / "cache"))
        patch.setattr("secondlens.descriptions.senses.DRAWS", 10)
        describe(atlas, open_pool(WORDS, model, name="words"), 6, null_draws=5)
    return folder / "atlas"


@pytest.fixture
def old(present: Path, tmp_path: Path) -> Path:
    """The same atlas as schema version 1 had it."""
    folder = shutil.copytree(present, tmp_path / "atlas")
    manifest = json.loads((folder / MANIFEST).read_text())
    for layer in manifest["layers"]:
        tensors = load_file(folder / layer["file"])
        del tensors["tied"]
        tensors["proved"] = torch.arange(len(tensors.pop("certified"))) >= RESOLVED
        tensors["drift"] = torch.rand(len(tensors["proved"]))
        tensors["path_shares"] = tensors.pop("path_fractions")
        tensors["top_share"] = tensors.pop("top_fraction")
        save_file(tensors, folder / layer["file"])
        del layer["uncertified"], layer["tied"]
        layer["second_pass"] = RESOLVED
    manifest |= {"schema_version": 1, "candidates": manifest.pop("capacity")}
    write(folder / MANIFEST, manifest)
    description = folder / "descriptions" / "words"
    content = json.loads((description / "description.json").read_text())
    for path in description.glob("layer-*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.rename_columns(["share" if n == "fraction" else n for n in table.column_names]), path)
    content["settings"]["null_draws"] = content["settings"].pop("n_resamples")
    write(description / "description.json", content | {"schema_version": 1})
    return folder


def write(manifest: Path, content: dict[str, Any]) -> None:
    """Write a manifest with the hashes of the files as they are."""
    files = {name: sha256(manifest.parent / name) for name in content["files"]}
    manifest.write_text(json.dumps(content | {"files": files}, indent=2))


def upgrade(folder: Path) -> tuple[list[str], list[str]]:
    return upgrade_descriptions(folder), upgrade_atlas(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_upgraded(folder: Path, present: Path) -> None:
    """Assert that an atlas is whole, and has the numbers of the present one."""
    atlas, expected = sl.Atlas.open(folder), sl.Atlas.open(present)
    assert atlas.check() == []
    manifests = [opened.manifest.model_dump(exclude={"layers", "files"}) for opened in (atlas, expected)]
    assert manifests[0] == manifests[1]
    for layer in atlas.layers:
        opened = atlas.layer(layer)
        assert (opened.card.second_pass, opened.card.uncertified, opened.card.tied) == (RESOLVED, 0, 0)
        assert opened.names == expected.layer(layer).names
        assert bool(opened.certified.all())
        assert not bool(opened.tied.any())
        for name in set(opened.names) - {"certified", "tied"}:
            assert torch.equal(getattr(opened, name), getattr(expected.layer(layer), name)), name
    described, wanted = (Descriptions.open(opened, "words") for opened in (atlas, expected))
    assert described.card.model_dump(exclude={"files"}) == wanted.card.model_dump(exclude={"files"})
    assert all(sha256(described.folder / name) == digest for name, digest in described.card.files.items())
    for layer in atlas.layers:
        assert described.table(layer).equals(wanted.table(layer))
    assert not list(folder.rglob(STAGE))
    assert not list(folder.rglob("*.partial"))


def test_an_upgrade_keeps_all_numbers(old: Path, present: Path) -> None:
    untouched = {
        name: content for name, content in contents(old).items() if name.startswith(("images", "emb", "thumb"))
    }
    assert upgrade(old) == (["words"], ["layer-00.safetensors", "layer-01.safetensors"])
    check_upgraded(old, present)
    assert untouched.items() <= contents(old).items()


def test_an_old_atlas_is_refused_with_the_command_to_run(old: Path) -> None:
    with pytest.raises(
        AtlasError, match=f"version 1, this secondlens reads version 2; run 'secondlens atlas upgrade {old}'"
    ):
        sl.Atlas.open(old)
    upgrade_atlas(old)
    with pytest.raises(AtlasError, match=f"version 1, .* run 'secondlens atlas upgrade {old}'"):
        Descriptions.open(sl.Atlas.open(old))


class Killed(BaseException):
    """What no handler of errors catches."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], int]:
    """Raise `Killed` in the place of the n-th rename from now on; -1: never. Gives the number of renames so far."""
    replace, state = Path.replace, {"at": -1, "count": 0}

    def counted(path: Path, target: Path) -> Path:
        state["count"] += 1
        if state["count"] - 1 == state["at"]:
            raise Killed
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", counted)

    def set_(at: int) -> int:
        count = state["count"]
        state.update(at=at, count=0)
        return count

    return set_


def test_an_upgrade_killed_at_any_rename_is_completed_by_the_next(
    old: Path, present: Path, tmp_path: Path, killed_at: Callable[[int], int]
) -> None:
    upgrade(shutil.copytree(old, tmp_path / "whole"))
    renames = killed_at(-1)
    # Of the description and of the atlas: two files and a manifest written, then moved.
    assert renames == 2 * 2 * 3
    for at in range(renames):
        folder = shutil.copytree(old, tmp_path / f"killed-{at}")
        killed_at(at)
        with pytest.raises(Killed):
            upgrade(folder)
        killed_at(-1)
        with pytest.raises(AtlasError, match="atlas upgrade"):
            sl.Atlas.open(folder)
        upgrade(folder)
        check_upgraded(folder, present)


@pytest.mark.parametrize("name", ["layer-01.safetensors", "embeddings.parquet", "descriptions/words/layer-00.parquet"])
def test_a_damaged_file_is_refused_by_name_before_anything_changes(old: Path, name: str) -> None:
    content = bytearray((old / name).read_bytes())
    content[-1] ^= 1
    (old / name).write_bytes(content)
    before = contents(old)
    with pytest.raises(AtlasError, match=f"{name} is missing or has changed"):
        upgrade(old)
    assert {name: before[name] for name in before if "descriptions" not in name}.items() <= contents(old).items()
    (old / name).unlink()
    with pytest.raises(AtlasError, match=f"{name} is missing or has changed"):
        upgrade(old)


def test_files_damaged_between_two_runs_are_refused(old: Path, killed_at: Callable[[int], int]) -> None:
    killed_at(4)
    with pytest.raises(Killed):
        upgrade_atlas(old)
    killed_at(-1)
    staged = old / STAGE / "layer-01.safetensors"
    staged.write_bytes(staged.read_bytes()[:-1] + b"x")
    with pytest.raises(AtlasError, match=f"{STAGE}/layer-01.safetensors is missing or has changed"):
        upgrade_atlas(old)
    with pytest.raises(AtlasError, match="schema version 1"):
        sl.Atlas.open(old)


def test_what_was_staged_for_another_atlas_is_not_used(
    old: Path, present: Path, killed_at: Callable[[int], int]
) -> None:
    killed_at(3)
    with pytest.raises(Killed):
        upgrade_atlas(old)
    killed_at(-1)
    staged = old / STAGE / MANIFEST
    staged.write_text(staged.read_text().replace('"created": "2', '"created": "1'))
    upgrade(old)
    check_upgraded(old, present)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 0}, "schema version 0, expected 1"),
        ({"schema_version": 99}, "schema version 99, expected 1"),
        ({"schema_version": None}, "schema version None, expected 1"),
        ({"layers": None}, "does not fit schema version 1"),
        ({"top": "many"}, "does not fit schema version 1"),
        ({"files": {"../layer-00.safetensors": ""}}, "names a file outside its folder"),
        ({"files": {}}, "has no hash of 'layer-00.safetensors'"),
    ],
)
def test_other_manifests_are_refused(old: Path, change: dict[str, Any], message: str) -> None:
    content = json.loads((old / MANIFEST).read_text())
    (old / MANIFEST).write_text(json.dumps(content | change))
    before = contents(old)
    with pytest.raises(AtlasError, match=message):
        upgrade_atlas(old)
    assert contents(old) == before


def test_an_unfinished_description_is_refused(old: Path) -> None:
    work = old / "descriptions" / "more" / "progress"
    work.mkdir(parents=True)
    (work / "settings.json").write_text('{"null_draws": 5}')
    with pytest.raises(AtlasError, match="more holds an unfinished description of schema version 1"):
        upgrade(old)


def test_the_command(
    old: Path,
    present: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["secondlens", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            app.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    code, out, err = run("neurons", "show", old, 0, 1)
    assert (code, out) == (2, "")
    assert f"run 'secondlens atlas upgrade {old}'" in err
    code, out, _ = run("atlas", "upgrade", old, "--json")
    assert code == 0
    assert json.loads(out) == {
        "atlas": str(old),
        "schema_version": 2,
        "files": ["layer-00.safetensors", "layer-01.safetensors"],
        "descriptions": ["words"],
    }
    check_upgraded(old, present)
    code, out, _ = run("atlas", "upgrade", old)
    assert (code, out) == (0, f"{old} has schema version 2 already\n")
    shown = [json.loads(run("neurons", "show", folder, 1, 3, "--json")[1]) for folder in (old, present)]
    assert shown[0] == shown[1]
    assert run("atlas", "upgrade", tmp_path / "none")[0] == 2
    (tmp_path / "empty").mkdir()
    code, _, err = run("atlas", "upgrade", tmp_path / "empty")
    assert (code, len(err.strip().splitlines())) == (2, 1)
