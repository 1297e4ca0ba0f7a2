// One neuron: words, images, figures, paths and neighbours. The address is its permalink.

import { histogram } from "../charts.js";
import { askForSprites, columns, DataError, description, heldOut, layers, neuronCount, neuronRow, site, wordsRow } from "../data.js";
import { empty, facts, h, section, text } from "../dom.js";
import { COLUMNS, count, number, percent, sign } from "../format.js";
import { download } from "../parts/download.js";
import { FIRST, imagesSection } from "../parts/images.js";
import { neuronJson } from "../parts/json.js";
import { neuronTable } from "../parts/list.js";
import { pathsSection } from "../parts/paths.js";
import { wordsSection } from "../parts/words.js";

const OF_WORDS = ["polysemy", "senses"];

export async function render(parts, query) {
  const [layer, neuron] = parts.map(Number);
  check(parts, layer, neuron);
  const chosen = description(query.get("pool"));
  const words = chosen?.layers.includes(layer) ? chosen : null;
  const own = neuronRow(layer, neuron);
  // The pictures come from many files: they are asked for as soon as it is known which.
  own.then((row) => askForSprites(row.top_positions.subarray(0, FIRST)), () => {});
  const [row, { values }, said, held] = await Promise.all([own, columns(layer, words),
    words && wordsRow(words, layer, neuron), words && heldOut(words, layer, neuron)]);
  const length = words && lengthOf(words, query.get("m"));
  const remember = (size) => history.replaceState(null, "", `#/neuron/${layer}/${neuron}?${address(query, "m", size)}`);
  const [wordPart, imagePart, nearest] = await Promise.all([
    words && wordsSection(words, said, length, remember),
    imagesSection(layer, neuron, row, said),
    neuronTable(row.nearest, [{ title: "Cosine", values: row.nearest_cosine, write: sign }], words),
  ]);
  const title = `Neuron ${layer}/${neuron}`;
  return { title, content: h("article", { class: "neuron" },
    heading(layer, neuron, query, async () => download(`neuron-${layer}-${neuron}.json`, await neuronJson(layer, neuron, row, words, said, held))),
    h("div", { class: "columns" },
      h("div", {}, wordPart ?? section("Words", empty("Not described yet: “secondlens describe” finds words for it."))),
      h("div", {}, figures(layer, neuron, values), norms(row, values.threshold[neuron]), words && quality(words, said), held && heldOutSection(held))),
    imagePart,
    h("div", { class: "columns" }, h("div", {}, pathsSection(layer, row.path_fractions), spectrum(row.spectrum)),
      h("div", {}, section("Nearest neurons", nearest,
        h("p", { class: "quiet" }, "By the cosine of directions, over all surveyed layers."))))) };
}

function check(parts, layer, neuron) {
  if (!layers().includes(layer)) {
    throw new DataError(`Layer ${parts[0]} is not in this atlas; it has layers ${layers().join(", ")}.`);
  }
  if (!Number.isInteger(neuron) || parts.length !== 2 || neuron < 0 || neuron >= neuronCount()) {
    throw new DataError(`Layer ${layer} has neurons 0 to ${neuronCount() - 1}.`);
  }
}

function lengthOf(words, wanted) {
  if (words.sizes.includes(Number(wanted))) return Number(wanted);
  return words.sizes.filter((size) => size <= 16).at(-1) ?? words.sizes[0];
}

function address(query, name, value) {
  const changed = new URLSearchParams(query);
  changed.set(name, value);
  return changed.toString();
}

function heading(layer, neuron, query, save) {
  const step = (by) => {
    const other = neuron + by;
    const there = other >= 0 && other < neuronCount();
    return h("a", { class: "step", href: there ? `#/neuron/${layer}/${other}?${query}` : null, "aria-disabled": there ? null : "true",
      role: there ? null : "link", "aria-label": by < 0 ? "Previous neuron" : "Next neuron" }, by < 0 ? "‹" : "›");
  };
  const pools = site.words.length > 1 && h("label", {}, "Words ", h("select", { onchange: (event) => {
    location.hash = `#/neuron/${layer}/${neuron}?${address(query, "pool", event.target.value)}`;
  } }, site.words.map((words) => h("option", { value: words.folder, selected: words === description(query.get("pool")) }, words.name))));
  const copy = h("button", { type: "button", onclick: async () => {
    await navigator.clipboard?.writeText(location.href).then(() => { copy.textContent = "Copied"; }, () => {});
  } }, "Copy link");
  return h("header", { class: "title" }, step(-1),
    h("h1", {}, h("a", { href: `#/layer/${layer}` }, `Layer ${layer}`), `, neuron ${neuron}`), step(1),
    h("div", { class: "actions" }, pools, h("a", { href: `#/compare/neurons?a=${layer}/${neuron}` }, "Compare"), copy,
      h("button", { type: "button", onclick: save }, "JSON")));
}

function figures(layer, neuron, values) {
  return section("Figures", facts([...site.columns, ...OF_WORDS].filter((name) => name in values).map((name) => [
    h("span", { title: COLUMNS[name].about }, COLUMNS[name].title),
    h("span", { "data-figure": name }, COLUMNS[name].write(values[name][neuron]), rank(values[name], neuron))])));
}

/** Where a neuron stands in its layer. */
function rank(values, neuron) {
  const below = values.reduce((sum, value) => sum + (value < values[neuron] ? 1 : 0), 0);
  return h("span", { class: "quiet" }, ` above ${percent(Math.floor((100 * below) / values.length) / 100)} of its layer`);
}

function norms(row, threshold) {
  const { lowest, highest, per_octave: per } = site.histogram;
  const edges = Array.from({ length: (highest - lowest) * per + 1 }, (_, place) => 2 ** (place / per + lowest));
  return section("Norms over all images",
    histogram(row.histogram, edges, threshold, { label: "Histogram of norms", write: number }),
    h("p", { class: "quiet" }, `Logarithmic; the line is the threshold, ${number(threshold)}, `,
      `which ${count(site.atlas.top)} images reach.`));
}

function quality(words, said) {
  return section("How good the words are", h("table", {},
    h("caption", { class: "hidden" }, "Cosine and p-values by length"),
    h("thead", {}, h("tr", {}, ["Texts", "Cosine", "p, random", "p, its layer"].map((name) =>
      h("th", { scope: "col", class: "numeric" }, name)))),
    h("tbody", {}, words.sizes.map((size, place) => h("tr", {}, h("th", { scope: "row", class: "numeric" }, count(size)),
      [said.cosines, said.p_isotropic, said.p_matched].map((values) => h("td", { class: "numeric" }, number(values[place]))))))));
}

/** What the evaluation on held-out images says of the words; a label is the second opinion's. */
function heldOutSection(found) {
  const names = { auc: "ROC-AUC", rank_correlation: "Rank correlation", second_opinion: "Second opinion" };
  return section("On images it has not seen", facts(Object.entries(found).map(([name, value]) => [
    names[name] ?? name.replaceAll("_", " "),
    h("span", { "data-held-out": name }, typeof value === "number" ? number(value) : text(value ?? "–"))])),
  h("p", { class: "quiet" }, "Whether the words predict the neuron’s effect on held-out images; chance is 0.5 for the AUC, 0 for correlations."));
}

function spectrum(values) {
  return h("p", { class: "quiet" }, "Shares of the first components: ", Array.from(values, percent).join(", "), ".");
}
