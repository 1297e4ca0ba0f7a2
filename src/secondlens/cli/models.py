"""`secondlens models`: what a model reference is and whether the lens describes it."""

from typing import Annotated, Any

import typer

from secondlens.cli.output import JsonOption, print_facts, print_json

app = typer.Typer(help="Check model references.", no_args_is_help=True)

# Texts that any text tower should place apart, each nearest to its own paraphrase.
PAIRS = (
    ("a photo of a dog", "a picture of a puppy"),
    ("a red sports car", "a fast automobile"),
    ("a bowl of fruit", "apples and bananas on a plate"),
    ("a mountain landscape", "snowy peaks and valleys"),
)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="A reference, e.g. hf:openai/clip-vit-base-patch32 or hf:./folder.")],
    as_json: JsonOption = False,
) -> None:
    """Load a model, check that the lens describes it, and print what was found."""
    from secondlens.lens import load_model

    loaded = load_model(model)
    assert loaded.check is not None
    tower = loaded.tower
    facts: dict[str, Any] = {
        "model": model,
        "family": loaded.family,
        "layers": loaded.layers,
        "heads": loaded.heads,
        "neurons": loaded.neurons,
        "width": tower.width,
        "embed_dim": loaded.embed_dim,
        "patch": tower.patch,
        "image_size": list(tower.image_size),
        "activation": tower.activation,
        "pooling": tower.pooling,
        "lens_layers": list(tower.lens_layers),
        "embedding_error": loaded.check.embedding_error,
        "attention_error": loaded.check.attention_error,
        "texts": _texts(loaded),
        "zero_shot": _zero_shot(loaded),
    }
    if as_json:
        print_json(facts)
        return
    facts["image_size"] = " x ".join(map(str, facts["image_size"]))
    facts["lens_layers"] = f"{facts['lens_layers'][0]} to {facts['lens_layers'][-1]}"
    print_facts({name.replace("_", " "): "none" if value is None else value for name, value in facts.items()})


def _texts(model: Any) -> str:
    if model.classifier is not None:
        return f"{len(model.classifier.labels)} class labels"
    return "text tower" if model.text_encoder is not None else "none (no text tower or tokenizer)"


def _zero_shot(model: Any) -> str | None:
    """Whether the text tower places paraphrases together: a wrong activation or tokenizer shows here."""
    if model.text_encoder is None or model.classifier is not None:
        return None
    left, right = (model.encode_texts([pair[side] for pair in PAIRS]) for side in (0, 1))
    similar = left @ right.T
    right_ones = int((similar.argmax(dim=1).cpu() == similar.new_tensor(range(len(PAIRS))).cpu()).sum())
    verdict = "plausible" if right_ones >= len(PAIRS) - 1 else "DOUBTFUL: wrong activation, tokenizer or weights?"
    return f"{right_ones} of {len(PAIRS)} paraphrases found, {verdict}"
