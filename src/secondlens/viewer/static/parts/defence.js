// What audits of many pairs, of labelled images and of removal found.

import { diverging } from "../colour.js";
import { empty, facts, h, s, section, text } from "../dom.js";
import { count, number, percent, sign } from "../format.js";

const LISTED = 20;
const [WIDE, HIGH] = [640, 200];
const between = (shown, predicted) => [text(shown), " taken for ", text(predicted)];
const linked = (address, content) => (address === null ? content : h("a", { href: address }, content));

/** All pairs of a set of classes. link(shown, predicted): the address of the pair's review, or null. */
export function matrixSection({ of, classes, values, strongest }, link) {
  const most = Math.max(...values.flat().filter((value) => value !== null), 0) || 1;
  const cell = (shown, predicted, value) => {
    if (value === null) return h("td", {}, shown === predicted ? "" : "–");
    const { background, ink } = diverging(value / most);
    const address = link(shown, predicted);
    const shortened = Math.round((100 * value) / most);
    return h("td", { style: { background, color: ink }, title: `${shown} taken for ${predicted}: ${number(value)}` },
      address === null ? shortened : h("a", { href: address, style: { color: ink } }, shortened));
  };
  return section("All pairs of classes",
    h("p", { class: "quiet" }, `How far cues push, in percent of the strongest pair (${number(most)})`,
      classes.length < of ? `; the ${count(classes.length)} classes of the strongest pairs, of ${count(of)}.` : "."),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Matrix of pairs" }, h("table", { class: "paths matrix" },
      h("caption", { class: "hidden" }, "Exploitability: shown classes in rows, predicted classes in columns"),
      h("thead", {}, h("tr", {}, h("td", {}), classes.map((name) => h("th", { scope: "col" }, h("span", {}, text(name)))))),
      h("tbody", {}, values.map((row, at) => h("tr", {}, h("th", { scope: "row" }, text(classes[at])),
        row.map((value, column) => cell(classes[at], classes[column], value))))))),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Strongest pairs" }, h("table", {},
      h("caption", { class: "quiet" }, "The strongest pairs"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Pair"), h("th", { scope: "col", class: "numeric" }, "Exploitability"),
        h("th", { scope: "col" }, "Cues"))),
      h("tbody", {}, strongest.slice(0, LISTED).map((pair) => h("tr", {},
        h("th", { scope: "row", class: "pairname" }, linked(link(pair.source_class, pair.target_class), between(pair.source_class, pair.target_class))),
        h("td", { class: "numeric" }, number(pair.exploitability)),
        h("td", {}, pair.cues.map((cue, at) => [at > 0 && ", ", text(cue.text)]))))))));
}

/** Labelled images: which errors go with which cues. */
export function folderSection({ images, accuracy, presence, pairs, explained, tests }, link) {
  const share = (errors, all) => [`${percent(errors / all)} `, h("span", { class: "quiet" }, `${count(errors)} of ${count(all)}`)];
  const columns = ["With it", "Without", "Difference", "p", "q"];
  return section("Errors explained by cues",
    facts([["Images", count(images)], ["Accuracy", percent(accuracy)], ["Cues seen by", text(presence)],
      ["Errors looked at", pairs.map((pair, at) => [at > 0 && "; ", linked(link(pair.source_class, pair.target_class), between(pair.source_class, pair.target_class)),
        ` (${count(pair.errors)} of ${count(pair.images)})`])]]),
    explained.length === 0 ? empty("No cue is in some of these images and not in others.")
      : h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Errors with and without a cue" }, h("table", {},
      h("caption", { class: "quiet" }, "Errors among the images of the shown class, with and without a cue, by significance",
        explained.length < tests && ` (the first ${count(explained.length)} of ${count(tests)})`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Error"), h("th", { scope: "col" }, "Cue"),
        columns.map((name) => h("th", { scope: "col", class: "numeric" }, name)))),
      h("tbody", {}, explained.map((row) => h("tr", {}, h("td", {}, between(row.source_class, row.target_class)), h("th", { scope: "row" }, text(row.cue)),
        h("td", { class: "numeric" }, share(row.errors_with, row.images_with)),
        h("td", { class: "numeric" }, share(row.errors_without, row.images_without)),
        [sign(row.difference), number(row.p_value), number(row.q_value)].map((value) => h("td", { class: "numeric" }, value))))))));
}

