// Pages by the part of the address behind `#`: `#/insight?where=…`. What a page shows stands there, so that an address can be shared.

const pages = new Map();
let mounted = null;
let outlet = null;
let onMounted = () => {};
let whenFailed = () => {};

/// Declares a page: `load` imports its module, which has `mount(root, params, context)`.
export function page(name, load) {
  pages.set(name, load);
}

/// `after(name, isFirst)` is called for each page shown; `failed(error)` gives what stands in the place of one that cannot be.
export function start(element, { after, failed }) {
  outlet = element;
  onMounted = after;
  whenFailed = failed;
  addEventListener("hashchange", () => show());
  show();
}

/// The page and its parameters, as the address says.
export function current() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { name: pages.has(name) ? name : "audience", isKnown: name === "" || pages.has(name), params: new URLSearchParams(query) };
}

/// An address of the console. Parameters that are empty are left out; one that is a list stands there once for each.
export function address(name, params = {}) {
  const query = new URLSearchParams();
  for (const [key, values] of Object.entries(params)) {
    for (const value of [values].flat()) {
      if (value !== null && value !== undefined && value !== "" && value !== false) query.append(key, value);
    }
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
  const isFirst = mounted === null;
  mounted?.controller.abort();
  const controller = new AbortController();
  const { signal } = controller;
  mounted = { name, controller };
  if (!isKnown) history.replaceState(null, "", address(name));
  const module = await pages.get(name)().catch((error) => ({ mount: () => Promise.reject(error) }));
  if (signal.aborted) return;
  const root = document.createElement("div");
  root.className = `page-${name}`;
  outlet.replaceChildren(root);
  onMounted(name, isFirst);
  try {
    await module.mount(root, params, { signal, note: (next) => note(name, next) });
  } catch (error) {
    if (!signal.aborted) root.replaceChildren(whenFailed(error));
  }
}
