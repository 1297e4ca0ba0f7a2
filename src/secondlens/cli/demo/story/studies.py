"""What the effects do for accuracy."""

from secondlens.cli.demo.settings import Stage, Step, Told
from secondlens.viewer.document import Table

COLUMNS = {
    "baseline": "unchanged",
    "without_all": "none",
    "without_small": "only large ones",
    "without_large": "only small ones",
    "rank_one": "rank one",
}


def _ablation(stage: Stage) -> Told:
    settings = stage.settings
    out = settings.out / "ablations"
    facts = stage.call(
        "ablate", settings.model, settings.atlas,
        "--images", settings.evaluation / "labels.csv",
        "--out", out, "--batch-size", 64,
    )  # fmt: skip
    worst = min(facts["layers"], key=lambda layer: layer["without_all"])
    lost = worst["baseline"] - worst["without_all"]
    kept = (worst["without_small"] - worst["without_all"]) / lost if lost > 0 else 0.0
    stage.facts["ablation"] = facts
    return Told(
        says=[
            f"The model tells {facts['classes']} things apart, on {facts['images']} scenes: "
            f"{100 * worst['baseline']:.1f} % right.",
            f"With all effects of layer {worst['layer']} held at their mean it loses {100 * lost:.1f} points: that "
            "layer matters most.",
            f"Keeping only the effects above each neuron's threshold keeps {100 * kept:.0f} % of that; replacing every "
            f"effect by its one main direction costs {100 * (worst['baseline'] - worst['rank_one']):.1f} points.",
        ],
        look="which layers matter (few, and late), and how little is lost with one direction a neuron.",
        tables=[
            Table(
                "accuracy in % with the effects of one layer replaced",
                ["layer", *COLUMNS.values()],
                [[layer["layer"], *(100 * layer[name] for name in COLUMNS)] for layer in facts["layers"]],
            )
        ],
        pictures=[(out / "ablations.png", "accuracy by layer, with 95 % intervals")],
    )


ABLATION = Step("What the effects do for accuracy", _ablation, ("ablate",))
