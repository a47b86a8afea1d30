// A choice among columns of the facts that are chosen beside it: what tells events apart, what is added up.

import { factFields } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";

/// `options(fields)` are `[value, text]` for the columns of a fact; offered is what all facts have. `of(facts)` says which facts these are, and
/// ends when that is known; `chosen()` is the value.
export function columnChoice({ label, value, options, changed }) {
  let chosen = value ?? "";
  let facts = null;
  const root = h("select", { class: "select", "aria-label": label, on: { change: () => { chosen = root.value; changed(); } } });
  const show = (offered) => fill(root, offered.map(([option, text]) => h("option", { value: option, selected: option === chosen }, text)));
  const look = async (next) => {
    const isFirst = facts === null;
    facts = next;
    const fields = await Promise.all(next.map((fact) => factFields(fact).catch(() => [])));
    if (facts !== next) return;
    const [first, ...others] = fields.length ? fields.map(options) : [options([])];
    const offered = first.filter(([option]) => others.every((other) => other.some(([same]) => same === option)));
    // What an address says wrongly is told by the server; what was meant of another fact is meant no longer.
    if (!offered.some(([option]) => option === chosen)) {
      if (isFirst) offered.push([chosen, chosen]);
      else chosen = offered[0][0];
    }
    show(offered);
  };
  root.of = (next) => {
    root.ready = look(next);
    return root.ready;
  };
  root.chosen = () => chosen;
  show([[chosen, chosen]]);
  return root;
}
