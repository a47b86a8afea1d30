// Analysis: what users do one after the other, whether they come back, and what made them. Each view is a file of its own in `analysis/`.

import { isAbort } from "../core/api.js";
import { catalog } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { address } from "../core/router.js";
import { mountAttribution } from "../analysis/attribution.js";
import { mountEffect } from "../analysis/effect.js";
import { mountExperiment } from "../analysis/experiment.js";
import { mountFunnel } from "../analysis/funnel.js";
import { mountPath } from "../analysis/path.js";
import { mountRetention } from "../analysis/retention.js";
import { mountSequence } from "../analysis/sequence.js";
import { linkButton } from "../components/button.js";
import { pageHead } from "../components/page.js";
import { empty, failed, loading } from "../components/state.js";

/// The views, in the order of their tabs: `[name, text, mount]`.
const VIEWS = [
  ["funnel", "Funnel", mountFunnel],
  ["sequence", "Sequence", mountSequence],
  ["retention", "Retention", mountRetention],
  ["path", "Path", mountPath],
  ["attribution", "Attribution", mountAttribution],
  ["effect", "Effect", mountEffect],
  ["experiment", "Experiment", mountExperiment],
];

export async function mount(root, params, context) {
  const wanted = params.get("view") ?? "funnel";
  const [name, , show] = VIEWS.find(([known]) => known === wanted) ?? VIEWS[0];
  const content = h("div", { class: "stack" }, loading(8));
  const tabs = h("nav", { class: "tabs", "aria-label": "Views" }, VIEWS.map(([view, text]) => h("a", { href: address("analysis", { view, where: params.get("where") }), "aria-current": view === name ? "page" : null }, text)));
  fill(
    root,
    pageHead("Analysis", "What users do one after the other, whether they come back, and what made them."),
    tabs,
    content,
  );
  const chosen = tabs.querySelector("[aria-current]");
  tabs.scrollLeft = chosen.offsetLeft + chosen.offsetWidth - tabs.offsetLeft - tabs.clientWidth;
  const declared = await catalog().catch((error) => error);
  if (context.signal.aborted || isAbort(declared)) return;
  if (declared instanceof Error) return fill(content, failed(declared, () => mount(root, params, context)));
  const facts = Object.keys(declared.facts ?? {});
  if (facts.length === 0) return fill(content, empty("No facts yet", "Declare what users do in the catalog, and send events.", linkButton("Catalog", address("catalog", { view: "facts" }))));
  show(content, params, { ...context, note: (next) => context.note({ view: name === "funnel" ? null : name, ...next }) }, facts);
}
