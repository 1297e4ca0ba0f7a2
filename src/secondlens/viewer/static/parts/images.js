// A neuron's top images: thumbnails from sprites, with heat maps drawn over them.

import { overlay } from "../colour.js";
import { heatRow, pictures, site, sprite } from "../data.js";
import { empty, h, section, text } from "../dom.js";
import { count, number } from "../format.js";

/** Pictures shown at first. */
export const FIRST = 20;

/** One picture as an element; null-safe where the atlas kept no thumbnails. */
export function picture({ position, id, size }) {
  if (site.images.sprite === null || size[0] === 0) return h("div", { class: "picture none" }, text(id));
  const { url, x, y, cell, across } = sprite(position);
  return h("div", { class: "picture", role: "img", "aria-label": id, title: id }, h("span", { class: "photo", style: {
    backgroundImage: `url("${url}")`, backgroundPosition: `${share(x, cell, across)}% ${share(y, cell, across)}%`,
    backgroundSize: `${across * 100}%` } }));
}

// A background's position in percent counts the room that is left over.
const share = (start, cell, across) => (across === 1 ? 0 : (100 * start) / (cell * (across - 1)));

/** The section of top images. row: the neuron's slice; said: its description's row or null. */
export async function imagesSection(layer, neuron, row, said) {
  const found = await pictures(row.top_positions);
  const list = h("ol", { class: "pictures" });
  const senses = said === null ? 0 : new Set(said.top_senses).size;
  const state = h("p", { class: "quiet", role: "status" });
  let [kind, heat] = ["none", null];
  // Those that are not shown yet are not made yet: a hundred figures are most of the page.
  const figures = found.slice(0, FIRST).map(figure);
  function figure(each, place) {
    const canvas = h("canvas", { class: "heat", "aria-hidden": "true", hidden: true });
    const held = picture(each);
    held.append(canvas);
    const note = `${number(row.top_norms[place])}${row.top_projections[place] < 0 ? ", against" : ""}`;
    return { canvas, place, size: each.size, element: h("li", {}, h("figure", {}, held,
      h("figcaption", {}, note, senses > 1 && said.top_senses[place] >= 0 &&
        h("span", { class: "badge", title: `Sense ${said.top_senses[place] + 1}` }, `${said.top_senses[place] + 1}`)))) };
  }
  // Maps are read, or made by the server's model, when somebody wants to see them.
  async function choose(chosen) {
    kind = chosen;
    try {
      if (kind !== "none" && heat === null) {
        state.textContent = "Making heat maps…";
        heat = await heatRow(layer, neuron);
      }
      state.replaceChildren();
      heated();
    } catch (error) {
      state.replaceChildren("No heat maps: ", text(error.message));
    }
  }
  function heated() {
    for (const each of figures) {
      each.canvas.hidden = kind === "none" || heat === null || each.place >= site.heat.images;
      each.canvas.parentElement.classList.toggle("heated", !each.canvas.hidden);
    }
    if (kind !== "none" && heat !== null) figures.slice(0, site.heat.images).forEach((each) => paint(each, heat, kind));
  }
  list.append(...figures.map((each) => each.element));
  const more = found.length > FIRST && h("button", { type: "button", class: "more", onclick: () => {
    figures.push(...found.slice(FIRST).map((each, place) => figure(each, FIRST + place)));
    list.append(...figures.slice(FIRST).map((each) => each.element));
    heated();
    more.remove();
  } }, `Show all ${count(found.length)}`);
  return section("Images with the largest effect", site.heat && choices(choose), state,
    figures.length === 0 ? empty("No images were kept.") : list, more,
    h("p", { class: "quiet" }, "With the norm of the effect. ",
      site.heat && `Heat maps of the first ${count(site.heat.images)}: violet where the neuron is active or writes along its `
        + "direction, orange where it is negative; an image’s strongest patch has full colour."));
}

function choices(changed) {
  const options = [["none", "Images"], ["activation", "Activation"], ["effect", "Effect"]];
  return h("fieldset", { class: "choices" }, h("legend", { class: "hidden" }, "Heat map"),
    options.map(([value, name]) => h("label", {}, h("input", { type: "radio", name: "heat", value, checked: value === "none",
      onchange: () => changed(value) }), name)));
}

/** Draw one image's map over what the model saw of the picture. */
function paint({ canvas, place, size }, heat, kind) {
  const [rows, columns] = site.heat.grid;
  const patches = rows * columns;
  drawMap(canvas, heat[kind].subarray(place * patches, (place + 1) * patches), rows, columns, 1 / 127);
  // Thumbnails stand in the middle of a square cell.
  const cell = Math.max(...size);
  cover(canvas, size, site.heat.framing, [cell, cell]);
}

/** Values times a scale, as pixels of a canvas. */
export function drawMap(canvas, values, rows, columns, scale) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  values.forEach((value, place) => pixels.data.set(overlay(value * scale), place * 4));
  context.putImageData(pixels, 0, 0);
}

/** Place a canvas over the part of a picture that the model saw; the frame around both has the picture's shape. */
export function cover(canvas, [width, height], framing, [wide, tall] = [width, height]) {
  const [w, t] = framing === "centre" ? [Math.min(width, height), Math.min(width, height)] : [width, height];
  Object.assign(canvas.style, { width: `${(100 * w) / wide}%`, height: `${(100 * t) / tall}%`,
    left: `${50 - (50 * w) / wide}%`, top: `${50 - (50 * t) / tall}%` });
}
