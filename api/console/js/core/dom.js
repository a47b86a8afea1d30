// Elements made by functions. Text is only ever text: nothing here, or anywhere in the console, reads a string as HTML.

const SVG = "http://www.w3.org/2000/svg";

/// An HTML element. `attributes` may hold `class`, `on` (listeners by event), `style` (properties by name), `data` (data- attributes),
/// properties such as `value` and `checked`, and any attribute; what is null, undefined or false is left out.
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/// The same for SVG.
export function s(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

const PROPERTIES = new Set(["value", "checked", "selected", "disabled", "indeterminate", "htmlFor", "open"]);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "style") {
      for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    } else if (name === "data") {
      for (const [key, text] of Object.entries(value)) {
        if (text !== null && text !== undefined && text !== false) element.dataset[key] = text === true ? "" : text;
      }
    } else if (PROPERTIES.has(name)) {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/// Puts these children in the place of those there are.
export function fill(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
}

/// Children of `element` that stay who they are: one for each item, made once by `make(item)` and told by its `update(item)` what the item is
/// now. So focus outlasts what is told anew, and a press of which only the beginning was before. Gives the function that takes the items.
export function lasting(element, keyOf, make) {
  const known = new Map();
  return (items) => {
    const keys = new Set(items.map(keyOf));
    for (const [key, child] of known) {
      if (keys.has(key)) continue;
      child.remove();
      known.delete(key);
    }
    items.forEach((item, at) => {
      const key = keyOf(item);
      if (!known.has(key)) known.set(key, make(item));
      const child = known.get(key);
      child.update(item);
      // One that is moved loses the focus, so those in their places are left alone.
      if (element.children[at] !== child) element.insertBefore(child, element.children[at] ?? null);
    });
  };
}

/// Puts other content into an element, if it is other. What had the focus leaves it to what stands there now.
export function renew(element, ...children) {
  const next = fill(element.cloneNode(false), ...children);
  if (next.isEqualNode(element)) return;
  const hadFocus = element.contains(document.activeElement);
  element.replaceChildren(...next.childNodes);
  if (hadFocus) element.querySelector("a, button, input, select")?.focus();
}

let ids = 0;

/// An id that no other element has.
export function newId(prefix = "x") {
  ids += 1;
  return `${prefix}-${ids}`;
}

/// Calls `work` once nothing has asked for it for so many milliseconds.
export function debounced(work, milliseconds) {
  let timer;
  const call = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
  call.cancel = () => clearTimeout(timer);
  return call;
}

/// Waits so many milliseconds; ends with the signal's error if that comes first.
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}

/// Ends when the signal does.
export function every(milliseconds, signal, work) {
  const timer = setInterval(() => {
    if (!document.hidden) work();
  }, milliseconds);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
