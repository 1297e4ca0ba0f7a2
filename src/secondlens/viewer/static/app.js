// The router: an address after # to a page; loading, error and focus are handled here, once for all pages.

import { DataError, layers, open, site } from "./data.js";
import { h, text } from "./dom.js";
import { lookAhead } from "./parts/ahead.js";

const PAGES = {
  "": { load: () => import("./pages/overview.js"), title: "Overview" },
  layer: { load: () => import("./pages/layer.js"), title: "Neurons" },
  neuron: { load: () => import("./pages/neuron.js"), title: "Neuron" },
  search: { load: () => import("./pages/search.js"), title: "Search" },
  compare: { load: () => import("./pages/compare.js"), title: "Compare" },
  audit: { load: () => import("./pages/audit.js"), title: "Spurious cues" },
  attack: { load: () => import("./pages/attack.js"), title: "Semantic adversarial images" },
  image: { load: () => import("./pages/image.js"), title: "Image" },
};
const main = document.getElementById("main");
let current = 0;
let shown = null;

function navigation() {
  const entries = [["#/", "Overview"], ["#/layer/all", "Neurons"], ["#/search", "Search"], ["#/compare", "Compare"]];
  if (site.audit) entries.push(["#/audit", "Audit"]);
  if (site.attack) entries.push(["#/attack", "Attack"]);
  if (site.served?.model) entries.push(["#/image", "Image"]);
  document.getElementById("pages").append(
    ...entries.map(([href, name]) => h("a", { href, "data-page": href.split("/")[1] }, name)));
  document.getElementById("brand").textContent = site.title;
}

/** {page, parts, query} of an address. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [page, ...parts] = path.split("/");
  return { page, parts: parts.map(decodeURIComponent), query: new URLSearchParams(query) };
}

async function show() {
  // Links inside a page ("skip to content") are no pages.
  if (location.hash && !location.hash.startsWith("#/")) return;
  current += 1;
  const mine = current;
  const { page, parts, query } = parse(location.hash);
  const waiting = setTimeout(() => main.setAttribute("aria-busy", "true"), 150);
  const moved = shown !== null && shown !== page + parts.join("/");
  shown = page + parts.join("/");
  for (const link of document.querySelectorAll("#pages a")) {
    const here = link.dataset.page === page;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  let content;
  let title = "Not found";
  try {
    if (!(page in PAGES)) throw new DataError(`There is no page “${page}”.`);
    const module = await PAGES[page].load();
    ({ title = PAGES[page].title, content } = await module.render(parts, query));
  } catch (error) {
    if (!(error instanceof DataError)) console.error(error);
    content = failure(error);
  }
  clearTimeout(waiting);
  if (mine !== current) return;
  main.removeAttribute("aria-busy");
  document.title = `${title} – ${site.title}`;
  main.replaceChildren(content);
  if (moved) {
    scrollTo(0, 0);
    const heading = main.querySelector("h1");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
  }
}

function failure(error) {
  const known = error instanceof DataError;
  return h("div", { class: "notice", role: "alert" },
    h("h1", {}, known ? "That did not work" : "Something went wrong in this page"),
    h("p", {}, text(error.message)),
    h("p", {}, h("button", { type: "button", onclick: show }, "Try again"), " ", h("a", { href: "#/" }, "Overview")));
}

function jump(event) {
  event.preventDefault();
  const input = document.getElementById("jump-input");
  const wanted = input.value.trim();
  if (!wanted) return;
  const place = /^(\d+)\s*[/., ]\s*(\d+)$/.exec(wanted);
  location.hash = place ? `#/neuron/${place[1]}/${place[2]}` : `#/search?q=${encodeURIComponent(wanted)}`;
  input.value = "";
}

// "/" goes to the search field, as on many sites; not while something is typed elsewhere.
function shortcut(event) {
  const typing = event.target.closest?.("input, textarea, select");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    document.getElementById("jump-input").focus();
  }
}

try {
  await open();
  navigation();
  document.getElementById("jump").addEventListener("submit", jump);
  addEventListener("keydown", shortcut);
  addEventListener("hashchange", show);
  await show();
  document.documentElement.dataset.ready = layers().join(",");
  lookAhead();
} catch (error) {
  main.replaceChildren(h("div", { class: "notice", role: "alert" }, h("h1", {}, "The atlas could not be opened"),
    h("p", {}, text(error.message))));
}
