// A table of any number of rows of which only those in sight exist. Arrow keys, Page Up and Down, Home and End move
// between rows, Enter opens one; the header's buttons sort.

import { h } from "./dom.js";

const ROW = 34;
const SPARE = 8;

/**
 * columns: [{name, title, about, numeric}]; cells(number) gives the contents of a row; open(number) goes there;
 * sort(name) is called by the header. Returns {element, show(numbers, sort, down)}.
 */
export function grid({ label, columns, cells, open, sort }) {
  let numbers = new Uint32Array(0);
  let active = 0;
  const header = h("div", { role: "row", class: "row head", "aria-rowindex": 1 });
  const body = h("div", { role: "rowgroup", class: "rows" });
  const element = h("div", { class: "grid", role: "grid", "aria-label": label, onkeydown: keys, onscroll: draw },
    h("div", { role: "rowgroup", class: "heads" }, header), body);
  element.style.setProperty("--columns", columns.map((column) => column.width ?? "minmax(5rem, 1fr)").join(" "));
  body.addEventListener("click", (event) => {
    const row = event.target.closest("[data-place]");
    if (row && !event.target.closest("a")) open(numbers[Number(row.dataset.place)]);
  });
  // The first drawing needs the height that the page gives the grid.
  new ResizeObserver(draw).observe(element);

  function show(found, sorted, down) {
    numbers = found;
    active = 0;
    element.setAttribute("aria-rowcount", numbers.length + 1);
    header.replaceChildren(...columns.map((column) => {
      const order = column.name === sorted ? (down ? "descending" : "ascending") : column.sortable === false ? null : "none";
      return h("div", { role: "columnheader", class: column.numeric ? "numeric" : "", "aria-sort": order },
        column.sortable === false ? column.title
          : h("button", { type: "button", title: column.about, onclick: () => sort(column.name) }, column.title,
            h("span", { class: "order", "aria-hidden": "true" }, order === "descending" ? " ▾" : order === "ascending" ? " ▴" : "")));
    }));
    body.style.height = `${numbers.length * ROW}px`;
    element.scrollTop = 0;
    draw();
  }

  function draw() {
    const first = Math.max(0, Math.floor(element.scrollTop / ROW) - SPARE);
    const last = Math.min(numbers.length, Math.ceil((element.scrollTop + element.clientHeight) / ROW) + SPARE);
    const focused = body.contains(document.activeElement);
    const rows = [];
    for (let place = first; place < last; place += 1) rows.push(row(place));
    // The active row stays reachable with the Tab key when it is out of sight.
    if (numbers.length && (active < first || active >= last)) rows.push(row(active));
    body.replaceChildren(...rows);
    if (focused) body.querySelector(`[data-place="${active}"]`)?.focus({ preventScroll: true });
  }

  function row(place) {
    const element = h("div", { role: "row", class: "row", "data-place": place, "aria-rowindex": place + 2,
      tabindex: place === active ? 0 : -1 },
      cells(numbers[place]).map((content, column) =>
        h("div", { role: "gridcell", class: columns[column].numeric ? "numeric" : "" }, content)));
    element.style.transform = `translateY(${place * ROW}px)`;
    return element;
  }

  function keys(event) {
    if (!body.contains(event.target) || numbers.length === 0) return;
    const page = Math.max(1, Math.floor(element.clientHeight / ROW) - 2);
    const moves = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page,
      Home: 0, End: numbers.length - 1 };
    if (event.key === "Enter") open(numbers[active]);
    else if (event.key in moves) go(Math.min(numbers.length - 1, Math.max(0, moves[event.key])));
    else return;
    event.preventDefault();
  }

  function go(place) {
    active = place;
    const upper = place * ROW;
    const height = element.clientHeight - ROW;
    if (upper < element.scrollTop) element.scrollTop = upper;
    else if (upper + ROW > element.scrollTop + height) element.scrollTop = upper + ROW - height;
    draw();
    body.querySelector(`[data-place="${place}"]`)?.focus({ preventScroll: true });
  }

  return { element, show };
}
