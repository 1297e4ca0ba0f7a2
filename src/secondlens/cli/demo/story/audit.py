"""Spurious cues of a pair of classes, and pictures made from them."""

from secondlens.cli.demo.settings import Stage, Step, Told
from secondlens.viewer.document import Table
from secondlens.world.biases import Biases
from secondlens.world.phrases import concepts_of


def _audit(stage: Stage) -> Told:
    settings = stage.settings
    shown, predicted = settings.shown, settings.predicted
    planted = {
        ("noun" if cue.kind == "companion" else cue.kind, cue.word)
        for cue in Biases.load().planted_cues(shown, predicted)
    }
    words = ", ".join(word for _, word in sorted(planted, reverse=True))
    rows = []
    for scoring in ("paper", "images"):
        facts = stage.call(
            "audit", "pair", settings.model, settings.atlas, "--shown", shown, "--predicted", predicted,
            "--pool", "world", "--scoring", scoring, "--cues", 8, "--similarity", "name",
            "--out", settings.audits / f"{scoring}.json",
        )  # fmt: skip
        rows += [
            [scoring, cue["text"], cue["score"], cue["p_value"], "yes" if concepts_of(cue["text"]) & planted else ""]
            for cue in facts["cues"]
        ]
    return Told(
        says=[
            f"Which things, other than a {predicted} itself, make the model see a {predicted} where there is a "
            f"{shown}? The words of the neurons that write from one class to the other tell.",
            f"What the training scenes planted for the {predicted} and not for the {shown}: {words}.",
        ],
        look="the last column: planted cues that the audit found without being told.",
        tables=[Table(f"cues from {shown} to {predicted}", ["scoring", "cue", "score", "p", "planted"], rows)],
    )


def _attack(stage: Stage) -> Told:
    settings = stage.settings
    folder = settings.attack
    facts = stage.call(
        "attack", "run", settings.model, settings.atlas, "--out", folder,
        "--pair", f"{settings.shown}:{settings.predicted}", "--pool", "world", "--similarity", "name",
        "--llm", "world:alone", "--images", "world:", "--judge", "exact",
        "--preset", "smallest" if settings.quick else "quick",
        "--method", "images", "--method", "second-order", "--method", "similar-words", "--method", "random",
        "--method", "none",
    )  # fmt: skip
    rows = [
        [row["method"], 100 * row["success"], 100 * other["success"], row["valid"]]
        for row, other in zip(facts["binary"]["pairs"], facts["among_all"]["pairs"], strict=True)
    ]
    maps = sorted((folder / "report" / "gallery").glob("*-map.png"))[:3]
    return Told(
        says=[
            "The grammar writes captions with the cues, the renderer draws them, and the renderer's own knowledge "
            f"decides: every picture counted shows a {settings.shown} and no {settings.predicted}.",
            f"The full report is {folder / 'report' / 'report.html'}.",
        ],
        look="whether cues found through neurons fool the model more often than words near the classes, than random "
        "ones, and than none.",
        tables=[
            Table(
                f"pictures of a {settings.shown} taken for a {settings.predicted}",
                ["cues from", "of the two classes, %", "among all 32, %", "pictures"],
                rows,
            )
        ],
        pictures=[(path, f"what made it a {settings.predicted}: {path.stem.removesuffix('-map')}") for path in maps],
    )


AUDIT = Step("Spurious cues", _audit, ("audit",))
ATTACK = Step("Pictures that fool the model", _attack, ("attack run",))
