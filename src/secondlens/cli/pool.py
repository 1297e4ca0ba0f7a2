"""`secondlens pool`: named lists of texts, encoded by a model."""

from pathlib import Path
from typing import Annotated

import typer

from secondlens.cli.options import DeviceOption
from secondlens.cli.output import (
    JsonOption,
    print_facts,
    print_json,
    print_table,
    running,
    warnings_to_stderr,
)

app = typer.Typer(help="Make and look at pools of texts.", no_args_is_help=True)

SOURCE = (
    "words-10k, words-30k, wordnet-nouns, imagenet-classes, world and world-single (the embedded world's), labels (a "
    "classifier's own), or a file: one text a line, or a CSV with a column 'text'."
)


@app.command()
def create(
    source: Annotated[str, typer.Argument(help=SOURCE)],
    model: Annotated[str, typer.Option(help="The model that encodes it.")],
    name: Annotated[str | None, typer.Option(help="What to call it; default: the source's name.")] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="A prompt with {} for the text; several are averaged.")
    ] = None,
    block: Annotated[Path | None, typer.Option(help="A file of texts to leave out.")] = None,
    min_length: Annotated[int, typer.Option(help="Shortest text, in characters.")] = 1,
    max_length: Annotated[int, typer.Option(help="Longest text, in characters.")] = 1000,
    truncate: Annotated[
        bool, typer.Option(help="Cut texts longer than the model's context; they are left out otherwise.")
    ] = False,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Encode a list of texts by a model, once, and keep it for every command."""
    from secondlens.data.texts import TextRules, read_texts
    from secondlens.descriptions.pools import open_pool
    from secondlens.lens import load_model

    blocked = frozenset() if block is None else frozenset(read_texts(block))
    rules = TextRules(blocked, min_length, max_length)
    with running() as run:
        pool = open_pool(
            source,
            load_model(model, device=device),
            name=name,
            templates=template,
            rules=None if rules == TextRules() else rules,
            truncate=truncate,
            progress=run.counting("encoding texts"),
        )
    facts = pool.card.model_dump()
    if as_json:
        print_json(facts)
    else:
        print_facts(_facts(facts))


@app.command()
def generate(
    classes: Annotated[Path, typer.Option(help="Classes to describe: one a line, or a CSV with a column 'text'.")],
    llm: Annotated[str, typer.Option(help="The language model: openai:MODEL, hf:NAME-or-FOLDER or scripted:FILE.")],
    out: Annotated[Path, typer.Option(help="Where the descriptions go: a .csv; a .json beside it says how.")],
    per_class: Annotated[int, typer.Option(help="Descriptions to ask for, a class.")] = 28,
    prompt: Annotated[
        str | None, typer.Option(help="What to ask, with {class} and, where it is wanted, {n}; default: our own.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="How freely it samples; 0 takes the likeliest words.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 2048,
    seed: Annotated[int, typer.Option(help="Random seed of the sampling, where the model has one.")] = 0,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what was written before and start anew.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a language model write descriptions of classes: a file for `pool create`."""
    from secondlens.data.generate import PROMPT, generate_descriptions
    from secondlens.data.language import open_language_model
    from secondlens.data.texts import read_texts
    from secondlens.disk.files import check_file

    check_file(out, ".csv")
    names = read_texts(classes)
    model = open_language_model(llm, max_tokens=max_tokens, temperature=temperature)
    with running() as run:
        report = generate_descriptions(
            names,
            model,
            out,
            per_class=per_class,
            prompt=PROMPT if prompt is None else prompt,
            seed=seed,
            progress=run.counting("describing classes"),
            restart=restart,
        )
    facts = report.facts()
    if as_json:
        print_json(facts)
    else:
        print_facts({**facts, "failed": ", ".join(report.failed) or "none"})


@app.command(name="list")
def list_pools(as_json: JsonOption = False) -> None:
    """List the pools that are kept."""
    from secondlens.descriptions.pools import find_pools, pools_folder

    with warnings_to_stderr():
        found = [{**card.model_dump(), "folder": str(folder)} for folder, card in find_pools()]
    if as_json:
        print_json({"folder": str(pools_folder()), "pools": found})
    elif not found:
        print(f"no pools in {pools_folder()}; make one with: secondlens pool create words-10k --model MODEL")
    else:
        columns = ("name", "count", "model", "source", "created")
        print_table(columns, [[pool[column] for column in columns] for pool in found], f"pools in {pools_folder()}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A pool's name or folder.")],
    limit: Annotated[int, typer.Option(help="How many texts to print.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show pools of a name: where the texts come from, what was left out, and the first of them."""
    from secondlens.descriptions.pool import Pool
    from secondlens.descriptions.pools import find_pools
    from secondlens.errors import TextError, closest

    with warnings_to_stderr():
        known = [(folder, card.name) for folder, card in find_pools()]
    folders = [folder for folder, called in known if called == name]
    if not folders and Path(name).is_dir():
        folders = [Path(name)]
    if not folders:
        raise TextError(f"no pool {name!r}{closest(name, {called for _, called in known})}")
    pools = [Pool.open(folder) for folder in folders]
    if as_json:
        print_json({"pools": [{**pool.card.model_dump(), "texts": pool.texts[:limit]} for pool in pools]})
        return
    for pool in pools:
        print_facts(_facts(pool.card.model_dump()))
        print_table(["row", "text"], list(enumerate(pool.texts[:limit])), f"the first of {len(pool.texts)} texts")


def _facts(card: dict[str, object]) -> dict[str, object]:
    left_out, templates, generated = card["left_out"], card["templates"], card["generated"]
    assert isinstance(left_out, dict)
    assert isinstance(templates, tuple)
    return {
        "pool": card["name"],
        "texts": card["count"],
        "source": card["source"],
        "left out": ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none",
        "templates": templates[0] if len(templates) == 1 else f"{len(templates)}, averaged; the first: {templates[0]}",
        "model": card["model"],
        "prompt": generated["prompt"] if isinstance(generated, dict) else "none: not written by a language model",
    }
