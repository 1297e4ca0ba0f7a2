// What the next click will need, fetched while the pointer or the focus rests on a link to a neuron.

import { askForSprites, description, neuronRow, pictures, texts, wordsRow } from "../data.js";
import { FIRST } from "./images.js";

const REST = 40;

/** Watch the page's links, and fetch in quiet moments what every neuron's page needs. */
export function lookAhead() {
  let waiting = 0;
  const rests = (event) => {
    clearTimeout(waiting);
    const near = event.target.closest?.("a, [data-place]");
    const link = near?.matches("a") ? near : near?.querySelector("a");
    const found = /^#\/neuron\/(\d+)\/(\d+)(?:\?(.*))?$/.exec(link?.getAttribute("href") ?? "");
    if (found === null) return;
    const pool = new URLSearchParams(found[3]).get("pool");
    waiting = setTimeout(() => prepare(Number(found[1]), Number(found[2]), description(pool)).catch(ignore), REST);
  };
  addEventListener("pointerover", rests);
  addEventListener("focusin", rests);
  const quiet = globalThis.requestIdleCallback ?? ((work) => setTimeout(work, 200));
  quiet(() => {
    import("../pages/neuron.js").catch(ignore);
    const words = description(null);
    if (words !== null) texts(words).catch(ignore);
  });
}

async function prepare(layer, neuron, words) {
  const [row] = await Promise.all([neuronRow(layer, neuron),
    words?.layers.includes(layer) && wordsRow(words, layer, neuron)]);
  askForSprites(row.top_positions.subarray(0, FIRST));
  await pictures(row.top_positions);
}

// What cannot be read is said by the page that needs it.
function ignore() {}
