// Insight: whom an audience is made of, against a baseline; how audiences overlap, and who moves in and out. Each view is a file of its own in `insight/`.

import { fill, h } from "../core/dom.js";
import { address } from "../core/router.js";
import { pageHead } from "../components/page.js";
import { mountMovement } from "../insight/movement.js";
import { mountOverlap } from "../insight/overlap.js";
import { mountProfile } from "../insight/profile.js";
import { mountVenn } from "../insight/venn.js";

/// The views, in the order of their tabs: `[name, text, mount]`.
const VIEWS = [
  ["profile", "Profile", mountProfile],
  ["overlap", "Overlap", mountOverlap],
  ["venn", "Venn", mountVenn],
  ["movement", "Movement", mountMovement],
];

export function mount(root, params, context) {
  const wanted = params.get("view") ?? "profile";
  const [name, , show] = VIEWS.find(([known]) => known === wanted) ?? VIEWS[0];
  const content = h("div", { class: "stack" });
  fill(
    root,
    pageHead("Insight", "Whom an audience is made of, how audiences relate, and who comes and goes."),
    h("nav", { class: "tabs", "aria-label": "Views" }, VIEWS.map(([view, text]) => h("a", { href: address("insight", { view, where: params.get("where") }), "aria-current": view === name ? "page" : null }, text))),
    content,
  );
  show(content, params, { ...context, note: (next) => context.note({ view: name === "profile" ? null : name, ...next }) });
}
