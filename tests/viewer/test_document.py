"""Reports as documents: the same content in Markdown and HTML, whatever texts are in it."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from secondlens.viewer.document import Document, Figure, Section, Table, escape_markdown, marked, write_document

HOSTILE = "<img src=x onerror=alert(1)> | a_b _c_ *d* `e` [f](g)"


def document() -> Document:
    table = Table(f"table {HOSTILE}", ["name", HOSTILE], [["x", 0.12345], [HOSTILE, 12.345], [None, 3]])
    figure = Figure([("a b.png", HOSTILE), ("c.png", "second")], [HOSTILE, ((HOSTILE, "strong"), (" rest", ""))])
    section = Section(
        HOSTILE,
        aside="1.5 s",
        paragraphs=[HOSTILE, marked("**Bold** and *slanted* and plain")],
        look=HOSTILE,
        items=[HOSTILE],
        tables=[table],
        figures=[figure],
        code=["secondlens survey 'a b'"],
    )
    return Document(HOSTILE, [HOSTILE], [HOSTILE], [section])


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(tmp_path: Path) -> Page:
    write_document(document(), tmp_path / "report.html")
    page = Page()
    page.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    return page


def test_texts_stay_texts_in_html(page: Page) -> None:
    # In title, heading, notice, lead, section, paragraph, look, item, caption, column, cell, and twice below a figure.
    assert page.text.count(HOSTILE) == 13
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [(image["src"], image["alt"]) for image in images] == [("a b.png", HOSTILE), ("c.png", "second")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert {"script", "link", "iframe"}.isdisjoint(tag for tag, _ in page.tags)


def test_numbers_are_aligned_and_short(page: Page) -> None:
    cells = [attributes for tag, attributes in page.tags if tag == "td"]
    assert [cell.get("class") for cell in cells] == [None, "number", None, "number", None, "number"]
    assert "0.123" in page.text
    assert "0.12345" not in page.text


def test_texts_stay_texts_in_markdown(tmp_path: Path) -> None:
    write_document(document(), tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    escaped = escape_markdown(HOSTILE)
    assert escaped == r"\<img src=x onerror=alert(1)> \| a_b \_c\_ \*d\* \`e\` \[f\](g)"
    assert lines[0] == f"# {escaped}"
    assert f"## {escaped} (1.5 s)" in lines
    assert "**Bold** and *slanted* and plain" in lines
    assert f"| name | {escaped} |" in lines
    assert f"| {escaped} | 12.3 |" in lines
    assert "|  | 3 |" in lines
    assert f"![{escaped}](<a b.png>) ![second](c.png)" in lines
    assert f"**{escaped}** rest" in lines
    assert "secondlens survey 'a b'" in lines


def test_an_ending_without_a_template(tmp_path: Path) -> None:
    from jinja2 import TemplateNotFound

    with pytest.raises(TemplateNotFound):
        write_document(document(), tmp_path / "report.txt")
