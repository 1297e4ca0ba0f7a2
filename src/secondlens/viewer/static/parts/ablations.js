// Accuracy with a layer's effects replaced, a line a variant: the paper's figure 3, drawn from an ablation study.

import { h, s, section, text } from "../dom.js";
import { count, percent } from "../format.js";

// Okabe and Ito's palette, with markers of their own: told apart without colour.
const STYLES = {
  baseline: ["Unchanged", "ink", "circle"],
  without_all: ["All effects at their mean", "vermilion", "circle"],
  without_large: ["Large effects at their mean", "orange", "down"],
  without_small: ["Small effects at their mean", "blue", "up"],
  rank_one: ["First component only", "green", "square"],
  rank_two: ["Two components", "green dashed", "square"],
  rank_four: ["Four components", "green dotted", "square"],
};
const OTHERS = ["purple", "sky", "grey"];
const [WIDE, HIGH] = [640, 220];

export function ablations({ images, layers }) {
  const names = [...new Set(layers.flatMap((layer) => Object.keys(layer.values)))];
  let others = 0;
  const styles = new Map(names.map((name) => [name, STYLES[name] ?? [name.replaceAll("_", " "), OTHERS[others++ % 3], "square"]]));
  const all = layers.flatMap((layer) => Object.values(layer.values).flat());
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const x = (place) => ((place + 0.5) / layers.length) * WIDE;
  const y = (value) => 8 + (1 - (value - low) / (high - low || 1)) * (HIGH - 16);
  const lines = names.map((name, row) => {
    const [title, colour, marker] = styles.get(name);
    // Side by side, so that intervals do not cover each other.
    const points = layers.map((layer, place) => [x(place) + 4 * (row - (names.length - 1) / 2), layer.values[name], layer.layer]).filter(([, value]) => value);
    return s("g", { class: `series ${colour}` },
      s("polyline", { points: points.map(([at, [value]]) => `${at},${y(value)}`).join(" ") }),
      points.map(([at, [value, from, to], layer]) => s("g", {},
        s("title", {}, `${title}, layer ${layer}: ${percent(value)} (${percent(from)} to ${percent(to)})`),
        s("line", { class: "interval", x1: at, x2: at, y1: y(from), y2: y(to) }), mark(marker, at, y(value)))));
  });
  return section("What the effects are for",
    h("p", { class: "quiet" }, `Accuracy on ${count(images)} labelled images with all neurons of one layer changed; bars are 95 % intervals.`),
    h("div", { class: "chart wide" }, s("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img",
      "aria-label": "Accuracy by layer and variant; the table below has the numbers" },
      [high, (high + low) / 2, low].map((value) => s("g", {}, s("line", { class: "ground", x1: 0, x2: WIDE, y1: y(value), y2: y(value) }),
        s("text", { class: "label", x: 0, y: y(value) - 3 }, percent(value)))), lines),
    h("div", { class: "ticks", "aria-hidden": "true" }, layers.map((layer) => h("span", {}, layer.layer)))),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Accuracies" }, h("table", {},
      h("caption", { class: "hidden" }, "Accuracy by variant and layer"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Accuracy"), layers.map((layer) =>
        h("th", { scope: "col", class: "numeric" }, `Layer ${layer.layer}`)))),
      h("tbody", {}, names.map((name) => {
        const [title, colour, marker] = styles.get(name);
        return h("tr", {}, h("th", { scope: "row" }, s("svg", { class: `key series ${colour}`, viewBox: "0 0 30 12", "aria-hidden": "true" },
          s("polyline", { points: "0,6 30,6" }), mark(marker, 15, 6)), " ", text(title)), layers.map((layer) => h("td", { class: "numeric" },
          layer.values[name] ? percent(layer.values[name][0]) : "–")));
      })))));
}

function mark(kind, x, y) {
  if (kind === "circle") return s("circle", { cx: x, cy: y, r: 4 });
  if (kind === "square") return s("rect", { x: x - 3.5, y: y - 3.5, width: 7, height: 7 });
  const tip = kind === "up" ? -5 : 5;
  return s("polygon", { points: `${x},${y + tip} ${x - 4.5},${y - tip * 0.7} ${x + 4.5},${y - tip * 0.7}` });
}
