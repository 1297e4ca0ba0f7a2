// Two neurons, two layers or two atlases side by side.

import { binEdges, counts, linkedBars, quantile, sorted } from "../charts.js";
import { columns, DataError, description, direction, layers, matches, neuronCount, neuronRow, pictures, site, texts,
  wordsRow } from "../data.js";
import { empty, h, section, text } from "../dom.js";
import { COLUMNS, count, percent, sign } from "../format.js";
import { diverging } from "../colour.js";
import { picture } from "../parts/images.js";
import { wordsOf } from "../parts/words.js";

const KINDS = { neurons: compareNeurons, layers: compareLayers, atlases: compareAtlases };
const WORDS = 12;
const IMAGES = 8;

export async function render(parts, query) {
  const kind = parts[0] ?? "neurons";
  if (!(kind in KINDS)) throw new DataError(`Neurons, layers or atlases can be compared, not “${kind}”.`);
  const tabs = ["neurons", "layers", "atlases"].map((name) => h("a", { href: `#/compare/${name}`,
    "aria-current": name === kind ? "page" : null }, name[0].toUpperCase() + name.slice(1)));
  return { title: `Compare ${kind}`, content: h("div", {}, h("h1", {}, `Compare ${kind}`),
    h("nav", { class: "tabs", "aria-label": "What to compare" }, tabs), await KINDS[kind](query)) };
}

function place(value) {
  const [layer, neuron] = (value ?? "").split("/").map(Number);
  return layers().includes(layer) && Number.isInteger(neuron) && neuron >= 0 && neuron < neuronCount() ? { layer, neuron } : null;
}

async function compareNeurons(query) {
  const [a, b] = [place(query.get("a")), place(query.get("b"))];
  const field = (name, label) => [h("label", { for: `place-${name}` }, label),
    h("input", { id: `place-${name}`, name, size: 10, value: query.get(name) ?? "", placeholder: `${layers()[0]}/0`, pattern: "\\d+/\\d+" })];
  const form = h("form", { class: "controls", onsubmit: (event) => {
    event.preventDefault();
    location.hash = `#/compare/neurons?${new URLSearchParams(new FormData(event.target))}`;
  } }, field("a", "Neuron"), field("b", "and"), h("button", {}, "Compare"));
  if (a === null || b === null) {
    const asked = [query.get("a"), query.get("b")].filter(Boolean).length === 2;
    return [form, empty(asked ? "One of these neurons is not in the atlas." : "Give two neurons as layer/number.")];
  }
  const words = description(null);
  const sides = await Promise.all([a, b].map((at) => side(at, words)));
  const [left, right] = sides;
  const shared = left.row.top_positions.filter((position) => right.row.top_positions.includes(position));
  const both = left.words.filter((word) => right.words.some((other) => other.row === word.row));
  return [form,
    section("In common", h("ul", { class: "plain" },
      h("li", {}, "Cosine of their directions: ", h("strong", { id: "cosine" }, sign(cosine(left.direction, right.direction)))),
      h("li", {}, `Top images of both: ${count(shared.length)} of ${count(site.atlas.top)}`),
      words !== null && h("li", {}, `Words of both: ${count(both.length)} of ${count(words.settings.nonzero)}`,
        both.length > 0 && [": ", both.slice(0, 10).map((word, at) => [at > 0 && ", ", text(word.text)])]))),
    h("div", { class: "columns" }, sides.map((each) => column(each, words)))];
}

async function side({ layer, neuron }, words) {
  const [row, said, { values }, vector, list] = await Promise.all([neuronRow(layer, neuron),
    words && wordsRow(words, layer, neuron), columns(layer, words), direction(layer, neuron), words ? texts(words) : []]);
  return { layer, neuron, row, values, direction: vector, pictures: await pictures(row.top_positions.slice(0, IMAGES)),
    words: words ? wordsOf(words, said, list, words.settings.nonzero) : [] };
}

function column({ layer, neuron, values, words, pictures: found }) {
  const names = Object.keys(values).filter((name) => name in COLUMNS);
  return h("section", {}, h("h2", {}, h("a", { href: `#/neuron/${layer}/${neuron}` }, `Layer ${layer}, neuron ${neuron}`)),
    h("p", {}, words.slice(0, WORDS).map((word, at) => [at > 0 && ", ",
      h("span", { class: word.coefficient < 0 ? "against" : "" }, word.coefficient < 0 && "− ", text(word.text))])),
    h("ol", { class: "pictures" }, found.map((each) => h("li", {}, picture(each)))),
    h("table", {}, h("caption", { class: "hidden" }, "Figures"), h("tbody", {}, names.map((name) => h("tr", {},
      h("th", { scope: "row" }, COLUMNS[name].title), h("td", { class: "numeric" }, COLUMNS[name].write(values[name][neuron])))))));
}

