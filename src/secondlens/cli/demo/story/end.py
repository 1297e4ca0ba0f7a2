"""What only drawn scenes can tell, and the atlas to browse."""

from secondlens.cli.demo.settings import Stage, Step, Told
from secondlens.viewer.document import Table


def _laboratory(stage: Stage) -> Told:
    settings = stage.settings
    out = settings.out / "laboratory"
    facts = stage.call(
        "world", "lab", settings.model, settings.atlas, "--out", out, "--pool", "world-single",
        "--scenes", 300 if settings.quick else 1500, "--shown", 0 if settings.quick else 1,
    )  # fmt: skip
    return Told(
        says=[
            "What a drawn scene shows is known, so each neuron's true selectivity for every concept is measured, and "
            "its words are compared with the truth.",
        ],
        look="agreement against chance: the same with the words of another neuron.",
        tables=[
            Table(
                "the words of neurons against what they truly respond to",
                ["layer", "selective, %", "first word right, %", "by chance, %", "rank correlation", "by chance"],
                [
                    [
                        layer["layer"],
                        100 * layer["selective_fraction"],
                        100 * layer["words"]["precision@1"]["observed"],
                        100 * layer["words"]["precision@1"]["chance"],
                        layer["words"]["rank_correlation"]["observed"],
                        layer["words"]["rank_correlation"]["chance"],
                    ]
                    for layer in facts["layers"]
                ],
            )
        ],
        pictures=[
            (
                out / "laboratory.png",
                "what neurons tell best, whether their words say so, and which planted cues audits find",
            )
        ],
    )


def _atlas(stage: Stage) -> Told:
    settings = stage.settings
    site = settings.out / "site"
    ablations = settings.out / "ablations" / "ablations.json"
    found = {
        "--ablations": ablations,
        "--audit": settings.audits,
        "--attack": settings.attack / "report",
    }
    more = [part for option, path in found.items() if path.exists() for part in (option, path)]
    facts = stage.call("export", settings.atlas, site, "--title", "The embedded world", *more)
    return Told(
        says=[
            f"Everything about every neuron is in {site}, as {facts['files']} plain files "
            f"({facts['bytes'] / 2**20:.0f} MiB).",
            f"Open it with: secondlens view {site}",
        ]
    )


LABORATORY = Step("What only drawn scenes can tell", _laboratory, ("world lab",))
ATLAS = Step("An atlas to browse", _atlas, ("export",))
