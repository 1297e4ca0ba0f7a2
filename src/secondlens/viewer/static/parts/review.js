// One pair's cues beside what stands behind each, for a person to accept or reject.

import { DataError, layers, neuronCount, pictures } from "../data.js";
import { empty, freshId, h, section, text } from "../dom.js";
import { count, number } from "../format.js";
import { picture } from "./images.js";
import { allJudgements, JUDGEMENTS } from "./judgements.js";

export class Review {
  constructor(pair, place, query) {
    Object.assign(this, { pair, place, judgements: allJudgements() });
    const asked = Number(query.get("cue"));
    this.chosen = Number.isInteger(asked) && asked in pair.cues ? asked : 0;
    this.evidence = h("div", { class: "evidence" });
    this.status = h("p", { class: "quiet", role: "status" });
    this.group = freshId("cue");
  }

  async made() {
    const { source_class: shown, target_class: predicted, cues, source, pool, scoring, n_resamples: draws, synonyms } = this.pair;
    const left = Object.keys(synonyms);
    const head = [h("p", { class: "quiet" }, h("a", { href: "#/audit" }, "All audits")),
      h("h1", {}, text(shown), " taken for ", text(predicted)),
      h("p", {}, "Accept a cue that does not make a picture show “", text(predicted), "” and still pushes the model there: a spurious one. "
        + "Reject what belongs to it, or means nothing."),
      h("p", { class: "quiet" }, "Scoring ", text(scoring), " over ", text(pool), `, ${source === "second order" ? "second-order effects" : source}; `,
        draws > 0 ? `p-values from ${count(draws)} draws; “family” corrects for all the phrases tried.` : "no p-values were drawn.",
        left.length > 0 && [` Left out as meaning the same as “`, text(predicted), "”: ", left.map((name, at) => [at > 0 && ", ", text(name)]), "."])];
    if (cues.length === 0) return h("div", {}, head, empty("No phrase pushes the model from the one class to the other."));
    this.rows = cues.map((cue, at) => this.row(cue, at));
    const list = h("fieldset", { class: "cues", onkeydown: (event) => this.key(event) }, h("legend", {}, h("h2", {}, "Cues")),
      h("p", { class: "quiet" }, "Arrow keys move, ", h("kbd", {}, "A"), " accepts, ", h("kbd", {}, "R"), " rejects, ", h("kbd", {}, "U"), " takes it back."),
      h("div", { class: "heads quiet", "aria-hidden": "true" }, h("span", {}), h("span", {}), h("span", { class: "numeric" }, "Score"),
        h("span", { class: "numeric" }, "p, family"), h("span", {})),
      h("ol", {}, this.rows.map(({ element }) => element)));
    await this.show(this.chosen, false);
    this.tell();
    return h("div", {}, head, h("div", { class: "controls" }, h("button", { type: "button", onclick: () => this.judgements.download() },
      "Download judgements"), this.status), h("div", { class: "review" }, list, this.evidence));
  }

  row(cue, at) {
    const said = h("span", { class: "hidden" });
    const mark = h("span", { class: "mark" }, said);
    const input = h("input", { type: "radio", name: this.group, value: at, checked: at === this.chosen, onchange: () => this.show(at) });
    const element = h("li", {}, h("label", {}, input, h("span", { class: "name" }, text(cue.text)),
      h("span", { class: "numeric quiet" }, h("span", { class: "hidden" }, "score "), number(cue.score)),
      h("span", { class: "numeric quiet" }, h("span", { class: "hidden" }, "p, family "), number(cue.p_family)), mark));
    return { element, input, said };
  }

  mark() {
    this.pair.cues.forEach((cue, at) => {
      const judgement = this.judgements.of(this.pair, cue);
      const { element, said } = this.rows[at];
      said.textContent = judgement ?? "";
      element.dataset.judgement = judgement ?? "open";
    });
    this.buttons?.forEach(([judgement, button]) =>
      button.setAttribute("aria-pressed", this.judgements.of(this.pair, this.pair.cues[this.chosen]) === judgement));
  }

