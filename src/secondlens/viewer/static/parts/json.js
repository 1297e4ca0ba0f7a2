// Everything about one neuron as JSON, the same as "secondlens neurons show --json" prints.

import { card, columns, pictures, site, texts } from "../data.js";
import { wordsOf } from "./words.js";

export async function neuronJson(layer, neuron, row, words, said, held) {
  const { values } = await columns(layer, words);
  const found = await pictures(row.top_positions);
  const facts = {
    layer, neuron,
    ...Object.fromEntries(site.metrics.filter((metric) => metric.card).map(({ name }) => [name, values[name][neuron]])),
    spectrum: Array.from(row.spectrum),
    paths: card(layer).paths.map(([reader, head], place) => ({ readout: reader, head, fraction: row.path_fractions[place] })),
    texts: [],
    top_images: found.map(({ id }, place) => ({ id, norm: row.top_norms[place], projection: row.top_projections[place] })),
  };
  return said === null ? facts : { ...facts, ...await described(words, said, values, neuron, held) };
}

async function described(words, said, values, neuron, held) {
  const list = wordsOf(words, said, await texts(words), words.settings.nonzero);
  const senses = Array.from({ length: values.senses[neuron] }, (_, sense) => {
    const mine = list.filter((word) => word.sense === sense);
    return {
      texts: mine.map((word) => (word.coefficient < 0 ? "-" : "") + word.text),
      fraction: mine.reduce((sum, word) => sum + Math.abs(word.fraction), 0),
      images: said.top_senses.reduce((sum, each) => sum + (each === sense ? 1 : 0), 0),
    };
  });
  return {
    pool: words.name,
    held_out: held,
    texts: list.map(({ rank, row, text, coefficient, fraction, sense }) => ({ rank, row, text, coefficient, fraction, sense })),
    senses,
    polysemy: values.polysemy[neuron],
    top_senses: Array.from(said.top_senses),
    quality: words.sizes.map((size, place) => ({ texts: size, cosine: said.cosines[place],
      p_isotropic: said.p_isotropic[place], p_matched: said.p_matched[place] })),
  };
}
