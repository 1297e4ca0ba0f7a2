"""The review page of an audit in a real browser: numbers, hostile texts, the keyboard, judgements that are kept."""

import json
from pathlib import Path
from typing import Any

from viewer_world import HOSTILE_NAMES, HOSTILE_TEXTS, World, application, go, save_audits

from secondlens.viewer.site import Site

HEADING = "cat taken for <b>boat</b>"


def test_the_audits_of_a_site(page: Any, exported: str) -> None:
    go(page, f"{exported}#/audit", "Spurious cues")
    pairs = page.get_by_role("region", name="Pairs", exact=True).locator("tbody tr").inner_text()
    assert [cell.strip() for cell in pairs.split("\t")] == [HEADING, "paper", "things & <i>", "5", "0"]
    cells = page.get_by_role("region", name="Matrix").locator("tbody tr")
    # In percent of the strongest pair; rows and columns are boat, cat, dog.
    assert [cells.nth(row).locator("td").all_inner_texts() for row in range(3)] == [
        ["", "–", "–"], ["100", "", "–"], ["–", "50", ""],
    ]  # fmt: skip
    errors = page.get_by_role("region", name="Errors with").locator("tbody tr").inner_text().split("\t")
    assert [cell.strip() for cell in errors[2:]] == ["50% 4 of 8", "8.33% 1 of 12", "+0.417", "0.04", "0.05"]
    assert errors[1].strip() == HOSTILE_TEXTS[0]
    removal = page.get_by_role("region", name="Removal").locator("tbody tr").all_inner_texts()
    assert [row.split("\t")[1:] for row in removal] == [["90%", "100%"], ["87.5%", "25%"], ["80%", "0%"]]
    assert page.locator("main b, main i, main u, main script").count() == 0
    page.get_by_role("region", name="Matrix").get_by_role("link").click()
    page.get_by_role("heading", level=1, name=HEADING).wait_for()


def test_what_stands_behind_a_cue(page: Any, exported: str) -> None:
    go(page, f"{exported}#/audit/0?cue=1", HEADING)
    shown = page.locator(".evidence")
    assert shown.locator("h2").first.inner_text() == " ".join(HOSTILE_TEXTS[1].split())
    assert shown.locator(".figures dd").all_inner_texts() == ["0.25", "0.01", "0.03", "0.02", "0.25"]
    assert "7 neurons" in shown.inner_text()
    names = "all => all.map(one => one.getAttribute('aria-label'))"
    assert shown.locator("[role=img]").evaluate_all(names) == [*HOSTILE_NAMES[:2], "picture-07.png"] * 2
    assert page.locator("main b, main i, main u, main script, main img").count() == 0
    assert "<u>ship</u>" in page.locator("main").inner_text()
    shown.get_by_role("link", name="Neuron 1/39").click()
    page.get_by_role("heading", name="Layer 1, neuron 39").wait_for()


def test_judgements_by_keyboard_are_kept_and_downloaded(page: Any, exported: str, world: World, tmp_path: Path) -> None:
    go(page, f"{exported}#/audit/0", HEADING)
    page.get_by_role("radio").first.focus()
    page.keyboard.press("a")
    page.keyboard.press("r")
    page.keyboard.press("a")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("u")
    page.get_by_text("taken back. 1 accepted, 1 rejected, of 5 cues.").wait_for()
    assert "cue=2" in page.url
    assert page.locator(".evidence h2").first.inner_text() == " ".join(HOSTILE_TEXTS[2].split())
    page.get_by_role("button", name="Reject").click()
    assert page.get_by_role("button", name="Reject").get_attribute("aria-pressed") == "true"
    page.reload()
    page.get_by_text("1 accepted, 2 rejected, of 5 cues.").wait_for()
    marks = page.locator(".cues li").evaluate_all("all => all.map(one => one.dataset.judgement)")
    assert marks == ["accepted", "rejected", "rejected", "open", "open"]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download judgements").click()
    found = json.loads(Path(waiting.value.path()).read_text())
    assert (found["format"], found["atlas"]) == (2, world.atlas.manifest.created)
    rows = found["judgements"]
    assert {row["cue"]: row["judgement"] for row in rows} == dict(
        zip(HOSTILE_TEXTS[:3], ("accepted", "rejected", "rejected"), strict=True)
    )
    assert {key: rows[0][key] for key in ("source_class", "target_class", "scoring", "pool", "score", "p_family")} == {
        "source_class": "cat", "target_class": "<b>boat</b>", "scoring": "paper", "pool": "things & <i>", "score": 0.5,
        "p_family": 0.03,
    }  # fmt: skip
    # Taken to another browser: here, one whose storage was emptied.
    page.evaluate("localStorage.clear()")
    go(page, f"{exported}#/audit", "Spurious cues")
    page.reload()
    decided = page.get_by_role("region", name="Pairs", exact=True).locator("td").last
    assert decided.inner_text() == "0"
    file = tmp_path / "judgements.json"
    file.write_text(json.dumps({**found, "judgements": [*rows, {"judgement": "shot"}, None, 7]}))
    page.set_input_files("#judgements", file)
    page.get_by_text("3 judgements read").wait_for()
    assert decided.inner_text() == "3"
    file.write_text(json.dumps({**found, "atlas": "another"}))
    page.set_input_files("#judgements", file)
    page.get_by_text("no judgements of this atlas").wait_for()


def test_judgements_without_storage(browser: Any, exported: str) -> None:
    context = browser.new_context()
    context.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('none'); } })")
    page = context.new_page()
    go(page, f"{exported}#/audit/0", HEADING)
    page.get_by_role("button", name="Accept").click()
    page.get_by_text("This browser keeps nothing").wait_for()
    context.close()


def test_a_site_without_an_audit_and_a_pair_that_is_not_there(page: Any, exported: str, served: str) -> None:
    page.goto(f"{served}#/audit")
    page.get_by_role("alert").get_by_text("made without an audit").wait_for()
    for place in ("7", "x", "__proto__"):
        page.goto(f"{exported}#/audit/{place}")
        page.get_by_role("alert").get_by_text("no such pair").wait_for()


def test_the_server_has_the_same_page(world: World, tmp_path: Path, site: Path) -> None:
    from starlette.testclient import TestClient

    files = Site(world.atlas)
    files.add(audit=save_audits(tmp_path / "audits", world.atlas))
    with TestClient(application(world, files=files), base_url="http://localhost") as client:
        assert client.get("/data/site.json").json()["audit"]["pairs"] == 1
        for name in ("data/audit/index.json", "data/audit/pair-000.json"):
            assert client.get(f"/{name}").content == (site / name).read_bytes()
