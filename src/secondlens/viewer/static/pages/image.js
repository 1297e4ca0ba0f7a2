// A picture of one's own, where the site is served with its model: prediction, neurons, concepts, a text's heat map.

import { DataError, description, layers, numberOf, site } from "../data.js";
import { empty, h, section, text } from "../dom.js";
import { count, number, percent, sign } from "../format.js";
import { cover, drawMap } from "../parts/images.js";
import { neuronTable } from "../parts/list.js";
import { post, TYPES } from "../parts/upload.js";

export async function render() {
  if (!site.served?.model) {
    throw new DataError("Pictures are looked at where the site is served with its model: secondlens view ATLAS --model MODEL.");
  }
  return { content: new ImagePage().element };
}

class ImagePage {
  constructor() {
    this.results = h("div", { "aria-live": "polite" });
    this.input = h("input", { type: "file", id: "file", accept: TYPES.join(","), onchange: () => this.take(this.input.files[0]) });
    const drop = h("div", { class: "drop",
      ondragover: (event) => { event.preventDefault(); drop.classList.add("over"); },
      ondragleave: () => drop.classList.remove("over"),
      ondrop: (event) => { event.preventDefault(); drop.classList.remove("over"); this.take(event.dataTransfer.files[0]); } },
    h("p", {}, h("label", { for: "file" }, "Drop a picture here, or choose one: "), this.input),
    h("p", { class: "quiet" }, "JPEG, PNG or WebP, at most ", number(site.served.max_bytes / 2 ** 20), " MiB and ",
      count(site.served.max_pixels / 1e6), " megapixels. It stays in this server’s memory only while it is looked at."));
    this.element = h("div", {}, h("h1", {}, "Image"), drop, this.results);
  }

  async take(file) {
    if (!file) return;
    this.file = file;
    this.results.replaceChildren(h("p", { class: "quiet" }, "Looking…"));
    try {
      const found = await post("api/image", file);
      const picture = await this.picture(file);
      const of = (name) => found.neurons.map((each) => each[name]);
      const neurons = await neuronTable(found.neurons.map((each) => numberOf(each.layer, each.neuron)), [
        { title: "Norm", values: of("norm"), write: number, about: "Norm of its effect around the survey’s mean" },
        { title: "Threshold", values: of("threshold"), write: number, about: "The norm’s 98th percentile over the survey" },
        { title: "Along", values: of("projection"), write: sign, about: "Its effect along its direction" },
      ], description(null));
      this.results.replaceChildren(
        h("div", { class: "columns" }, h("div", {}, picture, this.heatForm()), predictions(found)),
        site.served.concepts ? this.concepts() : "",
        site.served.waterfall ? this.waterfall() : "",
        section("Active neurons", h("p", { class: "quiet" }, `${count(found.active)} neurons have an effect whose norm is `
          + "above their threshold, the 98th percentile of the survey"
          + (found.active > found.neurons.length ? `; the ${count(found.neurons.length)} furthest above it:` : ".")),
        found.neurons.length > 0 ? neurons : empty("None.")));
    } catch (error) {
      this.results.replaceChildren(failed(error));
    }
  }

  async picture(file) {
    const address = URL.createObjectURL(file);
    this.shown = h("img", { src: address, alt: file.name });
    await this.shown.decode();
    URL.revokeObjectURL(address);
    this.canvas = h("canvas", { class: "heat", "aria-hidden": "true", hidden: true });
    const name = h("p", { class: "quiet" }, text(file.name));
    return h("div", {}, h("div", { class: "preview" }, this.shown, this.canvas), name);
  }

  heatForm() {
    if (!site.served.texts) return null;
    const said = h("p", { class: "quiet", role: "status" });
    const form = h("form", { class: "controls", onsubmit: async (event) => {
      event.preventDefault();
      const asked = new FormData(form);
      said.textContent = "Looking…";
      try {
        const found = await post(`api/image/heat?${new URLSearchParams(asked)}`, this.file);
        this.paint(found);
        said.replaceChildren("Cosine with “", text(found.text), `”: ${sign(found.cosine)}, of which ${sign(found.through_layer)} `
          + `comes through the neurons of layer ${found.layer}. Violet patches add, orange ones take away.`);
      } catch (error) {
        said.replaceChildren(failed(error));
      }
    } }, h("label", { for: "heat-text" }, "Where is"), h("input", { id: "heat-text", name: "text", required: true, maxlength: 300 }),
    h("label", { for: "heat-layer" }, "through layer"),
    h("select", { id: "heat-layer", name: "layer" }, layers().map((layer) => h("option", { value: layer,
      selected: layer === layers().at(-1) }, layer))), h("button", {}, "Show"));
    return h("div", {}, form, said);
  }

