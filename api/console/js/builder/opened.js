// What the builder begins with: what the address names, as text and as tree.

import { isAbort, path, post, versioned } from "../core/api.js";
import { quoted } from "../core/format.js";
import { keepsNumbers } from "./model.js";

/// The audience that the address names: `name` of a saved one, `where` as text, which goes before it.
export async function openedFrom(params, signal) {
  const name = params.get("name");
  let where = params.get("where");
  let saved = null;
  let version = null;
  if (name) {
    ({ answer: saved, version } = await versioned("GET", path`/v1/audiences/${name}`, { signal }));
    where ??= saved.where ?? `in_audience(${quoted(name)})`;
  }
  const opened = { name, saved, version, text: where ?? "", tree: null, mode: "tree" };
  if (!where) return opened;
  try {
    const { where: text, tree } = await post("/v1/translate", { where }, { signal });
    return keepsNumbers(text) ? { ...opened, text, tree } : { ...opened, text, mode: "text" };
  } catch (error) {
    if (isAbort(error) || error.status === 0) throw error;
    return { ...opened, mode: "text" };
  }
}
