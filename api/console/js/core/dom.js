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

/// Ends when the signal does.
export function every(milliseconds, signal, work) {
  const timer = setInterval(() => {
    if (!document.hidden) work();
  }, milliseconds);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
