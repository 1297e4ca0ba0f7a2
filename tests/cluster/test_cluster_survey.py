"""A survey in shards, on real workers, is the plain survey bit by bit; whatever happens to the workers on the way."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import secondlens as sl
from secondlens.atlas.manifest import MANIFEST
from secondlens.cluster import cluster_survey
from secondlens.cluster import survey as module
from secondlens.cluster.crew import Crew
from secondlens.cluster.shards import ShardFiles
from secondlens.errors import ClusterError
from secondlens.models import load_model

# Three tops of 40 images: 12 candidates are full within the third batch of five, and some neurons need a second look.
SETTINGS: dict[str, Any] = {"layers": [0, 1], "top": 3, "batch_size": 5}


@pytest.fixture
def plain(reference: str, pictures: Path, tmp_path: Path) -> sl.Atlas:
    """One machine's atlas, of pictures of which two are the same and two cannot be read."""
    shutil.copy(pictures / "picture-03.png", pictures / "picture-31.png")
    (pictures / "picture-00b.png").write_text("no picture")
    (pictures / "picture-20b.png").write_bytes(b"")
    return sl.survey(reference, pictures, tmp_path / "plain", **SETTINGS)


def same(one: sl.Atlas, other: sl.Atlas) -> None:
    """Every file and every array of two atlases, bit by bit."""
    mine, theirs = one.manifest, other.manifest
    assert mine.files == theirs.files
    for field in ("images", "layers", "candidates", "top", "model", "convention", "batch_size"):
        assert getattr(mine, field) == getattr(theirs, field), field
    assert other.check() == []
    for layer in one.layers:
        for name, tensor in one.layer(layer).tensors.items() if hasattr(one.layer(layer), "tensors") else ():
            assert torch.equal(tensor, other.layer(layer).tensors[name]), name
    assert not (other.folder / "progress").exists()


def test_two_workers_give_the_bits_of_one_machine(ray: Any, reference: str, plain: sl.Atlas, tmp_path: Path) -> None:
    assert sum(card.second_pass for card in plain.manifest.layers), "the second look must be tested"
    pictures = Path(plain.manifest.images.source["location"])
    for shard_images in (5, 100):
        out = tmp_path / f"of-{shard_images}"
        atlas, nodes = cluster_survey(reference, pictures, out, **SETTINGS, workers=2, shard_images=shard_images)
        same(plain, atlas)
        assert [node.workers for node in nodes] == [2]
        assert nodes[0].items >= 42
        assert nodes[0].rate > 0
    again, nodes = cluster_survey(reference, pictures, tmp_path / "of-5", **SETTINGS, workers=2)
    assert nodes == []
    same(plain, again)


def test_a_killed_worker_costs_its_shard_only(
    ray: Any, reference: str, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[int] = []
    killed: list[int] = []
    written: list[range] = []
    start, write = Crew.start, ShardFiles.write

    def started(self: Crew) -> list[Any]:
        found = start(self)
        workers.extend(report.process for report in found)
        return found

    def kill(self: ShardFiles, span: range, tensors: dict[str, torch.Tensor]) -> None:
        write(self, span, tensors)
        written.append(span)
        if len(written) == 3:
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    monkeypatch.setattr(Crew, "start", started)
    monkeypatch.setattr(ShardFiles, "write", kill)
    pictures = Path(plain.manifest.images.source["location"])
    atlas, nodes = cluster_survey(reference, pictures, tmp_path / "killed", **SETTINGS, workers=2, shard_images=5)
    assert killed
    same(plain, atlas)
    # Nothing that was finished was done again: every batch of the pass was written once.
    first_pass = [span for span in written if written.index(span) < 9]
    assert sorted(batch for span in first_pass for batch in span) == list(range(9))
    assert sum(node.pieces for node in nodes) == len(written)


def test_an_interrupted_run_goes_on_anywhere(
    ray: Any, reference: str, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped twice on the cluster: finished there, and finished as a plain survey."""
    pictures = Path(plain.manifest.images.source["location"])
    write = ShardFiles.write
    for finish in ("cluster", "plain"):
        folder = tmp_path / finish
        for after in (2, 3):
            seen: list[range] = []

            def stop(
                self: ShardFiles,
                span: range,
                tensors: dict[str, torch.Tensor],
                seen: list[range] = seen,
                after: int = after,
            ) -> None:
                write(self, span, tensors)
                seen.append(span)
                if len(seen) == after:
                    raise KeyboardInterrupt

            monkeypatch.setattr(ShardFiles, "write", stop)
            with pytest.raises(KeyboardInterrupt):
                cluster_survey(reference, pictures, folder, **SETTINGS, workers=1, shard_images=5)
            monkeypatch.setattr(ShardFiles, "write", write)
        kept = len(list((folder / "progress" / "shards").glob("*.safetensors")))
        assert kept == 5
        assert not (folder / MANIFEST).exists()
        if finish == "plain":
            same(plain, sl.survey(reference, pictures, folder, **SETTINGS))
            continue
        atlas, nodes = cluster_survey(reference, pictures, folder, **SETTINGS, workers=1, shard_images=5)
        same(plain, atlas)
        # 42 images, less the five finished shards of five, and those of the second look.
        assert nodes[0].items < 42 - 25 + 42


def test_a_second_survey_of_other_settings_is_refused(
    ray: Any, reference: str, plain: sl.Atlas, tmp_path: Path
) -> None:
    pictures = Path(plain.manifest.images.source["location"])
    with pytest.raises(sl.SecondLensError, match="top was 3, now 4"):
        cluster_survey(reference, pictures, plain.folder, **{**SETTINGS, "top": 4}, workers=1)
    with pytest.raises(ClusterError, match="at least one image"):
        cluster_survey(reference, pictures, tmp_path / "no", **SETTINGS, workers=1, shard_images=0)
    with pytest.raises(ClusterError, match="3 workers of 1 cores do not fit the cluster's 2 cores"):
        cluster_survey(reference, pictures, tmp_path / "no", **SETTINGS, workers=3)


def test_a_node_that_cannot_read_is_named(
    ray: Any, reference: str, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures that vanish for the workers only: their copy of the source points elsewhere."""
    from secondlens.images.sources import FolderSource

    pictures = Path(plain.manifest.images.source["location"])
    put = ray.put

    def misplaced(value: Any, **options: Any) -> Any:
        if isinstance(value, FolderSource):
            elsewhere = FolderSource(value.root)
            object.__setattr__(elsewhere, "root", tmp_path / "not-mounted-there")
            return put(elsewhere, **options)
        return put(value, **options)

    monkeypatch.setattr(ray, "put", misplaced)
    with pytest.raises(ClusterError, match=r"node .* cannot read 'picture-.*missing file.*which can be read here"):
        cluster_survey(reference, pictures, tmp_path / "atlas", **SETTINGS, workers=1)


def test_a_worker_without_the_model_is_named(
    ray: Any, reference: str, plain: sl.Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = Path(plain.manifest.images.source["location"])
    loaded = load_model(reference)
    monkeypatch.setattr(module, "load_model", lambda *arguments, **options: loaded)
    with pytest.raises(ClusterError, match=r"node .*: no such model folder or file: /only/here"):
        cluster_survey("hf:/only/here", pictures, tmp_path / "atlas", **SETTINGS, workers=1)