const RATES = [["clean_accuracy", "Clean accuracy", "blue"], ["adversarial_success", "Adversarial success", "vermilion dashed"]];

/** Neurons that carry cues held at their mean, ever more of them. */
export function removalSection(found) {
  const { source_class: shown, target_class: predicted, cues, curve, best, projection, clean_images: clean, adversarial_images: adversarial } = found;
  const rates = RATES.filter(([name]) => curve.some((row) => row[name] !== null));
  const rate = (row, name) => (row[name] === null ? "–" : percent(row[name]));
  return section("Removal", h("p", {}, "Of what pushes from ", text(shown), " to ", text(predicted), ": ",
    cues.map((cue, at) => [at > 0 && ", ", text(cue)]), "."),
  h("p", { class: "quiet" }, `On ${count(clean)} clean and ${count(adversarial)} adversarial images; bars are 95 % intervals.`),
  chart(curve, rates),
  h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Removal" }, h("table", {},
    h("caption", { class: "hidden" }, "Accuracy and success by neurons held at their mean"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Neurons at their mean"), rates.map(([, title, style]) =>
      h("th", { scope: "col", class: "numeric" }, key(style), " ", title)))),
    h("tbody", {}, curve.map((row) => h("tr", {}, h("th", { scope: "row" }, count(row.neurons), row.neurons === best.neurons
      && adversarial > 0 && h("span", { class: "quiet" }, " least success at little cost")),
    rates.map(([name]) => h("td", { class: "numeric" }, rate(row, name))))),
    h("tr", {}, h("th", { scope: "row" }, "The embedding’s whole part in the cues"),
      rates.map(([name]) => h("td", { class: "numeric" }, rate(projection, name))))))));
}

function chart(curve, rates) {
  const x = (place) => ((place + 0.5) / curve.length) * WIDE;
  const y = (value) => 8 + (1 - value) * (HIGH - 16);
  const lines = rates.map(([name, title, style]) => {
    const points = curve.map((row, place) => [x(place), row]).filter(([, row]) => row[name] !== null);
    return s("g", { class: `series ${style}` }, s("polyline", { points: points.map(([at, row]) => `${at},${y(row[name])}`).join(" ") }),
      points.map(([at, row]) => s("g", {}, s("title", {}, `${title}, ${count(row.neurons)} neurons: ${percent(row[name])}`),
        row[`${name}_interval`] && s("line", { class: "interval", x1: at, x2: at, y1: y(row[`${name}_interval`][0]), y2: y(row[`${name}_interval`][1]) }),
        s("circle", { cx: at, cy: y(row[name]), r: 4 }))));
  });
  return h("div", { class: "chart wide" }, s("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img",
    "aria-label": "Accuracy and success by neurons removed; the table below has the numbers" },
  [1, 0.5, 0].map((value) => s("g", {}, s("line", { class: "ground", x1: 0, x2: WIDE, y1: y(value), y2: y(value) }),
    s("text", { class: "label", x: 0, y: y(value) - 3 }, percent(value)))), lines),
  h("div", { class: "ticks", "aria-hidden": "true" }, curve.map((row) => h("span", {}, count(row.neurons)))));
}

function key(style) {
  return s("svg", { class: `key series ${style}`, viewBox: "0 0 30 12", "aria-hidden": "true" },
    s("polyline", { points: "0,6 30,6" }), s("circle", { cx: 15, cy: 6, r: 4 }));
}
