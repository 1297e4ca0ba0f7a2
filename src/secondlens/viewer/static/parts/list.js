// A short list of neurons with a value and their words.

import { columns, placeOf, texts, withPool } from "../data.js";
import { h } from "../dom.js";
import { headline } from "./words.js";

/** Words of some neurons by number: a function that gives an element for each. */
export async function headlines(numbers, words) {
  if (words === null) return () => null;
  const wanted = [...new Set(Array.from(numbers, (number) => placeOf(number).layer))];
  const [list, ...tables] = await Promise.all([texts(words), ...wanted.map((layer) => columns(layer, words))]);
  return (number) => {
    const { layer, neuron } = placeOf(number);
    const rows = tables[wanted.indexOf(layer)].headline;
    return rows && headline(rows.subarray(neuron * words.headline, (neuron + 1) * words.headline), list);
  };
}

/** A table of neurons: numbers, and columns [{title, values, write}] of theirs. */
export async function neuronTable(numbers, columns, words) {
  const said = await headlines(numbers, words);
  return h("table", { class: "neurons" },
    h("caption", { class: "hidden" }, `Neurons: ${columns.map(({ title }) => title).join(", ")}`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Neuron"),
      columns.map(({ title, about }) => h("th", { scope: "col", class: "numeric", title: about }, title)),
      h("th", { scope: "col" }, "Words"))),
    h("tbody", {}, Array.from(numbers, (number, place) => {
      const { layer, neuron } = placeOf(number);
      return h("tr", {}, h("th", { scope: "row", class: "place" }, h("a", { href: withPool(`#/neuron/${layer}/${neuron}`, words) }, `${layer}/${neuron}`)),
        columns.map(({ values, write }) => h("td", { class: "numeric" }, write(values[place]))), h("td", {}, said(number)));
    })));
}
