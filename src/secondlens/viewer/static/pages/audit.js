// Audits of spurious cues: what was audited, and the review of one pair's cues.

import { auditedPair, audits, DataError, site } from "../data.js";
import { empty, h, section, text } from "../dom.js";
import { count } from "../format.js";
import { folderSection, matrixSection, removalSection } from "../parts/defence.js";
import { Review } from "../parts/review.js";
import { allJudgements } from "../parts/judgements.js";

export async function render(parts, query) {
  if (!site.audit) throw new DataError("This site was made without an audit: secondlens export ATLAS SITE --audit FILE.");
  const index = await audits();
  if (!parts[0]) return { content: overview(index) };
  const place = Number(parts[0]);
  if (!(place in index.pairs)) throw new DataError("There is no such pair among the audits.");
  const pair = await auditedPair(place);
  return { title: `${pair.source_class} taken for ${pair.target_class}`, content: await new Review(pair, place, query).made() };
}

function overview({ pairs, matrices, folders, removals }) {
  const places = new Map(pairs.map((pair, place) => [JSON.stringify([pair.source_class, pair.target_class]), place]));
  const link = (shown, predicted) => {
    const place = places.get(JSON.stringify([shown, predicted]));
    return place === undefined ? null : `#/audit/${place}`;
  };
  return h("div", {}, h("h1", {}, "Spurious cues"),
    h("p", {}, "What else pushes the model from one class to another: words of neurons that write from the class shown towards the "
      + "class it is taken for, other than that class’s own name."),
    pairsSection(pairs),
    matrices.map((matrix) => matrixSection(matrix, link)),
    folders.map((folder) => folderSection(folder, link)),
    removals.map(removalSection));
}

function pairsSection(pairs) {
  if (pairs.length === 0) return section("Pairs", empty("No pair was audited: secondlens audit MODEL ATLAS --shown A --predicted B --out FILE.json."));
  const judgements = allJudgements();
  const body = h("tbody", {});
  const draw = () => body.replaceChildren(...pairs.map((pair, place) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: `#/audit/${place}` }, text(pair.source_class), " taken for ", text(pair.target_class))),
    h("td", {}, text(pair.scoring)), h("td", {}, text(pair.pool)), h("td", { class: "numeric" }, count(pair.cues)),
    h("td", { class: "numeric" }, count(judgements.count(pair))))));
  draw();
  return section("Pairs", h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Pairs" }, h("table", {},
    h("caption", { class: "hidden" }, "Audited pairs of classes"),
    h("thead", {}, h("tr", {}, ["Pair", "Scoring", "Words of"].map((name) => h("th", { scope: "col" }, name)),
      ["Cues", "Decided"].map((name) => h("th", { scope: "col", class: "numeric" }, name)))), body)),
  judgementFiles(judgements, draw));
}

/** Buttons to take judgements away and to bring them back. */
function judgementFiles(judgements, changed) {
  const said = h("p", { class: "quiet", role: "status" });
  const input = h("input", { type: "file", id: "judgements", accept: "application/json,.json", onchange: async () => {
    try {
      said.textContent = `${count(await judgements.read(input.files[0]))} judgements read.`;
      changed();
    } catch (error) {
      said.textContent = error.message;
    }
    input.value = "";
  } });
  return h("div", {}, h("div", { class: "controls" },
    h("button", { type: "button", onclick: () => judgements.download() }, "Download judgements"),
    h("label", { for: "judgements" }, "or read some back:"), input),
  h("p", { class: "quiet" }, "Judgements stay in this browser until they are downloaded."), said);
}
