"""Whether everybody can use the pages: axe-core's rules in light and dark, narrow screens, the keyboard."""

from typing import Any

import pytest
from viewer_world import World, go

PAGES = {
    "overview": ("", ""),
    "layer": ("#/layer/1?words=a&explained_variance=0.1..", "Layer 1"),
    "neuron": ("#/neuron/1/40?pool=things-i", "Layer 1, neuron 40"),
    "search": ("#/search?q=bat", "Search"),
    "neurons": ("#/compare/neurons?a=0/3&b=1/40", "Compare neurons"),
    "layers": ("#/compare/layers", "Compare layers"),
    "atlases": ("#/compare/atlases", "Compare atlases"),
    "attack": ("#/attack", "Semantic adversarial images"),
    "audit": ("#/audit", "Spurious cues"),
    "review": ("#/audit/0?cue=1", "cat taken for <b>boat</b>"),
    "failure": ("#/nothing", "That did not work"),
}


def violations(page: Any) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{rule['id']}: {node['html'][:160]}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, exported: str, served: str, world: World, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1200, "height": 800})
    page = context.new_page()
    for name, (path, heading) in PAGES.items():
        go(page, exported + path, heading)
        assert violations(page) == [], name
    go(page, f"{served}#/image", "Image")
    page.set_input_files("#file", world.pictures / "picture-01.png")
    page.get_by_role("heading", name="Active neurons").wait_for()
    assert violations(page) == []
    context.close()


def test_narrow_screens_do_not_scroll_sideways(browser: Any, exported: str) -> None:
    context = browser.new_context(viewport={"width": 340, "height": 700})
    page = context.new_page()
    for name, (path, heading) in PAGES.items():
        go(page, exported + path, heading)
        assert page.evaluate("document.documentElement.scrollWidth") <= 340, name
    context.close()


def test_everything_is_reached_with_the_keyboard(page: Any, exported: str) -> None:
    go(page, exported, "")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    # "/" goes to the field in the bar; a neuron's place leads to it.
    page.keyboard.press("/")
    page.keyboard.type("1/40")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Layer 1, neuron 40").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("bat")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Search").wait_for()
    go(page, exported, "")
    first = page.locator(".bar-link").first
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("Array.from(document.querySelectorAll('.bar-link')).indexOf(document.activeElement)") == 2
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Layer 0").wait_for()
