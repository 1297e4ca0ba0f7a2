// The neurons of one layer or of all: a grid that is sorted and filtered as you type. The address holds the filters.

import { columns, description, DataError, layers, neuronCount, placeOf, texts, withPool } from "../data.js";
import { empty, h, text } from "../dom.js";
import { matchingTexts, readFilters, select, writeFilters } from "../filters.js";
import { COLUMNS, count } from "../format.js";
import { grid } from "../grid.js";
import { headline } from "../parts/words.js";

const OF_WORDS = ["polysemy", "cosine", "p_matched", "prediction_auc"];

export async function render(parts, query) {
  const chosen = parts[0] ?? "all";
  if (chosen !== "all" && !layers().includes(Number(chosen))) {
    throw new DataError(`Layer ${chosen} is not in this atlas; it has layers ${layers().join(", ")}.`);
  }
  const words = description(query.get("pool"));
  const wanted = chosen === "all" ? layers() : [Number(chosen)];
  const [table, list] = await Promise.all([load(wanted, words), words === null ? [] : texts(words)]);
  const names = Object.keys(table.values).filter((name) => name in COLUMNS);
  const state = readFilters(query, names);
  const page = new LayerPage({ chosen, words, list, table, names, state });
  return { title: chosen === "all" ? "All neurons" : `Layer ${chosen}`, content: page.element };
}

/** All columns of some layers, one after the other. */
async function load(wanted, words) {
  const parts = await Promise.all(wanted.map((layer) => columns(layer, words)));
  const size = neuronCount();
  const count = wanted.length * size;
  const first = layers().indexOf(wanted[0]) * size;
  const values = {};
  for (const name of Object.keys(parts[0].values)) {
    values[name] = new Float32Array(count).fill(NaN);
    parts.forEach((part, place) => part.values[name] && values[name].set(part.values[name], place * size));
  }
  const perNeuron = words?.headline ?? 0;
  const headlines = words && new Int32Array(count * perNeuron).fill(-1);
  parts.forEach((part, place) => part.headline && headlines.set(part.headline, place * size * perNeuron));
  return { count, values, headline: headlines, perNeuron, first };
}

class LayerPage {
  constructor(given) {
    Object.assign(this, given);
    this.status = h("p", { class: "quiet", role: "status" });
    this.filters = h("div", { class: "filters" });
    const shown = [...this.names.filter((name) => COLUMNS[name].table), ...OF_WORDS.filter((name) => this.names.includes(name))];
    this.grid = grid({
      label: this.chosen === "all" ? "Neurons of all layers" : `Neurons of layer ${this.chosen}`,
      columns: [
        { name: "neuron", title: "Neuron", about: "Sort by layer and number", width: "7rem" },
        { name: "words", title: "Words", sortable: false, width: "minmax(12rem, 4fr)" },
        ...shown.map((name) => ({ name, title: COLUMNS[name].short, about: COLUMNS[name].about, numeric: true })),
      ],
      cells: (row) => this.cells(row, shown),
      open: (row) => { location.hash = this.address(row); },
      sort: (name) => this.sort(name),
    });
    this.none = empty("No neuron passes these filters. ",
      h("button", { type: "button", onclick: () => this.clear() }, "Remove the filters"));
    this.element = h("div", { class: "layer-page" }, h("h1", {}, this.chosen === "all" ? "All neurons" : `Layer ${this.chosen}`),
      this.choice(), this.search(), this.filters, this.status, this.grid.element, this.none);
    this.drawFilters();
    this.update(false);
  }

  cells(row, shown) {
    const { layer, neuron } = placeOf(this.table.first + row);
    const link = h("a", { href: this.address(row), tabindex: -1 }, `${layer}/${neuron}`);
    const said = this.table.headline === null ? "not described"
      : headline(this.wordsOf(row), this.list);
    return [link, said, ...shown.map((name) => COLUMNS[name].write(this.table.values[name][row]))];
  }

