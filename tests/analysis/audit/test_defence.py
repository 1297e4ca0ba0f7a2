"""Errors explained by cues, and removal."""

import json
import sys
from pathlib import Path

import pytest
import torch

import secondlens as sl
from secondlens.analysis.audit import Auditor
from secondlens.analysis.audit.folder import (
    confusions,
    explain_errors,
    presence_by_caption,
    presence_by_embedding,
)
from secondlens.analysis.audit.removal import Projection, RemovalResult, Remover
from secondlens.analysis.audit.study import study_folder, study_removal
from secondlens.atlas import Atlas
from secondlens.cli.app import main
from secondlens.data.decode import decode
from secondlens.data.sources import open_source
from secondlens.errors import AuditError
from secondlens.viewer.audits import read_audits


def test_removal_subtracts_the_centred_effects(auditor: Auditor, world_cache: Path) -> None:
    neurons = [(1, 3), (0, 7), (1, 40), (0, 1)]
    source = open_source(world_cache / "scenes" / "labels.csv")
    pixels = auditor.model.preprocess([decode(source.read(index)) for index in range(5)])
    changed, norms = Remover(auditor.model, auditor.atlas, neurons, [0, 1, 3, 4]).embeddings(pixels)
    z = auditor.model.encode_images(pixels).double()
    assert torch.allclose(norms.double(), z.norm(dim=1), rtol=1e-5)
    expected = z / z.norm(dim=1, keepdim=True)
    for place, size in enumerate([0, 1, 3, 4]):
        oracle = expected.clone()
        for layer, neuron in neurons[:size]:
            phi = sl.second_order_effects(auditor.model, pixels, layer).dense(neurons=[neuron])[:, 0].double()
            oracle -= phi - auditor.atlas.layer(layer).mean_effects[neuron].double()
        # float32 products against float64 sums of the same effects.
        assert torch.allclose(changed[place].double(), oracle, atol=2e-6)
    assert not torch.allclose(changed[0], changed[3], atol=1e-3)
    for sizes in ([1, 0], [], [9], [-1, 0]):
        with pytest.raises(AuditError, match="ascending numbers"):
            Remover(auditor.model, auditor.atlas, neurons, sizes)
    with pytest.raises(AuditError, match="different neurons"):
        Remover(auditor.model, auditor.atlas, [(0, 1), (0, 1)], [2])


def test_projection_holds_the_cues_part_at_its_mean(auditor: Auditor, world_cache: Path) -> None:
    source = open_source(world_cache / "scenes" / "labels.csv")
    pixels = auditor.model.preprocess([decode(source.read(index)) for index in range(5)])
    directions = auditor.within.atoms[:3].double()
    changed, _ = Projection(auditor.model, auditor.atlas, directions).embeddings(pixels)
    unit = torch.nn.functional.normalize(auditor.model.encode_images(pixels), dim=1)
    assert torch.allclose(changed[0], unit, atol=1e-6)
    mean = auditor.atlas.image_embeddings.double().mean(dim=0)
    # Stored embeddings are in half precision: 5e-4 relative.
    assert torch.allclose(changed[1].double() @ directions.T, (mean @ directions.T).expand(5, -1), atol=1e-3)
    rest = torch.eye(directions.shape[1]).double() - torch.linalg.pinv(directions) @ directions
    assert torch.allclose(changed[1].double() @ rest, unit.double() @ rest, atol=1e-5)


def test_the_best_row_keeps_to_the_cost() -> None:
    clean = torch.zeros(3, 100, dtype=torch.bool)
    fooled = torch.zeros(3, 10, dtype=torch.bool)
    for place, (right, wrong) in enumerate([(90, 10), (89, 4), (60, 0)]):
        clean[place, :right] = True
        fooled[place, :wrong] = True
    found = RemovalResult([0, 5, 50], clean, fooled)
    assert found.best()["neurons"] == 5
    assert found.best(cost=0.5)["neurons"] == 50
    assert found.facts()[1]["adversarial_success"] == pytest.approx(0.4)
    none = RemovalResult([0], clean[:1], fooled[:1, :0])
    assert none.facts()[0]["adversarial_success"] is None
    assert none.best()["neurons"] == 0


def test_errors_are_explained_by_fishers_test() -> None:
    present = torch.tensor([[True, True]] * 5 + [[False, True]] * 5)
    wrong = torch.tensor([True] * 4 + [False] * 6)
    found = explain_errors([("dog", "deer")], {("dog", "deer"): (["snow", "grass"], present, wrong)})
    # The second cue is in every image: nothing to compare.
    assert [row.cue for row in found] == ["snow"]
    row = found[0]
    assert (row.errors_with, row.images_with, row.errors_without, row.images_without) == (4, 5, 0, 5)
    assert row.difference == pytest.approx(0.8)
    # Hypergeometric: C(5,4) C(5,0) / C(10,4) = 5/210.
    assert row.p_value == pytest.approx(5 / 210)
    assert row.q_value == pytest.approx(5 / 210)


