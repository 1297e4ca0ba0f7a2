"""Sets of images against the survey, recall of labels, and the commands."""

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import fisher_exact

import secondlens as sl
from commands import Result, secondlens
from secondlens.analysis.concepts import ConceptFinder
from secondlens.analysis.concepts.compare import excesses
from secondlens.analysis.concepts.evaluate import (
    ConceptRecall,
    by_coefficient,
    concept_recall,
    read_synonyms,
    right_rows,
    summary,
)
from secondlens.data.labelled import open_labelled
from secondlens.descriptions import Descriptions, describe
from secondlens.descriptions.pools import open_pool
from secondlens.errors import TextError
from secondlens.lens import LensModel
from secondlens.progress import Running

CLASSES = ["cat, house cat", "dog", "crane", "fire truck, crane"]


def test_excess_is_fisher_s_exact_test() -> None:
    here, survey = np.array([0, 3, 5, 0, 10]), np.array([4, 7, 0, 0, 20])
    found = excesses(here, 10, survey, 40)
    # Row 0 does not occur here, row 3 nowhere.
    assert sorted(found) == [1, 2, 4]
    for row, excess in found.items():
        table = [[here[row], 10 - here[row]], [survey[row], 40 - survey[row]]]
        assert excess.p_value == pytest.approx(fisher_exact(table, alternative="greater").pvalue, rel=1e-9)
        assert excess.p_value <= excess.q_value <= 1
    assert excesses(np.zeros(3, dtype=int), 5, np.zeros(3, dtype=int), 5) == {}


def test_significance_is_calibrated_on_null_data_and_finds_what_was_planted() -> None:
    """300 texts, each as frequent here as in the survey: few p-values are small, and no more than they say."""
    rng = np.random.default_rng(0)
    small, families = [], 0
    for _ in range(100):
        rates = rng.uniform(0.01, 0.3, 300)
        here, survey = rng.binomial(50, rates), rng.binomial(400, rates)
        found = excesses(here, 50, survey, 400)
        small.append(np.mean([row in found and found[row].p_value <= 0.05 for row in range(300)]))
        families += any(excess.q_value <= 0.05 for excess in found.values())
    # Discrete, so conservative; standard error of the mean 0.001. Measured 0.033.
    assert 0.015 < np.mean(small) <= 0.05
    # With nothing to find, a false discovery in at most 5 % of the sets: 12 of 100 is 3 standard errors above it.
    # Measured 2.
    assert families <= 12
    rates = np.full(300, 0.05)
    planted = np.where(np.arange(300) < 10, 0.4, rates)
    found = excesses(rng.binomial(50, planted), 50, rng.binomial(400, rates), 400)
    discovered = {row for row, excess in found.items() if excess.q_value <= 0.05}
    assert len(discovered & set(range(10))) >= 8
    assert len(discovered - set(range(10))) <= 2


def test_right_texts_share_a_name_with_the_class(tmp_path: Path) -> None:
    texts = ["house cat", "Dog", "crane", "truck", "puppy, whelp"]
    assert right_rows(CLASSES, texts, {}) == [{0}, {1}, {2}, {2}]
    table = tmp_path / "synonyms.csv"
    table.write_text("name,synonym\nDog,whelp\nfire truck,Truck\n")
    synonyms = read_synonyms(table)
    assert right_rows(CLASSES, texts, synonyms) == [{0}, {1, 4}, {2}, {2, 3}]
    for content in ("a,b\n1,2\n", ""):
        table.write_text(content)
        with pytest.raises(TextError, match="name and synonym"):
            read_synonyms(table)


def test_codes_in_order() -> None:
    indices, coefficients = torch.tensor([[4, 7, 2], [3, -1, -1]]), torch.tensor([[0.1, 0.5, 0.0], [0.2, 0.0, 0.0]])
    assert by_coefficient(indices, coefficients).tolist() == [[7, 4, -1], [3, -1, -1]]


def test_summary_of_known_ranks() -> None:
    ranks = {"neurons paper": torch.tensor([0, 3, -1, -1] * 25), "nearest texts": torch.tensor([0, 0, 0, -1] * 25)}
    facts = summary(ConceptRecall(ranks, uncovered=7), sizes=(1, 5))
    assert [row["recall"] for row in facts["methods"]["neurons paper"]] == [0.25, 0.5]
    first, second = facts["differences"]
    assert (first["k"], first["difference"], second["difference"]) == (1, -0.5, -0.25)
    # 50 images lost, none won: 2 * 2^-50.
    assert first["p_value"] == pytest.approx(2.0**-49)
    assert first["low"] < -0.5 < first["high"] < -0.3
    assert facts["uncovered"] == 7


@pytest.fixture(autouse=True)
def _cache(cache: Path) -> None:
    pass


@pytest.fixture
def described(vit: LensModel, pictures: Path, tmp_path: Path) -> tuple[sl.Atlas, Descriptions]:
    atlas = sl.survey(vit, pictures, tmp_path / "atlas", layers=[0, 1], top=14)
    return atlas, describe(atlas, open_pool("labels", vit), 3, null_draws=0)


@pytest.fixture
def table(pictures: Path, tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "name"])
        for number, picture in enumerate(sorted(pictures.iterdir())):
            writer.writerow([picture, number % 4, CLASSES[number % 4]])
    return path