  /** Rows of a neuron's first words; those that were asked for come first, for the line may end before the others. */
  wordsOf(row) {
    const found = Array.from(this.table.headline.subarray(row * this.table.perNeuron, (row + 1) * this.table.perNeuron));
    if (this.mask === null) return found;
    const asked = (word) => word !== -1 && this.mask[word < 0 ? -2 - word : word] === 1;
    return [...found.filter(asked), ...found.filter((word) => !asked(word))];
  }

  address(row) {
    const { layer, neuron } = placeOf(this.table.first + row);
    return withPool(`#/neuron/${layer}/${neuron}`, this.words);
  }

  choice() {
    const entries = [["all", "All layers"], ...layers().map((layer) => [String(layer), `Layer ${layer}`])];
    return h("nav", { class: "tabs", "aria-label": "Layers" }, entries.map(([value, name]) =>
      h("a", { href: withPool(`#/layer/${value}?${writeFilters(this.state)}`, this.words), "aria-current": value === this.chosen ? "page" : null }, name)));
  }

  search() {
    const input = h("input", { type: "search", id: "word-filter", value: this.state.words, placeholder: "any of its first words",
      oninput: () => { this.state.words = input.value; this.update(); } });
    const add = h("button", { type: "button", onclick: () => {
      this.state.ranges.push({ column: this.names[0], low: -Infinity, high: Infinity });
      this.drawFilters();
      this.filters.lastChild.querySelector("select").focus();
    } }, "Filter by a figure");
    return h("div", { class: "controls" }, this.words !== null && [h("label", { for: "word-filter" }, "Words"), input], add);
  }

  drawFilters() {
    this.filters.replaceChildren(...this.state.ranges.map((range, place) => this.filterRow(range, place)));
  }

  filterRow(range, place) {
    const select = h("select", { "aria-label": "Figure", onchange: () => { range.column = select.value; this.update(); } },
      this.names.map((name) => h("option", { value: name }, COLUMNS[name].title)));
    select.value = range.column;
    const input = (side, label) => {
      const field = h("input", { type: "number", step: "any", "aria-label": label, placeholder: side === "low" ? "smallest" : "largest",
        value: Number.isFinite(range[side]) ? range[side] : "",
        oninput: () => {
          range[side] = field.value === "" ? (side === "low" ? -Infinity : Infinity) : field.valueAsNumber;
          this.update();
        } });
      return field;
    };
    return h("div", { class: "controls" }, select, input("low", "At least"), h("span", {}, "to"), input("high", "At most"),
      h("button", { type: "button", "aria-label": "Remove this filter", onclick: () => {
        this.state.ranges.splice(place, 1);
        this.drawFilters();
        this.update();
      } }, "Remove"));
  }

  sort(name) {
    this.state.down = this.state.sort === name ? !this.state.down : name !== "neuron";
    this.state.sort = name;
    this.update();
    this.grid.element.querySelector("[aria-sort=ascending] button, [aria-sort=descending] button")?.focus();
  }

  clear() {
    Object.assign(this.state, { words: "", ranges: [] });
    location.hash = withPool(`#/layer/${this.chosen}`, this.words);
  }

  update(remember = true) {
    const started = performance.now();
    this.mask = matchingTexts(this.list, this.state.words);
    const found = select(this.table, this.state, this.mask);
    this.grid.show(found, this.state.sort, this.state.down);
    performance.measure("filter", { start: started });
    this.none.hidden = found.length > 0;
    this.grid.element.hidden = found.length === 0;
    this.status.replaceChildren(found.length === this.table.count ? `${count(found.length)} neurons`
      : `${count(found.length)} of ${count(this.table.count)} neurons`,
    ...this.words === null ? [] : [" · words of ", text(this.words.name)]);
    // Replacing keeps the history free of a step for each key; other pages' links find the address as it is now.
    if (remember) history.replaceState(null, "", withPool(`#/layer/${this.chosen}?${writeFilters(this.state)}`, this.words));
  }
}
