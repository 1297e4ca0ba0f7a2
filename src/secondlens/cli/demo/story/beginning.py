"""The model and the scenes."""

from secondlens.cli.demo.settings import EVALUATION_SEED, PICTURE_SEED, SURVEY_SEED, Stage, Step, Told
from secondlens.viewer.document import Table
from secondlens.world.dataset import read_scenes
from secondlens.world.sheet import sheet


def _model(stage: Stage) -> Told:
    settings = stage.settings
    facts = stage.call("models", "check", settings.model)
    figures = stage.call("world", "measure", settings.model, "--scenes", 100 if settings.quick else 400, "--groups", 1)
    stage.facts["last"] = facts["lens_layers"][-1]
    stage.facts["measured"] = figures
    names = {
        "noun": "noun, among 32",
        "colour": "colour, among 10",
        "texture": "texture, among 4",
        "background": "background, among 8",
        "noun_biased": "noun, with its planted cues",
        "noun_counter": "noun, never with its planted cues",
        "noun_swapped": "noun, with the cues of another noun",
        "retrieval": "the right caption, among 100",
    }
    return Told(
        says=[
            f"The model is a small CLIP that was trained on drawn scenes: {facts['layers']} layers of "
            f"{facts['neurons']} neurons, {facts['heads']} heads a layer, {facts['embed_dim']} dimensions.",
            "It was checked when it was loaded: attention and embedding, computed again from captured parts, agree "
            f"with the model's own to {max(facts['embedding_error'], facts['attention_error']):.0e}.",
        ],
        look="how the accuracy of nouns falls where a noun comes without its usual surroundings, and further with "
        "those of another noun: the model has learned spurious cues.",
        tables=[
            Table(
                "zero-shot accuracy on scenes it has not seen",
                ["asked for", "right, %"],
                [[title, 100 * figures[name]] for name, title in names.items()],
            )
        ],
    )


def _scenes(stage: Stage) -> Told:
    settings = stage.settings
    surveyed = ("--kind", "biased", "--seed", SURVEY_SEED, "--no-masks")
    stage.call("world", "render", settings.survey, "--count", settings.scenes, *surveyed)
    labelled = ("--kind", "unbiased", "--objects", 1, "--seed", EVALUATION_SEED)
    stage.call("world", "render", settings.evaluation, "--count", settings.evaluated, *labelled)
    examples = ("--kind", "unbiased", "--objects", 2, "--seed", PICTURE_SEED, "--size", 256)
    stage.call("world", "render", settings.examples, "--count", 8, *examples)
    picture = settings.pictures / "scenes.png"
    sheet(read_scenes(settings.survey)[:15], columns=5).save(picture)
    return Told(
        says=[
            f"{settings.scenes} scenes to survey the neurons over, {settings.evaluated} labelled ones to measure on, "
            "and a few to look at. Everything in them is known: things, colours, textures, background, exact masks.",
            "The surveyed scenes are biased as a written table says: boats are mostly on the sea. The others are not.",
        ],
        look="the pictures: you should be able to name the things in them.",
        pictures=[(picture, "some of the surveyed scenes, with captions of the grammar")],
    )


MODEL = Step("The model", _model, ("models check", "world measure"))
SCENES = Step("Scenes of which everything is known", _scenes, ("world render",))