def test_recall_is_that_of_lists_made_one_by_one(
    vit: LensModel, described: tuple[sl.Atlas, Descriptions], table: Path
) -> None:
    atlas, descriptions = described
    pool, images = open_pool("labels", vit), open_labelled(table, vit)
    finder = ConceptFinder(vit, atlas, descriptions, pool, percentile=70.0)
    recall = concept_recall(finder, descriptions, pool, images, running=Running(7), limit=12)
    assert recall.uncovered == 0
    from secondlens.data.loader import processing_order

    right = right_rows(images.classes, pool.texts, {})
    for place, position in enumerate(processing_order(40)[:12]):
        pixels = vit.preprocess([Image.open(images.source.ids[position]).convert("RGB")])
        wanted = right[int(images.labels[position])]
        unit = torch.nn.functional.normalize(vit.encode_images(pixels), dim=1)[0]
        nearest = (pool.embeddings @ unit).argsort(descending=True).tolist()
        lists = {"nearest texts": nearest}
        for rule in ("alignment", "signed", "paper"):
            one = ConceptFinder(vit, atlas, descriptions, pool, percentile=70.0, rule=rule)
            lists[f"neurons {rule}"] = [concept.row for concept in one.find(pixels, 4).concepts]
        for name, rows in lists.items():
            expected = next((rank for rank, row in enumerate(rows) if row in wanted), -1)
            assert int(recall.ranks[name][place]) == expected, name


def test_a_pool_without_the_labels_is_refused(worded: LensModel, pictures: Path, tmp_path: Path, cache: Path) -> None:
    atlas = sl.survey(worded, pictures, tmp_path / "atlas", layers=[0], top=5)
    pool = open_pool(["bat", "den", "fip"], worded, name="few")
    descriptions = describe(atlas, pool, 2, null_draws=0)
    names = tmp_path / "names.csv"
    lines = [f"{path},{'bat' if row % 2 else 'fish'}" for row, path in enumerate(sorted(pictures.iterdir()))]
    names.write_text("\n".join(["file,name", *lines]))
    finder = ConceptFinder(worded, atlas, descriptions)
    recall = concept_recall(finder, descriptions, pool, open_labelled(names, worded))
    assert recall.uncovered == 20
    assert all(len(ranks) == 20 for ranks in recall.ranks.values())
    names.write_text(names.read_text().replace("bat", "bird"))
    with pytest.raises(TextError, match="none of the labels"):
        concept_recall(finder, descriptions, pool, open_labelled(names, worded))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    return partial(secondlens, monkeypatch, capsys)


def test_commands(
    vit: LensModel,
    described: tuple[sl.Atlas, Descriptions],
    pictures: Path,
    table: Path,
    tmp_path: Path,
    run: Callable[..., Result],
) -> None:
    atlas = described[0].folder
    picture = pictures / "picture-05.png"
    out = tmp_path / "maps.png"
    one = run("concepts", vit.reference, atlas, picture, "--percentile", 70, "--out", out, "--json")
    assert one.returncode == 0, one.stderr
    facts = json.loads(one.stdout)
    assert facts["exact_thresholds"] is True
    assert {"layer", "neuron", "norm", "threshold", "projection", "weight"} == set(facts["neurons"][0])
    for concept in facts["concepts"]:
        assert concept["text"] in CLASSES
        assert sum(term["contribution"] for term in concept["neurons"]) == pytest.approx(concept["score"])
        assert sum(path["contribution"] for path in concept["paths"]) == pytest.approx(concept["score"])
        assert sum(concept["tokens"]) + concept["constant"] == pytest.approx(concept["score"])
    assert Image.open(out).size[0] > 800

    odd = tmp_path / "odd"
    odd.mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 40, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(odd / f"{number}.png")
    (odd / "broken.png").write_text("none")
    many = run("concepts", vit.reference, atlas, odd, "--percentile", 70, "--first", 1, "--json")
    assert many.returncode == 0, many.stderr
    facts = json.loads(many.stdout)
    assert facts["images"] == 6
    assert facts["skipped"][0]["id"] == "broken.png"
    # Dark noise is unlike the survey's smooth pictures: neurons say so.
    assert facts["neurons"][0]["count"] == 6
    assert facts["neurons"][0]["q_value"] < 0.05
    assert "q: p corrected" in run("concepts", vit.reference, atlas, odd, "--percentile", 90).stdout

    recall = run("evaluate", "concepts", vit.reference, atlas, "--images", table, "--percentile", 70, "--json")
    assert recall.returncode == 0, recall.stderr
    methods = json.loads(recall.stdout)["methods"]
    assert set(methods) == {
        "neurons alignment", "neurons signed", "neurons paper", "sparse coding", "nearest texts", "nearest centred"
    }  # fmt: skip
    for rows in methods.values():
        assert [row["k"] for row in rows] == [1, 5, 10, 20]
        assert all(row["low"] <= row["recall"] <= row["high"] for row in rows)


def test_mistakes_are_one_line(
    vit: LensModel,
    described: tuple[sl.Atlas, Descriptions],
    pictures: Path,
    tmp_path: Path,
    run: Callable[..., Result],
) -> None:
    atlas = described[0].folder
    picture = pictures / "picture-05.png"
    (pictures / "broken.png").write_text("none")
    bare = tmp_path / "bare"
    sl.survey(vit, pictures, bare, layers=[0], top=3)
    for arguments, message in (
        ((bare, picture), "has no descriptions yet; make them with: secondlens describe"),
        ((atlas, picture, "--pool", "words"), "no descriptions over 'words'"),
        ((atlas, picture, "--rule", "best"), "unknown rule 'best'"),
        ((atlas, picture, "--percentile", "100"), "percentile from 0 to below 100"),
        ((atlas, picture, "--limit", "0"), "1 or more"),
        ((atlas, pictures, "--out", tmp_path / "x.png"), "one picture"),
        ((atlas, tmp_path / "nothing.png"), "does not exist"),
        ((atlas, pictures / "broken.png"), "not an image"),
    ):
        result = run("concepts", vit.reference, *arguments)
        assert result.returncode == 2, (arguments, result.stderr)
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
