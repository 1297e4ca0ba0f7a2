// Through which heads of which later attentions a neuron's effect goes: a matrix in the diverging scale.

import { diverging } from "../colour.js";
import { card, site } from "../data.js";
import { h, section } from "../dom.js";
import { percent } from "../format.js";

export function pathsSection(layer, shares) {
  const paths = card(layer).paths;
  const readers = [...new Set(paths.map(([reader]) => reader))];
  const heads = [...new Set(paths.map(([, head]) => head))];
  const most = Math.max(...shares.map(Math.abs)) || 1;
  const cells = new Map(paths.map(([reader, head], place) => [`${reader}/${head}`, shares[place]]));
  const cell = (reader, head) => {
    const share = cells.get(`${reader}/${head}`);
    const { background, ink } = diverging(share / most);
    return h("td", { style: { background, color: ink }, title: `Reader ${reader}, head ${head}: ${percent(share)}` },
      Math.round(100 * share));
  };
  return section("Paths", h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Paths by reader and head" },
    h("table", { class: "paths" },
      h("caption", { class: "hidden" }, "Share of each path in the effect, in percent: readers in rows, heads in columns"),
      h("thead", {}, h("tr", {}, h("td", {}), heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, readers.map((reader) =>
        h("tr", {}, h("th", { scope: "row" }, readerName(reader)), heads.map((head) => cell(reader, head))))))),
  h("p", { class: "quiet" }, "Percent of the effect along the direction that each head of a later attention carries; together 100."));
}

function readerName(reader) {
  return site.atlas.model.pooling === "attention" ? "pooling" : `layer ${reader}`;
}
