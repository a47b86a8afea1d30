// One user, at the side: tags, audiences, vectors.

import { get, path } from "../core/api.js";
import { h, fill } from "../core/dom.js";
import { address } from "../core/router.js";
import { quoted } from "../core/format.js";
import { drawer } from "./dialog.js";
import { empty, failed, loading } from "./state.js";

export async function showUser(id) {
  const content = h("div", {}, loading(6));
  drawer(id, content);
  try {
    const user = await get(path`/v1/users/${id}`);
    const tags = Object.entries(user.tags);
    fill(
      content,
      h("h3", {}, "Tags"),
      tags.length ? h("dl", { class: "facts" }, tags.map(([name, value]) => [h("dt", {}, name), h("dd", {}, shown(value))])) : empty("No tags", "This user is known, and nothing is said of them."),
      h("h3", {}, "Audiences"),
      user.audiences.length
        ? h("div", { class: "tokens" }, user.audiences.map((name) => h("a", { class: "token", href: address("audience", { where: `in_audience(${quoted(name)})` }) }, name)))
        : h("p", { class: "muted" }, "In none of the saved audiences."),
      Object.entries(user.vectors ?? {}).map(([space, vector]) => [h("h3", {}, `Vector in ${space}`), h("p", { class: "mono muted wrap" }, vector.values.slice(0, 16).map((value) => value.toFixed(3)).join("  "), vector.values.length > 16 ? ` … ${vector.values.length} numbers` : "")]),
      h("p", { class: "muted small" }, `As of epoch ${user.epoch}`),
    );
  } catch (error) {
    fill(content, failed(error));
  }
}

function shown(value) {
  if (Array.isArray(value)) return h("span", { class: "tokens" }, value.map((one) => h("span", { class: "token" }, one)));
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}