function cosine(a, b) {
  let [product, left, right] = [0, 0, 0];
  for (let at = 0; at < a.length; at += 1) {
    product += a[at] * b[at];
    left += a[at] ** 2;
    right += b[at] ** 2;
  }
  return left && right ? product / Math.sqrt(left * right) : 0;
}

async function compareLayers(query) {
  const [a, b] = ["a", "b"].map((name, at) => {
    const asked = Number(query.get(name));
    return query.has(name) && layers().includes(asked) ? asked : layers().at(at === 0 ? 0 : -1);
  });
  const words = description(null);
  const [left, right] = (await Promise.all([a, b].map((layer) => columns(layer, words)))).map((each) => each.values);
  const names = Object.keys(left).filter((name) => name in COLUMNS && name in right);
  const choose = (name, value, label) => [h("label", { for: `layer-${name}` }, label), h("select", { id: `layer-${name}`, name },
    layers().map((layer) => h("option", { value: layer, selected: layer === value }, `Layer ${layer}`)))];
  const form = h("form", { class: "controls", onchange: (event) => {
    location.hash = `#/compare/layers?${new URLSearchParams(new FormData(event.currentTarget))}`;
  } }, choose("a", a, "Compare"), choose("b", b, "and"));
  return [form, h("div", { class: "compare" }, names.map((name) => {
    const { title, write, log, about } = COLUMNS[name];
    const edges = binEdges([left[name], right[name]], 24, log);
    const chart = (layer, values) => h("figure", { class: "panel" }, h("figcaption", {}, `Layer ${layer}`,
      h("span", { class: "quiet" }, ` median ${write(quantile(sorted(values[name]), 0.5))}`)),
    linkedBars(counts(values[name], edges).map((size, bin) => ({ count: size, from: edges[bin], to: edges[bin + 1],
      href: `#/layer/${layer}?${name}=${edges[bin]}..${edges[bin + 1]}&sort=-${name}`,
      label: `${count(size)} neurons: ${write(edges[bin])} to ${write(edges[bin + 1])}` })), { label: `${title}, layer ${layer}`, write }));
    return section(title, h("p", { class: "quiet" }, about), h("div", { class: "panels" }, chart(a, left), chart(b, right)));
  }))];
}

async function compareAtlases(query) {
  if (!site.comparison) {
    return empty("This site holds one atlas. “secondlens export ATLAS SITE --beside OTHER” adds a second one of the same images.");
  }
  const { medians, chance, chance_best: best, title, model } = site.comparison;
  const at = place(query.get("a")) ?? { layer: layers()[0], neuron: 0 };
  const found = await matches(at.layer, at.neuron);
  const most = Math.max(...medians.flat());
  return [
    h("p", {}, "Beside it: ", h("a", { href: "comparison/#/" }, text(title)), " of ", text(model), ", on the same images."),
    section("How alike the layers are", h("p", { class: "quiet" }, "For each neuron, how many of its top images the best-matching "
      + `neuron of the other atlas’s layer shares; median, in percent. Among as many random neurons the best shares ${percent(best)}.`),
    h("table", { class: "paths" },
      h("caption", { class: "hidden" }, "Median best overlap: layers of this atlas in rows, of the other in columns"),
      h("thead", {}, h("tr", {}, h("td", {}), site.comparison.layers.map((layer) => h("th", { scope: "col" }, layer)))),
      h("tbody", {}, medians.map((values, row) => h("tr", {}, h("th", { scope: "row" }, `layer ${layers()[row]}`),
        values.map((value) => {
          const { background, ink } = diverging(value / most);
          return h("td", { style: { background, color: ink } }, Math.round(100 * value));
        })))))),
    section("Matches of a neuron", h("form", { class: "controls", onsubmit: (event) => {
      event.preventDefault();
      location.hash = `#/compare/atlases?${new URLSearchParams(new FormData(event.target))}`;
    } }, h("label", { for: "match" }, "Neuron"), h("input", { id: "match", name: "a", size: 10, value: `${at.layer}/${at.neuron}` }),
    h("button", {}, "Find")),
    h("table", {}, h("caption", { class: "hidden" }, "Best matches"), h("thead", {}, h("tr", {},
      h("th", { scope: "col" }, `Neuron of the other atlas`), h("th", { scope: "col", class: "numeric" }, "Top images shared"))),
    h("tbody", {}, found.map((match) => h("tr", {}, h("th", { scope: "row" },
      h("a", { href: `comparison/#/neuron/${match.layer}/${match.neuron}` }, `${match.layer}/${match.neuron}`)),
    h("td", { class: "numeric" }, percent(match.overlap)))))),
    h("p", { class: "quiet" }, "With ", h("a", { href: `#/neuron/${at.layer}/${at.neuron}` }, `neuron ${at.layer}/${at.neuron}`),
      `. A neuron picked at random shares ${percent(chance)}.`)),
  ];
}
