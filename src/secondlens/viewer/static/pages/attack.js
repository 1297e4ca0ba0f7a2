// The gallery of semantic adversarial images of an attack, where the site was made with one.

import { DataError, site } from "../data.js";
import { empty, h, section, text } from "../dom.js";
import { count, percent, sign } from "../format.js";

// Judges whose names say little by themselves; others are named as they are.
const JUDGES = { exact: "the renderer, which knows what it drew", person: "a person" };

export async function render() {
  if (!site.attack) throw new DataError("This site was made without an attack: secondlens export ATLAS SITE --attack FOLDER.");
  const { judge, rates, gallery } = site.attack;
  return { content: h("div", {}, h("h1", {}, "Semantic adversarial images"),
    h("p", {}, "Synthetic pictures, made from cues that neurons share between two classes, to test this model. Each shows the one "
      + "class and is taken for the other. Judged valid by ", JUDGES[judge] ?? text(judge), "."),
    section("How often it works", rates.length === 0 ? empty("No pairs.") : rateTable(rates)),
    section("Gallery", gallery.length === 0 ? empty("No valid picture fooled the model.")
      : h("ol", { class: "exhibits" }, gallery.map(exhibit)))) };
}

function rateTable(rates) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Rates of success" }, h("table", {},
    h("caption", { class: "hidden" }, "Share of the pictures ordered that are valid and fooled the model"),
    h("thead", {}, h("tr", {}, ["Shown", "Taken for", "Method"].map((name) => h("th", { scope: "col" }, name)),
      ["Success", "95 % interval", "Pictures"].map((name) => h("th", { scope: "col", class: "numeric" }, name)))),
    h("tbody", {}, rates.map((rate) => h("tr", {}, h("th", { scope: "row" }, text(rate.source_class)), h("td", {}, text(rate.target_class)),
      h("td", {}, text(rate.method)), h("td", { class: "numeric" }, percent(rate.success)),
      h("td", { class: "numeric" }, rate.low === null ? "–" : `${percent(rate.low)} to ${percent(rate.high)}`),
      h("td", { class: "numeric" }, count(rate.images)))))));
}

function exhibit(each) {
  const caption = each.prompt ?? each.name;
  const cues = (each.cues ?? []).join(", ");
  return h("li", {}, h("figure", {},
    h("div", { class: "pair" }, h("img", { src: each.image, alt: caption, loading: "lazy" }),
      h("img", { src: each.map, alt: `Where “${each.target_class}” comes from`, loading: "lazy" })),
    h("figcaption", {}, text(caption), each.source_class !== null && h("div", { class: "quiet" }, "Shows ", text(each.source_class), ", taken for ",
      text(each.target_class), each.margin !== null && ` (margin ${sign(each.margin)})`, each.prediction && [", among all classes for ",
        text(each.prediction)], "; ", text(each.method), cues && [". Cues: ", text(cues)], "."))));
}
