// Numbers for people, in the browser's own language.

const language = navigator.languages;
const whole = new Intl.NumberFormat(language);
const percents = new Intl.NumberFormat(language, { style: "percent", maximumSignificantDigits: 3 });
const significant = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });
const signed = new Intl.NumberFormat(language, { maximumSignificantDigits: 3, signDisplay: "exceptZero" });
const small = new Intl.NumberFormat(language, { notation: "scientific", maximumSignificantDigits: 2 });
const dates = new Intl.DateTimeFormat(language, { dateStyle: "long" });
const lists = new Intl.ListFormat(language, { type: "unit" });

export const count = (value) => whole.format(value);
export const percent = (value) => (Number.isFinite(value) ? percents.format(value) : "–");
export const date = (value) => dates.format(new Date(value));
export const list = (values) => lists.format(values.map(String));
export const sign = (value) => signed.format(value);

/** Three digits; very small numbers as powers of ten. */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  return value !== 0 && Math.abs(value) < 1e-3 ? small.format(value) : significant.format(value);
}

/** Seconds as hours, minutes or seconds. */
export function duration(seconds) {
  const [unit, size] = seconds >= 5400 ? ["hour", 3600] : seconds >= 90 ? ["minute", 60] : ["second", 1];
  const digits = unit === "second" ? 0 : 1;
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: digits })
    .format(seconds / size);
}

const FORMATS = { number, percent };

/** What the columns are called, how their values are written, and what they mean: of a description, and, once site.json
 * is read, of an atlas. */
export const COLUMNS = {
  polysemy: { title: "Polysemy", short: "Polysemy", write: number,
    about: "Effective number of directions among the words: 1 where all say the same" },
  senses: { title: "Senses", short: "Senses", write: count, about: "Groups of words that differ in meaning" },
  cosine: { title: "Description’s cosine", short: "Cosine", write: number,
    about: "Cosine of the direction and its description at full length" },
  p_isotropic: { title: "p, random directions", short: "p random", write: number,
    about: "Share of random directions that are described as well" },
  p_matched: { title: "p, the layer’s directions", short: "p layer", write: number,
    about: "Share of random mixtures of the layer’s directions that are described as well" },
  prediction_auc: { title: "Prediction on new images", short: "AUC", write: number,
    about: "ROC-AUC with which the words tell the neuron’s images, on held-out images; 0.5 is chance" },
};

/** Add the atlas's metrics as site.json lists them. */
export function addMetrics(metrics) {
  for (const { name, format, ...metric } of metrics) COLUMNS[name] = { ...metric, write: FORMATS[format] };
}
