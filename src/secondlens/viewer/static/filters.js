// Filtering and sorting of neurons: plain loops over typed arrays, so that tens of thousands stay below a frame or two.

/** What `#/layer/…?…` asks for: {words, ranges: [{column, low, high}], sort, down}. */
export function readFilters(query, columns) {
  const ranges = [];
  for (const [name, value] of query) {
    if (!columns.includes(name)) continue;
    const [low, high] = value.split("..");
    ranges.push({ column: name, low: bound(low, -Infinity), high: bound(high, Infinity) });
  }
  const sort = query.get("sort") ?? "-top_norm";
  const name = sort.replace(/^-/, "");
  const known = columns.includes(name) || name === "neuron";
  return { words: query.get("words") ?? "", ranges, sort: known ? name : "neuron", down: known && sort.startsWith("-") };
}

/** The same as a query. */
export function writeFilters({ words, ranges, sort, down }) {
  const query = new URLSearchParams();
  if (words) query.set("words", words);
  for (const { column, low, high } of ranges) query.append(column, `${finite(low)}..${finite(high)}`);
  query.set("sort", (down ? "-" : "") + sort);
  return query.toString();
}

const bound = (text, otherwise) => (text === undefined || text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text));
const finite = (value) => (Number.isFinite(value) ? String(value) : "");

/** Rows of a text list that contain the words, as a mask; null where nothing is asked. Case is ignored. */
export function matchingTexts(texts, words) {
  const wanted = words.trim().toLocaleLowerCase();
  if (wanted === "") return null;
  const mask = new Uint8Array(texts.length);
  for (let row = 0; row < texts.length; row += 1) {
    if (texts[row].toLocaleLowerCase().includes(wanted)) mask[row] = 1;
  }
  return mask;
}

/**
 * Numbers of the neurons that pass, sorted.
 * table: {count, values: {column: Float32Array}, headline: Int32Array or null, perNeuron}.
 */
export function select(table, { ranges, sort, down }, mask) {
  const kept = new Uint32Array(table.count);
  let size = 0;
  const tests = ranges.map(({ column, low, high }) => ({ values: table.values[column], low, high }));
  for (let neuron = 0; neuron < table.count; neuron += 1) {
    if (tests.every(({ values, low, high }) => values[neuron] >= low && values[neuron] <= high) &&
        (mask === null || says(table, neuron, mask))) {
      kept[size] = neuron;
      size += 1;
    }
  }
  const found = kept.subarray(0, size);
  if (sort === "neuron") return down ? found.reverse() : found;
  return ordered(found, table.values[sort], down);
}

function says(table, neuron, mask) {
  if (table.headline === null) return false;
  const start = neuron * table.perNeuron;
  for (let place = start; place < start + table.perNeuron; place += 1) {
    const row = table.headline[place];
    if (row !== -1 && mask[row < 0 ? -2 - row : row] === 1) return true;
  }
  return false;
}

const NUMBERS = 2 ** 21;

/** Sorted by a column, ties by number, values that are no number last. */
function ordered(numbers, values, down) {
  // A value's order (32 bits) and a neuron's number (21 bits) fit the 53 bits of an exact integer, and an array of
  // such numbers is sorted without calling back.
  const keys = new Float64Array(numbers.length);
  const view = new DataView(new ArrayBuffer(4));
  for (let place = 0; place < numbers.length; place += 1) {
    const value = values[numbers[place]];
    let order = 0xffffffff;
    if (!Number.isNaN(value)) {
      // Adding zero makes -0 and 0 the same. Floats as integers rise with their value, negative ones fall.
      view.setFloat32(0, value + 0);
      const raw = view.getUint32(0);
      order = raw & 0x80000000 ? ~raw >>> 0 : (raw | 0x80000000) >>> 0;
      if (down) order = ~order >>> 0;
    }
    keys[place] = order * NUMBERS + numbers[place];
  }
  keys.sort();
  for (let place = 0; place < numbers.length; place += 1) numbers[place] = keys[place] % NUMBERS;
  return numbers;
}
