// Starts the console: theme, navigation, the page that the address names.

import * as session from "./core/session.js";
import { get, isAbort, noteEpoch, Problem } from "./core/api.js";
import { every, fill, h } from "./core/dom.js";
import { integer, seconds } from "./core/format.js";
import { page, start, address } from "./core/router.js";
import { button } from "./components/button.js";
import { ask, field } from "./components/dialog.js";
import { icon } from "./components/icon.js";
import { openPalette } from "./components/palette.js";
import { failed } from "./components/state.js";
import { forget } from "./core/catalog.js";

const STATUS_MS = 5_000;
const PAGES = [
  ["Audiences", [["audience", "Build", "build"], ["audiences", "Saved", "list"], ["lookalike", "Lookalike", "lookalike"]]],
  ["Understand", [["insight", "Insight", "insight"], ["analysis", "Analysis", "analysis"], ["sql", "SQL", "sql"]]],
  ["Operate", [["live", "Live", "live"], ["catalog", "Catalog", "catalog"], ["jobs", "Jobs", "jobs"]]],
];
const THEMES = [["auto", "As the system", "auto"], ["light", "Light", "sun"], ["dark", "Dark", "moon"]];
const THEME_KEY = "beluga.theme";

const names = new Map();
const links = new Map();
for (const [, entries] of PAGES) {
  for (const [name, text] of entries) {
    names.set(name, text);
    page(name, () => import(`./pages/${name}.js`));
  }
}

function navigation(close) {
  return PAGES.map(([title, entries]) => [
    h("h2", { class: "nav-title" }, title),
    entries.map(([name, text, mark]) => {
      const link = h("a", { href: address(name), on: { click: close } }, icon(mark), text);
      links.set(name, link);
      return link;
    }),
  ]);
}

const brand = () => h("a", { class: "brand", href: address("audience") }, h("img", { src: "/console/mark.svg", alt: "" }), "Beluga");

function themeButton() {
  const place = h("span", {});
  const show = (theme) => {
    const at = THEMES.findIndex(([name]) => name === theme);
    const [name, text, mark] = THEMES[Math.max(at, 0)];
    const next = THEMES[(Math.max(at, 0) + 1) % THEMES.length][0];
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    fill(place, button("", { kind: "quiet", name: mark, label: `Theme: ${text}`, onClick: () => { localStorage.setItem(THEME_KEY, next); show(next); place.firstChild.focus(); } }));
  };
  show(localStorage.getItem(THEME_KEY) ?? "auto");
  return place;
}

/// Which view questions see, how old it is, and whether the server is there at all.
function freshness() {
  const first = h("span", {}, "Connecting …");
  const second = h("span", {});
  // Not announced: it says something else every few seconds.
  const root = h("div", { class: "freshness", data: { state: "late" } }, h("span", { class: "dot", "aria-hidden": "true" }), first, second);
  const look = async () => {
    try {
      const status = await get("/v1/status", { quiet: true });
      noteEpoch(status.epoch);
      const isLate = status.freshness_seconds > 2 || status.warning;
      root.dataset.state = isLate ? "late" : "fresh";
      fill(first, `Epoch ${integer(status.epoch)}`);
      fill(second, status.warning ?? (status.freshness_seconds < 0.5 ? "all writes visible" : `${seconds(status.freshness_seconds)} behind`));
      root.title = status.warning ?? "The view of the data that questions see";
    } catch (error) {
      if (isAbort(error)) return;
      root.dataset.state = "away";
      fill(first, error instanceof Problem && error.status ? error.title : "Not connected");
      fill(second, error.status === 401 ? "a token is needed" : "trying again");
    }
  };
  look();
  every(STATUS_MS, new AbortController().signal, look);
  return root;
}

/// A character that may not be seen, as its number in Unicode.
const named = (character) => (/\s/u.test(character) ? "a space or the end of a line" : `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);

/// Asks for a token until one is known, or the reader gives up.
async function askForToken(problem) {
  const input = h("input", { class: "input mono", type: "password", autocomplete: "off", required: true, "aria-label": "Token", placeholder: "blg_…" });
  const text = session.token() ? problem.message : "This server asks for a token. It is kept in this tab until you close it.";
  const given = await ask({
    title: "Sign in",
    text,
    content: field("Token", input, "beluga token create NAME --scope query,export"),
    submit: "Sign in",
    onSubmit: async (signal) => {
      const token = input.value.trim();
      const odd = /[^!-~]/u.exec(token);
      if (odd) throw new Error(`This is no token: its character ${odd.index + 1} is ${named(odd[0])}. Copy it again, without what stands around it.`);
      // A token that may not ask for the status may be good for something else; one that is not known is good for nothing.
      await get("/v1/status", { token, signal, quiet: true }).catch((error) => {
        if (error.status !== 403) throw error;
      });
      session.keep(token);
      return true;
    },
  });
  forget();
  return given === true;
}

function shell() {
  const main = h("main", { id: "main", class: "page", tabindex: "-1" });
  const side = h("div", { class: "side" });
  const closeSide = () => {
    delete side.dataset.open;
    opener.setAttribute("aria-expanded", "false");
  };
  const opener = button("", { kind: "quiet", name: "menu", label: "Pages", onClick: () => { side.toggleAttribute("data-open"); opener.setAttribute("aria-expanded", String("open" in side.dataset)); } });
  opener.setAttribute("aria-expanded", "false");
  const jump = () => openPalette([...names].map(([name, text]) => ({ value: address(name), label: text, detail: "page" })));
  fill(
    side,
    brand(),
    h("nav", { class: "nav", "aria-label": "Pages" }, navigation(closeSide)),
    h("div", { class: "side-end" }, freshness(), h("div", { class: "side-tools" }, themeButton(), button("", { kind: "quiet", name: "search", label: "Jump to … (Ctrl K)", onClick: jump }), button("", { kind: "quiet", name: "key", label: "Change the token", onClick: () => askForToken(new Problem({ detail: "Another token takes the place of this one." }, 401)).then((given) => given && location.reload()) }), h("span", { class: "grow" }), h("a", { class: "small", href: "/docs/" }, "API"))),
  );
  fill(document.getElementById("shell"), h("header", { class: "top" }, brand(), opener), side, main);
  addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      jump();
    }
    if (event.key === "Escape") closeSide();
  });
  return main;
}

session.setAsker(askForToken);
const main = shell();
// The address is the page's name, so the link may not put its own there.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
start(main, {
  after: (name, isFirst) => {
    document.title = `${names.get(name)} · Beluga`;
    for (const [other, link] of links) {
      if (other === name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    // Who reads with the keyboard goes on where the page begins, not in the navigation or nowhere.
    if (!isFirst) main.focus();
    scrollTo(0, 0);
  },
  failed: (error) => failed(Object.assign(error, { title: error.title ?? "The page cannot be shown" }), () => location.reload()),
});
