"""What neurons write, and words for it."""

from secondlens.cli.demo.settings import Stage, Step, Told
from secondlens.viewer.document import Table

TEXTS = 8
"""Texts a neuron: embeddings have 128 dimensions, and as many texts would fit anything."""

ASKED = ("a boat", "a red thing", "a striped thing", "a thing in the snow")
"""A neuron is looked for that writes each of these."""


def _survey(stage: Stage) -> Told:
    settings = stage.settings
    facts = stage.call(
        "survey", settings.model, settings.survey / "images", "--out", settings.atlas, "--top", settings.top,
        "--batch-size", 64,
    )  # fmt: skip
    layers = facts["layers"]
    return Told(
        says=[
            f"One pass over {facts['images']} scenes gave, for each of {facts['neurons']} neurons of the layers "
            f"{layers[0]} to {layers[-1]}, its second-order effect: what it writes to the joint space of texts and "
            "images through the attention of all later layers.",
            f"Kept of each: its mean, its main direction, and the {settings.top} scenes where it acts most "
            f"({100 * settings.top / facts['images']:.0f} %, about as many as show one of the 32 things).",
        ]
    )


def _words(stage: Stage) -> Told:
    atlas, model = stage.settings.atlas, stage.settings.model
    facts = stage.call("describe", atlas, "--pool", "world-single", "-m", TEXTS, "--model", model)
    stage.call("describe", atlas, "--pool", "world", "-m", TEXTS, "--model", model, "--null-draws", 100)
    rows = [
        [row["layer"], row["texts"], row["cosine"], 100 * row["beats_random"]]
        for row in facts["layers"]
        if row["texts"] in (4, TEXTS)
    ]
    return Told(
        says=[
            f"Each neuron's direction is written as a sum of {TEXTS} texts of the grammar: once of single ones such as "
            '"a boat" or "a red thing", once of about 1,000 such as "a red boat" or "a boat on the sea".',
            "A random direction can be approximated by texts too; so each description is compared with those of "
            "random directions.",
        ],
        look="the last column: the share of neurons whose words fit better than words fit random directions.",
        tables=[
            Table(
                "descriptions by single texts, by layer and number of texts",
                ["layer", "texts", "cosine with the direction", "better than random, %"],
                rows,
            )
        ],
    )


def _neurons(stage: Stage) -> Told:
    settings, last = stage.settings, stage.facts["last"]
    rows, pictures = [], []
    for text in ASKED:
        found = stage.call("neurons", "search", settings.model, settings.atlas, text, "--layer", last, "--limit", 1)
        neuron = found["neurons"][0]["neuron"]
        sheet = settings.pictures / f"neuron-{last}-{neuron}.png"
        card = stage.call("neurons", "show", settings.atlas, last, neuron, "--pool", "world-single", "--sheet", sheet)
        words = ", ".join(("-" if row["coefficient"] < 0 else "") + row["text"] for row in card["texts"][:5])
        rows.append([text, f"{last}.{neuron}", words, 100 * card["explained_variance"]])
        pictures.append((sheet, f"where neuron {last}.{neuron} acts most; it was found by the text {text!r}"))
    return Told(
        says=["Neurons can be looked for by a text: here are four of the last layer that attention still reads."],
        look="whether the scenes show what the words say. A neuron often stands for more than one thing.",
        tables=[
            Table(
                "neurons by text", ["looked for", "neuron", "its first words (- : against)", "rank-one part, %"], rows
            )
        ],
        pictures=pictures,
    )


SURVEY = Step("A survey of all neurons", _survey, ("survey",))
WORDS = Step("Words for neurons", _words, ("describe",))
NEURONS = Step("Neurons to look at", _neurons, ("neurons search", "neurons show"))
