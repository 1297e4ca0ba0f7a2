"""One picture: where something is, what it shows, and what made a score."""

import numpy as np
from PIL import Image

from secondlens.cli.demo.settings import DemoSettings, Facts, Stage, Step, Told
from secondlens.viewer.document import Table
from secondlens.world.dataset import read_scenes

METHODS = ("activation", "contribution", "traced-contribution", "raw-attention", "grad-cam", "legrad", "text-span")
"""The paper's heat maps, ours, and others."""
SCORES = {"pixel_accuracy": "pixel accuracy, %", "miou": "mIoU, %", "map": "mAP, %"}
EXAMPLE = 3
"""Which of the examples is looked at."""


def _example(settings: DemoSettings) -> tuple[str, list[str]]:
    """The picture's path and the nouns it shows."""
    scene = read_scenes(settings.examples)[EXAMPLE]
    return str(settings.examples / "images" / f"{EXAMPLE:06}.png"), list(scene.nouns)


def _segmentation(stage: Stage) -> Told:
    settings = stage.settings
    image, nouns = _example(settings)
    out = settings.pictures / "segmentation.png"
    texts = [word for noun in nouns for word in ("--text", f"a {noun}")]
    facts = stage.call("segment", settings.model, settings.atlas, image, *texts, "--out", out)
    found = np.asarray(Image.open(out.with_name("segmentation.mask.png")))
    rows = []
    for number, noun in enumerate(nouns):
        mask = _mask(settings, number) > 0
        mine = found == number + 1
        rows.append([noun, facts["texts"][number]["score"], float((mask & mine).sum() / max(1, (mask | mine).sum()))])
    return Told(
        says=[
            "Where does the picture show each thing? The neurons that write the text are chosen, and their exact "
            "contributions are followed back to the patches.",
            "The renderer knows the exact masks, so the overlap is measured, not guessed.",
        ],
        look="whether the warm places lie on the things.",
        tables=[Table("found against exact masks", ["text", "score of the picture", "overlap (IoU)"], rows)],
        pictures=[(out, f"heat maps and classes for {' and '.join(nouns)}")],
    )


def _mask(settings: DemoSettings, number: int) -> np.ndarray:
    """The exact mask of one thing in the example; one that is hidden has no file."""
    return np.asarray(Image.open(settings.examples / "masks" / f"{EXAMPLE:06}-{number}.png"))


def _measured(stage: Stage) -> Told:
    settings = stage.settings
    out = settings.out / "segmentation"
    facts = stage.call(
        "evaluate", "segmentation", settings.model, settings.atlas, "--pairs", settings.evaluation / "pairs.csv",
        "--limit", 20 if settings.quick else 150,
        "--methods", ",".join(METHODS), "--out", out,
    )  # fmt: skip
    rows = [[name, *(100 * facts["methods"][name][key] for key in SCORES)] for name in METHODS]
    return Told(
        says=[
            f"The same on {facts['counted']['images']} things of which the exact mask is known, beside methods that "
            "look at attention or gradients.",
        ],
        look="the first three rows, heat maps of neurons, against the others.",
        tables=[Table("heat maps against exact masks", ["method", *SCORES.values()], rows)],
        pictures=[(out / "grid.png", "the first of them, by each method")],
    )


def _concepts(stage: Stage) -> Told:
    settings = stage.settings
    image, _ = _example(settings)
    out = settings.pictures / "concepts.png"
    facts = stage.call(
        "concepts", settings.model, settings.atlas, image, "--pool", "world", "--out", out, "--limit", 10
    )
    scene = read_scenes(settings.examples)[EXAMPLE]
    truth = [f"{thing.colour} {thing.texture} {thing.noun}" for thing in scene.objects]
    return Told(
        says=[
            f"The neurons that are unusually active on the picture ({len(facts['neurons'])}) name what it shows.",
            f"The truth: {' and '.join(truth)}, background {scene.background}.",
        ],
        look="how many of the first texts are true.",
        tables=[
            Table(
                "concepts in the picture",
                ["text", "score", "strongest neurons"],
                [
                    [
                        row["text"],
                        row["score"],
                        ", ".join(f"{one['layer']}.{one['neuron']}" for one in row["neurons"][:3]),
                    ]
                    for row in facts["concepts"]
                ],
            )
        ],
        pictures=[(out, "where each concept's score comes from")],
    )


def _names(neurons: list[Facts]) -> str:
    return ", ".join(f"{one['layer']}.{one['neuron']}" for one in neurons)


def _explanation(stage: Stage) -> Told:
    settings = stage.settings
    image, nouns = _example(settings)
    out = settings.pictures / "explanation.png"
    facts = stage.call(
        "explain", settings.model, image, "--text", f"a {nouns[0]}", "--atlas", settings.atlas, "--pool",
        "world-single", "--out", out,        "--limit", 8,
    )  # fmt: skip
    return Told(
        says=[
            f'The picture and the text "a {nouns[0]}" have a cosine of {facts["score"]:.3f}. Every part of it is '
            f"accounted for: what is left over is {abs(facts['rounding']):.0e}.",
        ],
        look="the neurons that speak for the text and those that speak against it.",
        tables=[
            Table(
                "neurons whose effect moves the score most",
                ["layer", "neuron", "contribution", "words"],
                [[row["layer"], row["neuron"], row["second_order"], row["words"]] for row in facts["neurons"]],
            )
        ],
        pictures=[(out, "what made the score")],
    )


MEASURED = Step("How well it is found", _measured, ("evaluate segmentation",))
SEGMENTATION = Step("Where in the picture", _segmentation, ("segment",))
CONCEPTS = Step("What is in the picture", _concepts, ("concepts",))
EXPLANATION = Step("What made a score", _explanation, ("explain",))
