// Users of a figure as an audience: the call that told the figure is asked again, with a name for them.

import { forget } from "../core/catalog.js";
import { count } from "../core/format.js";
import { address } from "../core/router.js";
import { linkButton } from "../components/button.js";
import { ask } from "../components/dialog.js";
import { naming } from "../components/naming.js";
import { toast } from "../components/toast.js";

/// Asks for a name; `save(audience, signal)` gives the answer of the call.
export async function keepUsers(text, save) {
  const name = naming();
  const done = await ask({
    title: "Keep them as an audience",
    text: `${text} They are kept as a list: who they are now.`,
    content: [name.field, name.agreement],
    submit: "Keep",
    onSubmit: (signal) => name.keep((audience) => save(audience, signal)),
  });
  if (!done) return;
  const { saved } = done;
  forget("audiences");
  toast(`Kept ${count(saved.users, "user")} as ${saved.audience}`, { action: linkButton("Open", address("audience", { name: saved.audience })) });
}
