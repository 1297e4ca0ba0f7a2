// Words: a neuron's headline in one line, and its description by sense with a slider over the length.

import { texts, withPool } from "../data.js";
import { empty, freshId, h, section, text } from "../dom.js";
import { count, number, percent, sign } from "../format.js";

const FIRST = 10;

/** Words of a headline; those written against stand after a minus. */
export function headline(rows, list) {
  const words = Array.from(rows).filter((row) => row !== -1)
    .map((row) => (row < 0 ? h("span", { class: "against" }, "− ", text(list[-2 - row])) : text(list[row])));
  return h("span", { class: "words" }, words.map((word, place) => [place > 0 && ", ", word]));
}

/** The words of one length: [{text, coefficient, fraction, sense}] by falling size of fraction. */
export function wordsOf(words, row, list, length) {
  const stored = words.lengths.includes(length) ? length : words.settings.nonzero;
  const start = words.lengths.slice(0, words.lengths.indexOf(stored)).reduce((sum, size) => sum + size, 0);
  const found = [];
  for (let rank = 0; rank < length; rank += 1) {
    if (row.texts[rank] < 0) continue;
    found.push({ rank, row: row.texts[rank], text: list[row.texts[rank]], coefficient: row.coefficients[start + rank],
      fraction: row.fractions[start + rank], sense: row.senses[rank] });
  }
  return found.sort((a, b) => Math.abs(b.fraction) - Math.abs(a.fraction) || a.rank - b.rank);
}

/** The section of words with its slider. changed(length) is told when another length is chosen. */
export async function wordsSection(words, row, length, changed) {
  const list = await texts(words);
  const body = h("div", { class: "senses" });
  const id = freshId("length");
  const shown = h("output", { for: id });
  const slider = h("input", { type: "range", id, min: 0, max: words.sizes.length - 1, step: 1,
    value: words.sizes.indexOf(length), oninput: () => draw(words.sizes[slider.valueAsNumber], true) });
  function draw(size, tell) {
    const place = words.sizes.indexOf(size);
    const said = `${count(size)} ${size === 1 ? "text" : "texts"}`;
    slider.setAttribute("aria-valuetext", said);
    shown.replaceChildren(`${said}: cosine ${number(row.cosines[place])}, p ${number(row.p_matched[place])} against its layer`);
    body.replaceChildren(...senses(wordsOf(words, row, list, size), words));
    if (tell) changed(size);
  }
  draw(length, false);
  const whole = !words.lengths.includes(length) || words.lengths.length < words.sizes.length;
  return section("Words", h("p", { class: "controls" }, h("label", { for: id }, "Length"), slider, shown), body,
    h("p", { class: "quiet" }, "Of ", text(words.name), ", in groups of one sense. Bars show the signed coefficient: ",
      h("span", { class: "towards" }, "towards"), " or ", h("span", { class: "against" }, "against"), " the word. ",
      whole && "Coefficients are those of the full length."));
}

function senses(found, words) {
  if (found.length === 0) return [empty("The description has no words.")];
  const most = Math.max(...found.map((word) => Math.abs(word.coefficient)));
  // Shares are signed: a sense's part is that of their sizes.
  const whole = found.reduce((sum, word) => sum + Math.abs(word.fraction), 0) || 1;
  const groups = new Map();
  for (const word of found) groups.set(word.sense, [...(groups.get(word.sense) ?? []), word]);
  const order = [...groups.keys()].sort((a, b) => (a < 0) - (b < 0) || a - b);
  const single = order.filter((sense) => sense >= 0).length === 1;
  return order.map((sense) => {
    const title = sense < 0 ? "Further words" : single ? "One sense" : `Sense ${sense + 1}`;
    return group(title, groups.get(sense), { most, whole, words });
  });
}

function group(title, found, { most, whole, words }) {
  const share = found.reduce((sum, word) => sum + Math.abs(word.fraction), 0) / whole;
  const rows = found.map((word) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: withPool(`#/search?q=${encodeURIComponent(word.text)}`, words) }, text(word.text))),
    h("td", { class: "weight" }, weight(word.coefficient / most)),
    h("td", { class: "numeric" }, sign(word.coefficient)),
    h("td", { class: "numeric quiet" }, percent(word.fraction))));
  const body = h("tbody", {}, rows.slice(0, FIRST));
  const more = rows.length > FIRST && h("button", { type: "button", class: "more", onclick: () => {
    body.replaceChildren(...rows);
    more.remove();
    rows[FIRST].querySelector("a").focus();
  } }, `Show all ${count(rows.length)}`);
  return h("div", { class: "sense" },
    h("table", { class: "wordtable" }, h("caption", {}, title, h("span", { class: "quiet" }, ` ${percent(share)}`)),
      h("thead", {}, h("tr", {}, ["Word", "", "Coefficient", "Share"].map((name, place) => place === 1
        ? h("td", {}) : h("th", { scope: "col", class: place > 1 ? "numeric" : "" }, name)))), body), more);
}

function weight(value) {
  const bar = h("span", { class: value < 0 ? "minus" : "plus", style: { width: `${Math.abs(value) * 50}%` } });
  return h("span", { class: "diverging", "aria-hidden": "true" }, bar);
}
