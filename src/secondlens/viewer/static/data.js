// The atlas's files: fetched when needed, kept a while, read as typed arrays by the layout in site.json.

import { addMetrics } from "./format.js";

const KEPT = 240;
const cache = new Map();
const TYPES = { int32: Int32Array, float32: Float32Array, int8: Int8Array, float16: Uint16Array };

/** Everything in site.json, once `open` has run. */
export let site = null;

export class DataError extends Error {}

/** Read site.json. */
export async function open() {
  site = await json("data/site.json");
  if (site.format !== 2) throw new DataError(`This viewer reads format 2; the site's data has format ${site.format}.`);
  addMetrics(site.metrics);
  return site;
}

export const pad = (value, digits) => String(value).padStart(digits, "0");
export const layers = () => site.layers.map((card) => card.layer);
export const neuronCount = () => site.atlas.model.neurons;
export const card = (layer) => site.layers.find((found) => found.layer === layer);

/** A neuron's place in the order of all neurons, and back. */
export const numberOf = (layer, neuron) => layers().indexOf(layer) * neuronCount() + neuron;
export const placeOf = (number) => ({
  layer: layers()[Math.floor(number / neuronCount())],
  neuron: number % neuronCount(),
});

/** The description to show: of that folder, else the latest; null where there is none. */
export function description(folder) {
  return site.words.find((words) => words.folder === folder) ?? site.words[0] ?? null;
}

/** An address of a page with the description in it, where that is not the one shown anyway. */
export function withPool(address, words) {
  if (words === null || words === site.words[0]) return address;
  return `${address}${address.includes("?") ? "&" : "?"}pool=${encodeURIComponent(words.folder)}`;
}

/** Columns of a layer by name; with a description its columns too, and the headline words' rows. */
export async function columns(layer, words = null) {
  const count = neuronCount();
  const base = await binary(`data/layers/${pad(layer, 2)}/columns.bin`);
  const found = {};
  site.columns.forEach((name, place) => { found[name] = new Float32Array(base, place * count * 4, count); });
  if (words === null || !words.layers.includes(layer)) return { values: found, headline: null };
  const more = await binary(`data/words/${words.folder}/layer-${pad(layer, 2)}-columns.bin`);
  words.columns.forEach((name, place) => { found[name] = new Float32Array(more, place * count * 4, count); });
  return { values: found, headline: new Int32Array(more, words.columns.length * count * 4, count * words.headline) };
}

/** One neuron's row of its slice: arrays by name. */
export function neuronRow(layer, neuron) {
  return row(`data/layers/${pad(layer, 2)}/neurons`, card(layer).fields, neuron);
}

/** One neuron's description. */
export function wordsRow(words, layer, neuron) {
  return row(`data/words/${words.folder}/layer-${pad(layer, 2)}`, words.fields, neuron);
}

/** One neuron's figures on held-out images; null where its description was not evaluated on any. */
export async function heldOut(words, layer, neuron) {
  if (!words.held_out) return null;
  const part = pad(Math.floor(neuron / site.slice), 4);
  return (await json(`data/words/${words.folder}/held-${pad(layer, 2)}-${part}.json`))[neuron % site.slice];
}

/** The audits' index, and the cues of one of its pairs. */
export const audits = () => json("data/audit/index.json");
export const auditedPair = (place) => json(`data/audit/pair-${pad(place, 3)}.json`);

/** One neuron's heat maps, from a slice or from the server; null where the site has none. */
export async function heatRow(layer, neuron) {
  if (site.heat === null) return null;
  if (site.served === null) return row(`data/layers/${pad(layer, 2)}/heat`, site.heat.fields, neuron);
  return unpack(await binary(`api/heat/${layer}/${neuron}`), site.heat.fields, 1, 0);
}

/** A neuron's direction, float32 from half precision. */
export async function direction(layer, neuron) {
  const embed = site.atlas.model.embed_dim;
  const bytes = await binary(`data/layers/${pad(layer, 2)}/directions-${pad(Math.floor(neuron / site.slice), 4)}.bin`);
  return Float32Array.from(new Uint16Array(bytes, (neuron % site.slice) * embed * 2, embed), half);
}

/** The texts of a description's pool. */
export const texts = (words) => json(`data/words/${words.folder}/texts.json`);

