// Elements without markup: every text that comes from data is set as text, never parsed.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("a", {href, class, onclick, style: {…}}, …children); children are nodes, texts, lists or null. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") Object.assign(element.style, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Text that comes from data: its own direction, so that right-to-left letters do not disturb what stands around it. */
export function text(value, attributes = {}) {
  return h("bdi", attributes, String(value));
}

/** A section with a heading. */
export function section(title, ...children) {
  return h("section", {}, h("h2", {}, title), ...children);
}

/** A definition list of [name, value] pairs. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** What stands where there is nothing to show. */
export function empty(...message) {
  return h("p", { class: "quiet empty" }, ...message);
}

let last = 0;
/** An id that no other element has. */
export function freshId(name) {
  last += 1;
  return `${name}-${last}`;
}
