// Pages by the part of the address behind `#`: `#/insight?where=…`. What a page shows stands there, so that an address can be shared.

const pages = new Map();
let mounted = null;
let outlet = null;
let onMounted = () => {};

/// Declares a page: `load` imports its module, which has `mount(root, params, context)`.
export function page(name, load) {
  pages.set(name, load);
}

export function start(element, after) {
  outlet = element;
  onMounted = after;
  addEventListener("hashchange", () => show());
  show();
}

/// The page and its parameters, as the address says.
export function current() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { name: pages.has(name) ? name : "audience", isKnown: name === "" || pages.has(name), params: new URLSearchParams(query) };
}

/// An address of the console. Parameters that are empty are left out.
export function address(name, params = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) query.set(key, value);
  }
  const text = query.toString();
  return `#/${name}${text ? `?${text}` : ""}`;
}

export function go(name, params) {
  const next = address(name, params);
  if (location.hash === next) show();
  else location.hash = next;
}

/// Notes in the address what the page shows, without showing it anew.
export function note(name, params) {
  if (mounted?.name !== name) return;
  history.replaceState(null, "", address(name, params));
}

async function show() {
  const { name, isKnown, params } = current();
  mounted?.controller.abort();
  const controller = new AbortController();
  mounted = { name, controller };
  if (!isKnown) history.replaceState(null, "", address(name));
  const module = await pages.get(name)();
  if (controller.signal.aborted) return;
  const root = document.createElement("div");
  root.className = `page-${name}`;
  outlet.replaceChildren(root);
  onMounted(name);
  module.mount(root, params, { signal: controller.signal, note: (next) => note(name, next) });
}