/** Of one text: neurons by their direction's product with it (null without the pool), and by its share. */
export async function textRow(words, place) {
  const size = words.texts_per_file;
  const file = pad(Math.floor(place / size), 4);
  const rows = Math.min(size, words.settings.texts - Math.floor(place / size) * size);
  const within = place % size;
  const [index, along] = await Promise.all([
    binary(`data/words/${words.folder}/index-${file}.bin`),
    words.found > 0 ? binary(`data/words/${words.folder}/found-${file}.bin`) : null,
  ]);
  const starts = new Int32Array(index, 0, rows + 1);
  const [from, to] = [starts[within], starts[within + 1]];
  const numbers = new Int32Array(index, 4 * (rows + 1), starts[rows]);
  const shares = new Float32Array(index, 4 * (rows + 1 + starts[rows]), starts[rows]);
  return {
    described: { numbers: numbers.subarray(from, to), values: shares.subarray(from, to) },
    along: along && {
      numbers: new Int32Array(along, within * words.found * 4, words.found),
      values: new Float32Array(along, (rows + within) * words.found * 4, words.found),
    },
  };
}

/** Id and thumbnail size of some images, by position. */
export async function pictures(positions) {
  const size = site.images.ids_per_file;
  const files = [...new Set(Array.from(positions, (position) => Math.floor(position / size)))];
  const read = new Map(await Promise.all(
    files.map(async (file) => [file, await json(`data/images/ids-${pad(file, 4)}.json`)])));
  return Array.from(positions, (position) => {
    const file = read.get(Math.floor(position / size));
    const within = position % size;
    return { position, id: file.ids[within], size: file.sizes[within] };
  });
}

/** Where a picture is: the sprite's address, and its cell in pixels. */
export function sprite(position) {
  const { cell, across, per_file: perFile } = site.images.sprite;
  const within = position % perFile;
  return {
    url: `data/images/sprite-${pad(Math.floor(position / perFile), 5)}.jpg`,
    x: (within % across) * cell,
    y: Math.floor(within / across) * cell,
    cell,
    across,
  };
}

/** Ask for the sprites of some images before anything shows them. */
export function askForSprites(positions) {
  if (site.images.sprite === null) return;
  for (const address of new Set(Array.from(positions, (position) => sprite(position).url))) new Image().src = address;
}

/** The best matches of a neuron in the second atlas. */
export async function matches(layer, neuron) {
  const most = site.comparison.matches;
  const bytes = await binary(`data/layers/${pad(layer, 2)}/comparison.bin`);
  const numbers = new Int32Array(bytes, neuron * most * 4, most);
  const overlaps = new Float32Array(bytes, (neuronCount() + neuron) * most * 4, most);
  return Array.from(numbers, (number, place) => ({
    layer: site.comparison.layers[Math.floor(number / site.comparison.neurons)],
    neuron: number % site.comparison.neurons,
    overlap: overlaps[place],
  }));
}

async function row(base, fields, neuron) {
  const number = Math.floor(neuron / site.slice);
  const rows = Math.min(site.slice, neuronCount() - number * site.slice);
  return unpack(await binary(`${base}-${pad(number, 4)}.bin`), fields, rows, neuron % site.slice);
}

/** Row `within` of a slice with so many rows. */
export function unpack(bytes, fields, rows, within) {
  const found = {};
  let start = 0;
  for (const field of fields) {
    const Type = TYPES[field.type];
    const length = field.shape.reduce((product, size) => product * size, 1);
    found[field.name] = new Type(bytes, start + within * length * Type.BYTES_PER_ELEMENT, length);
    start += rows * length * Type.BYTES_PER_ELEMENT;
  }
  return found;
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return exponent === 31 ? NaN : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

export const json = (address) => kept(address, (response) => response.json());
const binary = (address) => kept(address, (response) => response.arrayBuffer());

function kept(address, read) {
  if (!cache.has(address)) {
    const found = get(address, read);
    cache.set(address, found);
    found.catch(() => cache.delete(address));
    if (cache.size > KEPT) cache.delete(cache.keys().next().value);
  }
  return cache.get(address);
}

async function get(address, read) {
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new DataError(`Could not reach ${address}. Is the server still running?`);
  }
  if (!response.ok) throw new DataError(await reason(response, address));
  return read(response);
}

/** Why a server refused: its own words where it has some. */
export async function reason(response, address) {
  const { detail } = await response.json().catch(() => ({}));
  return typeof detail === "string" ? detail : `Could not read ${address}: the server answered ${response.status}.`;
}
