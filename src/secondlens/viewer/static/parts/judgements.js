// What a person thinks of cues: kept in this browser, and taken away or brought back as a JSON file.

import { DataError, site } from "../data.js";
import { download } from "./download.js";

const FORMAT = 2;
/** What can be said of a cue, and the key that says it. */
export const JUDGEMENTS = { accepted: { title: "Accept", key: "a" }, rejected: { title: "Reject", key: "r" } };
const name = () => `secondlens-judgements ${site.atlas.created}`;
const identity = ({ source_class, target_class, scoring, pool, cue }) => JSON.stringify([source_class, target_class, scoring, pool, cue]);

class Judgements {
  constructor() {
    this.known = new Map();
    this.kept = true;
    this.fill(this.stored());
  }

  stored() {
    try {
      return JSON.parse(localStorage.getItem(name()) ?? "[]");
    } catch {
      // No storage, as in some private windows, or something else under this name: start anew.
      return [];
    }
  }

  fill(rows) {
    if (!Array.isArray(rows)) return 0;
    const right = rows.filter((row) => row !== null && typeof row === "object" && Object.hasOwn(JUDGEMENTS, row.judgement)
      && ["source_class", "target_class", "scoring", "pool", "cue"].every((part) => typeof row[part] === "string"));
    for (const row of right) this.known.set(identity(row), row);
    return right.length;
  }

  of(pair, cue) {
    return this.known.get(identity({ ...pair, cue: cue.text }))?.judgement ?? null;
  }

  /** judgement: a key of JUDGEMENTS, or null to take it back. */
  set({ source_class, target_class, scoring, pool }, { text, score, p_value, p_family }, judgement) {
    const row = { source_class, target_class, scoring, pool, cue: text, score, p_value, p_family, judgement, decided: new Date().toISOString() };
    if (judgement === null) this.known.delete(identity(row));
    else this.known.set(identity(row), row);
    this.keep();
  }

  keep() {
    try {
      localStorage.setItem(name(), JSON.stringify([...this.known.values()]));
      this.kept = true;
    } catch {
      this.kept = false;
    }
  }

  count(pair) {
    return [...this.known.values()].filter((row) => ["source_class", "target_class", "scoring", "pool"].every((part) => row[part] === pair[part])).length;
  }

  download() {
    const { created, model } = site.atlas;
    download("judgements.json", { format: FORMAT, atlas: created, model: model.reference, judgements: [...this.known.values()] });
  }

  /** Add those of a file; how many there were. */
  async read(file) {
    let given;
    try {
      given = JSON.parse(await file.text());
    } catch {
      throw new DataError("This is no JSON file.");
    }
    if (given?.format !== FORMAT || given.atlas !== site.atlas.created) {
      throw new DataError("These are no judgements of this atlas.");
    }
    const added = this.fill(given.judgements);
    this.keep();
    return added;
  }
}

let judgements = null;
/** All judgements of this atlas. */
export function allJudgements() {
  judgements ??= new Judgements();
  return judgements;
}
