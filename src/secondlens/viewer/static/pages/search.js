// From a word to neurons: those whose direction points along it, and those it describes. Any text when served.

import { DataError, description, json, numberOf, site, textRow, texts, withPool } from "../data.js";
import { empty, h, section, text } from "../dom.js";
import { count, number, percent } from "../format.js";
import { neuronTable } from "../parts/list.js";

const SUGGESTED = 40;

export async function render(parts, query) {
  const words = description(query.get("pool"));
  const wanted = query.get("q") ?? "";
  const list = words === null ? [] : await texts(words);
  const served = site.served?.texts ?? false;
  const results = h("div", { class: "results" });
  const suggestions = h("div", {});
  const input = h("input", { type: "search", id: "search", value: wanted, autocomplete: "off", spellcheck: "false",
    oninput: () => suggest() });
  const form = h("form", { class: "controls", role: "search", "aria-label": "Neurons by a word", onsubmit: (event) => {
    event.preventDefault();
    location.hash = withPool(`#/search?q=${encodeURIComponent(input.value.trim())}`, words);
  } }, h("label", { for: "search" }, served ? "Any text" : "Word"), input, h("button", {}, "Search"));

  function suggest() {
    const asked = input.value.trim().toLocaleLowerCase();
    const rows = [];
    for (let row = 0; row < list.length && asked !== ""; row += 1) {
      const at = list[row].toLocaleLowerCase().indexOf(asked);
      if (at >= 0) rows.push([at > 0, list[row].length, row]);
    }
    rows.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
    const shown = rows.slice(0, SUGGESTED).map(([, , row]) => h("li", {},
      h("a", { href: withPool(`#/search?q=${encodeURIComponent(list[row])}`, words) }, text(list[row]))));
    suggestions.replaceChildren(asked === "" || words === null ? "" : h("p", { class: "quiet", role: "status" },
      rows.length === 0 ? "No such word in " : `${count(rows.length)} in `, text(words.name)),
    h("ul", { class: "suggestions" }, shown));
  }
  suggest();
  const row = list.indexOf(wanted);
  if (wanted && row >= 0) results.append(...await inPool(words, row));
  if (wanted && served) results.append(await anyText(wanted, words));
  else if (wanted && row < 0) {
    results.append(empty("“", text(wanted), words === null
      ? "” cannot be looked up: the neurons are not described yet."
      : "” is not a word of the pool; choose one above. Other texts can be searched where the site is served with its model."));
  }
  return { title: wanted ? `Search: ${wanted}` : "Search", content: h("div", {}, h("h1", {}, "Search"), form, suggestions, results) };
}

async function inPool(words, row) {
  const { along, described } = await textRow(words, row);
  const parts = [];
  if (along !== null) {
    parts.push(section("Directions along it", await neuronTable(along.numbers,
      [{ title: "Product", values: along.values, write: number }], words)));
  }
  parts.push(section("Described by it", described.numbers.length === 0
    ? empty("No description has this word.")
    : await neuronTable(described.numbers, [{ title: "Share", values: described.values, write: percent }], words)));
  return [h("div", { class: "columns" }, parts)];
}

async function anyText(wanted, words) {
  const title = "By the model’s own text tower";
  let neurons;
  try {
    ({ neurons } = await json(`api/search?text=${encodeURIComponent(wanted)}&limit=40`));
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    // A classifier knows its labels only: what it says of another text is part of the page.
    return section(title, h("p", { class: "notice", role: "alert" }, text(error.message)));
  }
  return section(title, await neuronTable(neurons.map((each) => numberOf(each.layer, each.neuron)),
    [{ title: "Product", values: neurons.map((each) => each.score), write: number }], words));
}
