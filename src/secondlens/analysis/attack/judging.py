"""Fourth stage: is every picture a test? It has to show the shown class and not the predicted one."""

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from secondlens.analysis.attack.folder import ADVICE, AttackFolder, slug, stopped
from secondlens.analysis.attack.judges import Judge, Judgement
from secondlens.disk.journal import Journal
from secondlens.errors import AuditError, SecondLensError
from secondlens.progress import Progress

FOLDER = "judgements"
PERSON = "person"


def journal_of(folder: AttackFolder, name: str, settings: dict[str, object]) -> Journal:
    """A judge's journal. Its verdicts hold for these pictures only: a line names the picture and its caption."""
    path = folder.path / FOLDER / f"{slug(name)}.jsonl"
    return Journal(path, {"judge": name, **settings}, AuditError, ADVICE)


def judge_pictures(
    folder: AttackFolder, images: Sequence[dict[str, Any]], judge: Judge, progress: Progress | None = None
) -> dict[str, dict[str, Any]]:
    """A judge's judgement of every picture, by name; those that are in its journal are not made again.

    A picture that its maker refused is no test, whoever judges.
    """
    journal = journal_of(folder, judge.name, judge.settings)
    found = {line["name"]: line for line in journal.open(lambda line: (line["name"], line["valid"]))}
    for done, line in enumerate(images):
        name = line["name"]
        if name not in found or found[name]["prompt"] != line["prompt"]:
            try:
                said = (
                    Judgement(False, None, line["metadata"]["refused"])
                    if "refused" in line["metadata"]
                    else judge.judge(line, folder.images / f"{name}.png")
                )
            except SecondLensError as error:
                raise stopped(error, f"{done} of {len(images)} judgements are kept") from error
            found[name] = {"name": name, "prompt": line["prompt"], **said.facts()}
            journal.add(found[name])
        if progress is not None:
            progress(f"judged by {judge.name}", done + 1, len(images))
    return {line["name"]: found[line["name"]] for line in images}


def all_judgements(folder: AttackFolder) -> dict[str, dict[str, dict[str, Any]]]:
    """Whatever judges said so far: judge's name to picture's name to line. The last line of a picture counts."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted((folder.path / FOLDER).glob("*.jsonl")):
        content = path.read_bytes()
        header, *lines = [json.loads(line) for line in content[: content.rfind(b"\n") + 1].split(b"\n") if line]
        found[str(header["judge"])] = {line["name"]: line for line in lines}
    return found


def agreement(judgements: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """For every two judges, over the pictures that both decided on: their number, the share on which they agree that a
    picture is valid or not, and Cohen's kappa = (share - chance) / (1 - chance), None where chance is 1.
    """
    rows = []
    for first, second in combinations(judgements, 2):
        names = [
            name
            for name, line in judgements[first].items()
            if line["valid"] is not None and judgements[second].get(name, {}).get("valid") is not None
        ]
        if not names:
            continue
        one = [judgements[first][name]["valid"] for name in names]
        two = [judgements[second][name]["valid"] for name in names]
        share = sum(a == b for a, b in zip(one, two, strict=True)) / len(names)
        yes = sum(one) / len(names), sum(two) / len(names)
        chance = yes[0] * yes[1] + (1 - yes[0]) * (1 - yes[1])
        kappa = (share - chance) / (1 - chance) if chance < 1 else None
        rows.append({"judges": [first, second], "images": len(names), "agree": share, "kappa": kappa})
    return rows