def test_confusions_and_presence() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    predicted = torch.tensor([1, 1, 2, 0, 0, 1, 2])
    assert confusions(labels, predicted, 1) == [(0, 1, 2), (0, 2, 1), (1, 0, 1)]
    assert confusions(labels, predicted, 2) == [(0, 1, 2)]
    seen = presence_by_caption(["a dog in snow", "a dog"], ["snow", "grass"])
    assert seen.tolist() == [[True, False], [False, False]]
    rows = torch.arange(8.0)[:, None]
    assert presence_by_embedding(rows, torch.ones(1, 1))[:, 0].tolist() == [False] * 6 + [True] * 2


def test_studies_of_the_tiny_world(auditor: Auditor, world_cache: Path, tmp_path: Path) -> None:
    labels = world_cache / "scenes" / "labels.csv"
    names = sorted({line.split(",")[2] for line in labels.read_text().splitlines()[1:]})
    first, second, third = names[:3]
    wanted = [(first, second), (second, third)]
    found = study_folder(auditor, labels, wanted, world_cache / "scenes" / "captions.csv")
    assert found["images"] == 60
    assert found["presence"] == "captions"
    assert {row["source_class"] for row in found["explained"]} <= {first, second}
    own = study_folder(auditor, labels, pairs=2, cues=3)
    assert len(own["pairs"]) == 2
    assert own["pairs"][0]["errors"] >= own["pairs"][1]["errors"] >= 3
    assert json.loads(json.dumps(own)) == own
    removal = study_removal(auditor, auditor.pair("cat", "boat"), labels, sizes=[0, 2, 5])
    assert [row["neurons"] for row in removal["curve"]] == [0, 2, 5]
    assert removal["curve"][0]["clean_accuracy"] == pytest.approx(own["accuracy"])
    with pytest.raises(AuditError, match="'zebra' is no text of the pool"):
        study_removal(auditor, auditor.pair("cat", "boat"), labels, cue=["zebra"], sizes=[0])
    (tmp_path / "captions.csv").write_text("file,caption\nx.png,a cat\n")
    with pytest.raises(AuditError, match="has no caption of"):
        study_folder(auditor, labels, wanted, tmp_path / "captions.csv")


def test_commands(
    world_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, atlas = f"hf:{world_cache / 'model'}", str(world_cache / "atlas")

    def command(*arguments: str, code: int = 0) -> tuple[str, str]:
        """Standard output and error of a command, run in this process: loading torch anew takes seconds."""
        monkeypatch.setattr(sys, "argv", ["secondlens", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        assert (left.value.code or 0) == code, said.err
        return said

    plain = ("--shown", "cat", "--predicted", "boat", "--similarity", "name")
    facts = json.loads(command("audit", model, atlas, *plain, "--draws", "50", "--json")[0])
    assert {"text", "score", "p_value"} <= set(facts["cues"][0])
    kept = tmp_path / "audits" / "pair.json"
    command("audit", model, atlas, *plain, "--draws", "50", "--out", str(kept))
    assert json.loads(kept.read_text()) == facts
    labels = str(world_cache / "scenes" / "labels.csv")
    more = ("--similarity", "name", "--json", "--out")
    command("audit", "folder", model, atlas, labels, "--pairs", "1", *more, str(kept.with_name("folder.json")))
    command(
        "audit", "removal", model, atlas, *plain, "--images", labels, "--sizes", "0,2", "--limit", "20",
        "--json", "--out", str(kept.with_name("removal.json")),
    )  # fmt: skip
    classes = tmp_path / "classes.txt"
    classes.write_text("cat\nboat\ndog\n")
    command("audit", "matrix", model, atlas, "--classes", str(classes), *more, str(kept.with_name("matrix.json")))
    # The review page takes them as they are, and only with their own atlas.
    counts, files = read_audits(kept.parent, Atlas.open(world_cache / "atlas"))
    assert counts == {"pairs": 1, "matrices": 1, "folders": 1, "removals": 1}
    assert [cue["text"] for cue in json.loads(files["data/audit/pair-000.json"])["cues"]] == [
        cue["text"] for cue in facts["cues"]
    ]
    refused = command("audit", model, atlas, *plain, "--out", str(tmp_path / "pair.csv"), code=2)
    assert "ends in .json" in refused[1]
    failed = command("audit", model, atlas, "--shown", "cat", "--predicted", "deer", code=2)
    assert "knows no word 'deer'" in failed[1]
    out = tmp_path / "attack"
    made = command(
        "attack", "run", model, atlas, "--out", str(out), "--pair", "cat:boat", "--llm", "world:", "--images", "world:",
        "--judge", "exact", "--preset", "smallest", "--method", "second-order", "--method", "random",
        "--similarity", "name", "--json",
    )  # fmt: skip
    assert {row["method"] for row in json.loads(made[0])["binary"]["methods"]} == {"second-order", "random"}
    again = command("attack", "report", str(out), "--json")
    assert json.loads(again[0])["binary"] == json.loads(made[0])["binary"]
    assert "nobody called 'person' judged" in command("attack", "report", str(out), "--judge", "person", code=2)[1]