  paint({ values, rows, columns, framing }) {
    const most = Math.max(...values.map(Math.abs)) || 1;
    drawMap(this.canvas, values, rows, columns, 1 / most);
    cover(this.canvas, [this.shown.naturalWidth, this.shown.naturalHeight], framing);
    this.canvas.hidden = false;
    this.shown.parentElement.classList.add("heated");
  }

  concepts() {
    const body = h("div", {}, h("p", { class: "quiet" }, "Looking…"));
    post("api/image/concepts", this.file).then(({ concepts }) => body.replaceChildren(concepts.length === 0 ? empty("None.")
      : h("table", {}, h("caption", { class: "hidden" }, "Concepts"), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Text"),
        h("th", { scope: "col", class: "numeric" }, "Score"), h("th", { scope: "col" }, "Neurons behind it"))),
      h("tbody", {}, concepts.map((each) => h("tr", {}, h("th", { scope: "row" }, text(each.text)),
        h("td", { class: "numeric" }, number(each.score)), h("td", {}, each.neurons.map(({ layer, neuron }, place) =>
          [place > 0 && ", ", h("a", { href: `#/neuron/${layer}/${neuron}` }, `${layer}/${neuron}`)])))))),
    ), (error) => body.replaceChildren(failed(error)));
    return section("Concepts", body);
  }

  waterfall() {
    const body = h("div", {});
    const form = h("form", { class: "controls", onsubmit: async (event) => {
      event.preventDefault();
      const asked = new URLSearchParams(new FormData(form));
      if (!asked.get("against")) asked.delete("against");
      try {
        body.replaceChildren(bars(await post(`api/image/waterfall?${asked}`, this.file)));
      } catch (error) {
        body.replaceChildren(failed(error));
      }
    } }, h("label", { for: "fall-text" }, "Why"), h("input", { id: "fall-text", name: "text", required: true, maxlength: 300 }),
    h("label", { for: "fall-against" }, "rather than"), h("input", { id: "fall-against", name: "against", maxlength: 300, placeholder: "(optional)" }),
    h("button", {}, "Explain"));
    return section("What made a score", form, body);
  }
}

function predictions({ measure, predictions: found }) {
  if (measure === null) return section("Prediction", empty("There are no texts to choose from: describe the atlas over a pool."));
  const most = Math.max(...found.map((each) => Math.abs(each.value))) || 1;
  return section(measure === "probability" ? "Prediction" : "Nearest texts", h("table", {},
    h("caption", { class: "quiet" }, measure === "probability" ? "Probabilities of the model’s own classes" : "By the cosine with the pool’s texts"),
    h("tbody", {}, found.map((each) => h("tr", {}, h("th", { scope: "row" }, text(each.text)),
      h("td", { class: "numeric" }, measure === "probability" ? percent(each.value) : number(each.value)),
      h("td", { style: { width: "40%" } }, h("span", { class: "meter", style: { width: `${(100 * Math.abs(each.value)) / most}%` } })))))));
}

/** A waterfall: each part's bar starts where the one before it ended; the last one is the whole score. */
function bars({ score, parts }) {
  let sum = 0;
  const steps = parts.map((part) => ({ ...part, from: sum, to: sum += part.value }));
  const ends = [0, score, ...steps.map((step) => step.to)];
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const at = (value) => `${(100 * (value - low)) / (high - low || 1)}%`;
  const row = ({ label, value, from, to }, name) => h("tr", {}, h("th", { scope: "row" }, name ?? text(label)),
    h("td", { class: "weight" }, h("span", { class: "fall", "aria-hidden": "true" }, h("span", { class: "zero", style: { left: at(0) } }),
      h("span", { class: value < 0 ? "minus" : "plus",
        style: { left: at(Math.min(from, to)), width: `${(100 * Math.abs(to - from)) / (high - low || 1)}%` } }))),
    h("td", { class: "numeric" }, sign(value)));
  return h("table", { class: "wordtable waterfall" }, h("caption", { class: "hidden" }, "Parts of the score, which sum to it"),
    h("tbody", {}, steps.map((step) => row(step)), row({ value: score, from: 0, to: score }, h("strong", {}, "Score"))));
}

function failed(error) {
  if (!(error instanceof DataError)) console.error(error);
  return h("p", { class: "notice", role: "alert" }, text(error.message));
}
