// What the atlas is of, and how its neurons are distributed.

import { binEdges, counts, linkedBars, quantile, quartiles, sorted } from "../charts.js";
import { columns, description, layers, neuronCount, site } from "../data.js";
import { empty, facts, h, section, text } from "../dom.js";
import { COLUMNS, count, date, duration, list } from "../format.js";
import { ablations } from "../parts/ablations.js";

const BINS = 24;

export async function render(parts, query) {
  const words = description(query.get("words"));
  const found = await Promise.all(layers().map((layer) => columns(layer, words)));
  const tables = found.map((each) => each.values);
  const names = Object.keys(tables[0]).filter((name) => name in COLUMNS && name !== "senses");
  return {
    content: h("div", {},
      h("h1", {}, text(site.title)),
      h("p", { class: "lead" }, `What ${count(neuronCount() * layers().length)} neurons in `,
        layers().length === 1 ? `layer ${layers()[0]}` : `layers ${list(layers())}`, " of ",
        text(site.atlas.model.reference), " write, over ", count(site.atlas.images.count), " images."),
      modelCard(words),
      section("By layer", h("p", { class: "quiet" }, "Median over a layer’s neurons; the bar spans the middle half of them."),
        h("div", { class: "panels" }, ["explained_variance", "root_mean_square", "selectivity", "cosine"]
          .filter((name) => names.includes(name)).map((name) => byLayer(name, tables)))),
      site.ablations && ablations(site.ablations),
      distributions(names, tables),
      site.words.length === 0 && empty("The neurons are not described yet: “secondlens describe” finds words for them.")),
  };
}

function modelCard(words) {
  const { model, images, convention, top, created, seconds } = site.atlas;
  return section("The survey", h("div", { class: "cards" },
    facts([
      ["Model", text(model.reference)],
      ["Family", text(model.family)],
      ["Size", `${count(model.layers)} layers, ${count(model.neurons)} neurons each, ${count(model.heads)} heads`],
      ["Embedding", `${count(model.embed_dim)} dimensions, by ${model.pooling}`],
      ["Activation", text(model.activation)],
      ["Weights", h("code", { title: model.weights_sha256 }, model.weights_sha256.slice(0, 12))],
    ]),
    facts([
      ["Images", `${count(images.count)} surveyed, ${count(images.skipped)} skipped`],
      ["Kept", `${count(top)} top images a neuron`],
      ["Convention", convention],
      ["Made", `${date(created)}, in ${duration(seconds)}`],
      ["Words", words === null ? "none yet"
        : [text(words.name), `, ${count(words.settings.texts)} texts, ${count(words.settings.nonzero)} a neuron`]],
      ["Viewer", `secondlens ${site.secondlens}`],
    ])));
}

function byLayer(name, tables) {
  const rows = tables.map((values, place) => {
    const ordered = sorted(values[name]);
    return { name: `Layer ${layers()[place]}`, tick: layers()[place], low: quantile(ordered, 0.25),
      middle: quantile(ordered, 0.5), high: quantile(ordered, 0.75) };
  });
  const { title, about, write } = COLUMNS[name];
  return h("figure", { class: "panel" }, h("figcaption", { title: about }, title,
    h("span", { class: "quiet" }, ` ${write(Math.min(...rows.map((row) => row.middle)))} to `,
      write(Math.max(...rows.map((row) => row.middle))))),
  quartiles(rows, { label: `${title} by layer`, write }));
}

function distributions(names, tables) {
  const panels = h("div", { class: "panels" });
  const about = h("p", { class: "quiet" });
  const choice = h("select", { id: "figure", onchange: draw }, names.map((name) => h("option", { value: name }, COLUMNS[name].title)));
  function draw() {
    const name = choice.value;
    const { title, write, log } = COLUMNS[name];
    about.textContent = `${COLUMNS[name].about}. A bar leads to its neurons.`;
    const edges = binEdges(tables.map((values) => values[name]), BINS, log);
    panels.replaceChildren(...tables.map((values, place) => {
      const layer = layers()[place];
      const bars = counts(values[name], edges).map((size, bin) => ({
        count: size, from: edges[bin], to: edges[bin + 1],
        href: `#/layer/${layer}?${name}=${edges[bin]}..${edges[bin + 1]}&sort=-${name}`,
        label: `${count(size)} neurons of layer ${layer}: ${title.toLowerCase()} ${write(edges[bin])} to ${write(edges[bin + 1])}`,
      }));
      return h("figure", { class: "panel" },
        h("figcaption", {}, h("a", { href: `#/layer/${layer}?sort=-${name}` }, `Layer ${layer}`),
          h("span", { class: "quiet" }, ` median ${write(quantile(sorted(values[name]), 0.5))}`)),
        linkedBars(bars, { label: `${title}, layer ${layer}`, write }));
    }));
  }
  draw();
  return section("Distributions", h("p", {}, h("label", { for: "figure" }, "Show "), choice), about, panels);
}
