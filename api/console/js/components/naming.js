// The name that something is saved under as an audience. One that is there already is replaced only if the reader says so.

import { exists } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { field } from "./dialog.js";

/// `own` is the name of the audience that is edited, and `version` what was read of it. `field` and `agreement` are for a dialog's content;
/// `keep` is for its `onSubmit`.
export function naming({ own = "", version = null } = {}) {
  const input = h("input", { class: "input", required: true, value: own, maxlength: "128", autocomplete: "off" });
  const agreed = h("input", { type: "checkbox" });
  const words = h("span", {});
  const agreement = h("label", { class: "check", hidden: true }, agreed, words);
  const offer = (text) => {
    fill(words, text);
    agreement.hidden = false;
  };
  input.addEventListener("input", () => {
    agreement.hidden = true;
    agreed.checked = false;
  });
  /// Calls `save(name, headers)`.
  const keep = async (save) => {
    const name = input.value.trim();
    if (agreed.checked) return save(name, {});
    if (name !== own && (await exists(name))) {
      offer("Replace the audience that has this name");
      throw new Error(`There is an audience “${name}” already.`);
    }
    try {
      return await save(name, name === own && version ? { "if-match": version } : {});
    } catch (error) {
      if (error.kind !== "version-changed") throw error;
      offer("Save it over what somebody else made of it meanwhile");
      throw new Error(`Somebody else changed or deleted “${name}” since it was opened here.`);
    }
  };
  return { field: field("Name", input), agreement, keep };
}