  tell(before = "") {
    this.mark();
    const { cues } = this.pair;
    const by = Object.keys(JUDGEMENTS).map((judgement) =>
      `${count(cues.filter((cue) => this.judgements.of(this.pair, cue) === judgement).length)} ${judgement}`);
    this.status.replaceChildren(before, `${by.join(", ")}, of ${count(cues.length)} cues.`,
      this.judgements.kept ? "" : " This browser keeps nothing: download them before you leave.");
  }

  decide(judgement) {
    const cue = this.pair.cues[this.chosen];
    this.judgements.set(this.pair, cue, judgement);
    this.tell(`“${cue.text}”: ${judgement ?? "taken back"}. `);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const pressed = event.key.toLowerCase();
    const judgement = Object.keys(JUDGEMENTS).find((name) => JUDGEMENTS[name].key === pressed);
    if (judgement === undefined && pressed !== "u") return;
    event.preventDefault();
    this.decide(judgement ?? null);
    // On to the next cue after a judgement; what was taken back is looked at again.
    if (judgement !== undefined && this.chosen + 1 < this.rows.length) {
      const { input } = this.rows[this.chosen + 1];
      input.checked = true;
      input.focus();
      this.show(this.chosen + 1);
    }
  }

  async show(at, remember = true) {
    this.chosen = at;
    if (remember) history.replaceState(null, "", `#/audit/${this.place}?cue=${at}`);
    let content;
    try {
      content = await this.card(this.pair.cues[at]);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      content = [h("p", { class: "notice", role: "alert" }, text(error.message))];
    }
    // Keys can be faster than files.
    if (this.chosen !== at) return;
    this.evidence.replaceChildren(...content);
    this.mark();
  }

  async card(cue) {
    const figures = [["Score", cue.score], ["p", cue.p_value], ["p, family", cue.p_family], ["q", cue.q_value],
      ["Similarity", cue.similarity]];
    const behind = await Promise.all(cue.evidence.map(neuronBehind));
    this.buttons = Object.entries(JUDGEMENTS).map(([judgement, { title }]) =>
      [judgement, h("button", { type: "button", "aria-pressed": "false", onclick: () => this.decide(
        this.judgements.of(this.pair, cue) === judgement ? null : judgement) }, title)]);
    return [h("h2", {}, text(cue.text)),
      cue.also.length > 0 && h("p", { class: "quiet" }, "Also: ", cue.also.map((name, at) => [at > 0 && ", ", text(name)])),
      h("div", { class: "controls" }, this.buttons.map(([, button]) => button)),
      h("dl", { class: "figures" }, figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, number(value))))),
      section(`Behind it: ${count(cue.neurons)} ${cue.neurons === 1 ? "neuron" : "neurons"}`, behind.length > 0
        ? behind : empty("No neuron of the audit carries it."),
      cue.neurons > behind.length && behind.length > 0 && h("p", { class: "quiet" }, `The ${count(behind.length)} that contribute most.`))]
      .filter(Boolean);
  }
}

async function neuronBehind({ layer, neuron, contribution, sense, images }) {
  const known = layers().includes(layer) && neuron < neuronCount();
  const name = `${layer}/${neuron}`;
  const words = sense.map((word, at) => [at > 0 && ", ", word.startsWith("-")
    ? h("span", { class: "against" }, "− ", text(word.slice(1))) : text(word)]);
  const found = await pictures(images);
  return h("section", { class: "behind" }, h("h3", {}, known ? h("a", { href: `#/neuron/${name}` }, `Neuron ${name}`) : `Neuron ${name}`,
    h("span", { class: "quiet" }, ` contributes ${number(contribution)}`)),
  words.length > 0 && h("p", {}, h("span", { class: "quiet" }, "Its sense: "), words),
  found.length > 0 && h("ol", { class: "pictures" }, found.map((each) => h("li", {}, picture(each)))));
}
