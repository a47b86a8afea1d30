// The members of an expression, a page at a time; all pages are of one view.

import { post } from "../core/api.js";
import { h, fill } from "../core/dom.js";
import { integer } from "../core/format.js";
import { button } from "../components/button.js";
import { empty, failed, loading } from "../components/state.js";
import { showUser } from "../components/user.js";

const PAGE = 48;

export function memberList(where) {
  const root = h("div", { class: "members" }, loading(4));
  const list = h("ul", { class: "member-grid" });
  const shown = h("span", { class: "muted grow" });
  const more = button("Show more", { onClick: () => load(more.cursor) });
  const foot = h("div", { class: "pager" }, shown, more);
  const load = async (cursor) => {
    const hadFocus = document.activeElement === more;
    more.disabled = true;
    try {
      const page = await post("/v1/members", cursor ? { cursor, limit: PAGE } : { where, limit: PAGE });
      if (!cursor && page.users.length === 0) return fill(root, empty("Nobody fits", "Loosen a condition to find somebody."));
      if (foot.parentNode !== root) fill(root, list, foot);
      list.append(...page.users.map((id) => h("li", {}, h("button", { type: "button", class: "member mono clip", title: id, on: { click: () => showUser(id) } }, id))));
      fill(shown, `${integer(list.children.length)} shown, of epoch ${integer(page.epoch)}`);
      more.cursor = page.next;
      more.hidden = !page.next;
      more.disabled = false;
      if (hadFocus && [document.body, more].includes(document.activeElement)) more.focus();
    } catch (error) {
      fill(root, cursor && list, failed(error, () => load(cursor)));
    }
  };
  load(null);
  return root;
}
