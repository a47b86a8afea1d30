"""What happens beside the journeys: edits that are not right yet, answers that come late, others who change the same thing."""

import json
import re
import urllib.parse

from playwright.sync_api import expect

from journeys import choose, shown_count

# Conditions of every operator and type, with whom they are about: tags that some users lack, and columns that some events lack.
VALUES = {"province": ("'hainan'", "'sichuan'"), "interest": ("'yoga'", "'golf'"), "age": ("30", "40.5"), "registered_at": ("'2025-03-01'", "'2025-09-01T12:00:00Z'")}
COLUMNS = {"campaign": ("'spring'", "'autumn'"), "amount": ("10", "20.25"), "ts": ("'2026-10-20'", "'2026-11-01T12:00:00Z'")}
COMPARISONS = ["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"]
FIGURES = ["count", "sum(amount)"]


def conditions_on(name, low, high):
    yield from (f"{name} {op} {low}" for op in COMPARISONS)
    yield from (f"{name} {op} ({values})" for op in ["IN", "NOT IN"] for values in [low, f"{low}, {high}"])
    yield from (f"{name} {op} {low} AND {high}" for op in ["BETWEEN", "NOT BETWEEN"])
    yield from (f"{name} {op}" for op in ["IS NULL", "IS NOT NULL"])


def expressions():
    for name, values in VALUES.items():
        yield from conditions_on(name, *values)
    for name, values in COLUMNS.items():
        yield from (f"did('purchase', {condition})" for condition in conditions_on(name, *values))
    yield from (f"is_member {test}".strip() for test in ["", "= TRUE", "= FALSE", "<> TRUE", "IS DISTINCT FROM TRUE", "IS NOT DISTINCT FROM FALSE", "IS NULL", "IS NOT NULL"])
    for figure in FIGURES:
        yield from (f"did('purchase', {figure} {op} 2)" for op in COMPARISONS[:6])
        yield from (f"did('purchase', {figure} {op} 2 AND 30)" for op in ["BETWEEN", "NOT BETWEEN"])
    yield from (f"did('purchase', {figure} {op} '10 days ago')" for figure in ["first", "last"] for op in COMPARISONS[2:6])
    yield from (f"did('purchase', {events})" for events in ["NOT campaign = 'spring'", "campaign = 'spring' OR amount > 50", "at_least(2, campaign = 'spring', amount > 20, category = 'shoes')"])
    yield from ["province IN ('', 'hainan')", "province = ''", "province <> ''", "NOT (province = '' OR is_member)", "spend >= 12.50", "age = 9007199254740993", "NOT NOT is_member", "FALSE", "is_member XOR (age > 30)"]


# Draws each as the page does, and asks how many fit what it was and what it is now.
DRAW = """async (texts) => {
  const [{ tagFields, catalog }, { post }, { fromTree, keepsNumbers, toTree }, { treeEditor }] = await Promise.all(
    ["core/catalog", "core/api", "builder/model", "builder/tree"].map((name) => import(`/console/js/${name}.js`)));
  const fields = await tagFields();
  const { facts, spaces } = await catalog();
  const count = async (where) => (await post("/v1/count", { where }).catch((error) => ({ count: error.kind }))).count;
  const all = [];
  for (const text of texts) {
    const read = await post("/v1/translate", { where: text }).catch((error) => error);
    if (read instanceof Error || !keepsNumbers(read.where)) continue;
    const model = fromTree(read.tree, (name) => fields.find((field) => field.name === name));
    const drawn = treeEditor(model, { fields, facts: Object.keys(facts), spaces: Object.keys(spaces), changed: () => {} });
    while (drawn.querySelector(".behaviour-body:empty")) await new Promise((done) => setTimeout(done));
    const tree = toTree(model);
    all.push([text, await count(text), await count(tree === undefined ? "TRUE" : tree)]);
  }
  return all;
}"""


def opening_an_audience_changes_nothing(page, server):
    page.goto(server.url)
    shown_count(page, server, "TRUE")
    page.refused |= {"/v1/count", "/v1/translate"}
    asked = list(expressions())
    told = page.evaluate(DRAW, asked)
    # All but the one that is not drawn, see below.
    assert len(told) == len(asked) - 1, set(asked) - {text for text, _, _ in told}
    assert len({was for _, was, _ in told}) > 40, told
    changed = [(text, was, now) for text, was, now in told if was != now]
    assert not changed, changed
    # And as people do: what has no operator here is shown as it was written, also to whoever has the address.
    for text in ["registered_at <= '2025-03-01'", "is_member IS DISTINCT FROM TRUE", "province NOT IN ('hainan')"]:
        page.goto(f"{server.url}/#/audience?where={urllib.parse.quote(text)}")
        shown_count(page, server, text)
        expect(page.locator(".reads")).to_contain_text(text)
        expect(page.locator(".written")).to_have_text(text)
    # JavaScript would make another number of it.
    page.goto(f"{server.url}/#/audience?where=age%20%3C%209007199254740993")
    expect(page.get_by_label("Audience expression")).to_have_value("age < 9007199254740993")


def the_empty_text_is_a_value(page, server):
    server.lines("/v1/tags?visible=true", [{"user_id": "blank", "set": {"province": ""}}])
    page.goto(server.url)
    shown_count(page, server, "TRUE")
    page.get_by_role("button", name="Tag", exact=True).click()
    choose(page, "Tag", "province")
    page.get_by_role("combobox", name="Values of province").click()
    page.get_by_role("option", name="(empty)").click()
    assert shown_count(page, server, "province = ''") == 1
    page.get_by_role("option", name=re.compile("^hainan")).click()
    shown_count(page, server, "province IN ('', 'hainan')")
    server.lines("/v1/tags?visible=true", [{"user_id": "blank", "unset": ["province"]}])


def what_is_on_the_screen_is_saved(page, server):
    page.refused |= {"/v1/translate"}
    page.goto(server.url)
    shown_count(page, server, "TRUE")
    page.get_by_role("radio", name="Text").check()
    area = page.get_by_label("Audience expression")
    # Not right yet: nobody is saved, and the text stays.
    area.fill("gender = 'f")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".toast-bad")).to_contain_text("has to be right first")
    expect(page.get_by_role("dialog")).to_have_count(0)
    # Saved faster than it could be counted.
    page.evaluate("""() => {
      const area = document.querySelector(".code-area");
      area.value = "gender = 'f' AND age > 70";
      area.dispatchEvent(new Event("input", { bubbles: true }));
      [...document.querySelectorAll("button")].find((one) => one.textContent === "Save").click();
    }""")
    page.get_by_role("textbox", name="Name").fill("at_once")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="at_once")).to_be_visible()
    assert server.call("GET", "/v1/audiences/at_once")["where"] == "gender = 'f' AND age > 70"
    server.call("DELETE", "/v1/audiences/at_once")


def text_that_is_not_right_stays(page, server):
    page.refused |= {"/v1/translate"}
    page.goto(f"{server.url}/#/audience?where=is_member")
    shown_count(page, server, "is_member")
    page.get_by_role("radio", name="Text").check()
    area = page.get_by_label("Audience expression")
    wrong = "gender = 'f' AND (is_member"
    area.fill(wrong)
    page.get_by_role("radio", name="Conditions").click()
    expect(page.locator(".toast-bad")).to_be_visible()
    expect(page.get_by_role("radio", name="Text")).to_be_checked()
    assert area.input_value() == wrong
    # The same when the server does not say what it means.
    page.route("**/v1/translate", lambda route: route.fulfill(status=429, json={"title": "Too many", "detail": "too many queries wait"}))
    area.fill("gender = 'f' AND is_member")
    page.get_by_role("radio", name="Conditions").click()
    expect(page.locator(".toast-bad").last).to_contain_text("too many queries wait")
    expect(page.get_by_role("radio", name="Text")).to_be_checked()
    assert area.input_value() == "gender = 'f' AND is_member"
    page.unroute("**/v1/translate")
    page.get_by_role("radio", name="Conditions").check()
    expect(page.get_by_role("combobox", name="Values of gender")).to_be_visible()
    shown_count(page, server, "gender = 'f' AND is_member")


# Requests that wait until they are released, or given up.
HOLD = """(() => {
  const { fetch } = window;
  const waiting = [];
  window.hold = (pattern) => {
    window.heldCount = 0;
    window.fetch = async (address, options = {}) => {
      if (new RegExp(pattern).test(`${options.method ?? "GET"} ${address}`)) {
        window.heldCount += 1;
        await new Promise((release) => {
          waiting.push(release);
          options.signal?.addEventListener("abort", release);
        });
      }
      return fetch(address, options);
    };
  };
  window.release = () => {
    window.fetch = fetch;
    for (const one of waiting.splice(0)) one();
  };
})()"""


def hold(page, pattern):
    page.evaluate("(pattern) => window.hold(pattern)", pattern)


def until_held(page, count):
    page.wait_for_function("(count) => window.heldCount >= count", arg=count)


def release(page):
    page.evaluate("() => window.release()")
    # Long enough for an answer that nobody waits for.
    page.wait_for_timeout(800)


def what_is_superseded_is_not_shown(page, server):
    page.add_init_script(HOLD)
    # The second statement runs while the first ends.
    page.goto(f"{server.url}/#/sql")
    hold(page, "/v1/sql")
    statement = page.get_by_label("SQL statement")
    statement.fill("SELECT 1 AS one")
    statement.press("Control+Enter")
    until_held(page, 1)
    statement.fill("SELECT 2 AS two")
    statement.press("Control+Enter")
    until_held(page, 2)
    page.wait_for_timeout(300)
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.get_by_text("Cancelled", exact=True)).to_have_count(0)
    release(page)
    expect(page.get_by_role("region", name="Rows")).to_contain_text("two")
    # Nothing is asked any more, so no answer comes.
    for address, asked, label, empty in [
        ("lookalike?seed=in_audience('yogis')&size=50", "/v1/lookalike", "Seed: like whom", "Choose a seed"),
        ("insight?by=gender", "/v1/profile", "Tags", "Choose a tag"),
        ("insight?view=overlap&of=members,yogis", "/v1/overlap", "Audiences", "Choose another"),
        ("insight?view=venn&of=members,yogis", "/v1/overlap", "Audiences", "Choose another"),
    ]:
        hold(page, asked)
        page.goto(f"{server.url}/#/{address}")
        until_held(page, 1)
        box = page.get_by_role("combobox", name=label, exact=True)
        if label.startswith("Seed"):
            box.fill("")
            box.press("Enter")
        else:
            box.press("Backspace")
        expect(page.get_by_text(empty, exact=True)).to_be_visible()
        release(page)
        expect(page.get_by_text(empty, exact=True)).to_be_visible()
    # Slow answers do not pile up.
    hold(page, "/v1/jobs")
    page.goto(f"{server.url}/#/jobs")
    until_held(page, 1)
    page.wait_for_timeout(3_500)
    assert page.evaluate("window.heldCount") == 1
    release(page)
    expect(page.get_by_role("region", name="Jobs")).to_be_visible()


def figures_that_follow_ask_seldom(page, server):
    asked = []

    def answer(route):
        # Data that changes between any two questions.
        asked.append(route.request.post_data_json["where"])
        route.fulfill(status=200, json={"count": 7, "epoch": 1_000_000 + len(asked), "elapsed_us": 1})

    page.route("**/v1/count", answer)
    page.goto(f"{server.url}/#/audience?where=did('purchase')%20AND%20is_member")
    expect(page.locator(".row-count:not(:empty)")).to_have_count(2)
    page.wait_for_timeout(2_000)
    # The audience, its two conditions, and everybody.
    assert len(asked) <= 8, len(asked)
    page.unroute("**/v1/count")
    page.reload()
    shown_count(page, server, "did('purchase') AND is_member")


HIDDEN = """() => {
  window.isAway = true;
  Object.defineProperty(document, "hidden", { get: () => window.isAway });
  window.turn = (isAway) => { window.isAway = isAway; document.dispatchEvent(new Event("visibilitychange")); };
}"""


def the_live_page_listens_once(page, server):
    open_streams, begun = set(), []

    def asked(request):
        if request.headers.get("accept") == "text/event-stream":
            begun.append(request)
            open_streams.add(request)

    page.on("request", asked)
    for ended in ["requestfailed", "requestfinished"]:
        page.on(ended, lambda request: open_streams.discard(request))
    page.add_init_script(f"({HIDDEN})()")
    page.goto(f"{server.url}/#/live")
    expect(page.get_by_role("heading", name="Live", exact=True)).to_be_visible()
    page.wait_for_timeout(500)
    assert not begun, "a page in the background listens"
    for _ in range(3):
        page.evaluate("turn(false)")
        page.wait_for_timeout(50)
        page.evaluate("turn(true)")
        page.evaluate("turn(false)")
    expect(page.locator("[data-live=events]")).to_be_visible()
    page.wait_for_timeout(2_500)
    assert len(open_streams) == 1, [len(begun), len(open_streams)]
    page.evaluate("turn(true)")
    page.wait_for_timeout(2_500)
    assert not open_streams, len(open_streams)


def what_is_looked_at_stays(page, server):
    # Live figures change around what has the focus, and below a press.
    page.goto(f"{server.url}/#/live")
    link = page.get_by_role("link", name=re.compile("^active_today"))
    link.focus()
    page.evaluate("() => { window.focused = document.activeElement; }")
    epoch = page.locator("[data-live=freshness] + .big-note")
    with server.streaming():
        before = epoch.inner_text()
        expect(epoch).not_to_have_text(before)
        assert page.evaluate("document.activeElement === window.focused && window.focused.isConnected")
        before = epoch.inner_text()
        link.hover()
        page.mouse.down()
        expect(epoch).not_to_have_text(before)
        page.mouse.up()
    expect(page.get_by_role("heading", name="active_today")).to_be_visible()
    assert page.locator(".freshness[role]").count() == 0, "announced every few seconds"
    # So do lists that are asked for anew.
    names = [f"many_{at:03}" for at in range(110)]
    for name in names:
        server.call("PUT", f"/v1/audiences/{name}", {"where": "is_member"})
    page.clock.install()
    page.goto(f"{server.url}/#/audiences?find=many_")
    page.get_by_role("button", name="Next").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("button", name="many_105", exact=True))
    row.get_by_role("button", name="many_105", exact=True).focus()
    page.evaluate("() => { window.focused = document.activeElement; }")
    server.call("PUT", "/v1/audiences/many_105", {"where": "is_member", "description": "described since"})
    page.clock.fast_forward(16_000)
    expect(row).to_contain_text("described since")
    expect(page.locator(".pager")).to_contain_text("101–110 of 110")
    assert page.evaluate("document.activeElement === window.focused && window.focused.isConnected")
    for name in names:
        server.call("DELETE", f"/v1/audiences/{name}")


def what_others_changed_is_not_lost(page, server):
    page.refused |= {"/v1/audiences/shared"}
    server.call("PUT", "/v1/audiences/shared", {"where": "age > 20", "description": "first"})
    page.goto(f"{server.url}/#/audiences?find=shared")
    expect(page.get_by_role("row")).to_have_count(2)
    server.call("PUT", "/v1/audiences/shared", {"where": "age > 30", "description": "second"})
    page.get_by_role("button", name="Actions for shared").click()
    page.get_by_role("menuitem", name="Keep it live").click()
    expect(page.get_by_text("shared is live")).to_be_visible()
    now = server.call("GET", "/v1/audiences/shared")
    assert (now["where"], now["description"], bool(now["live"])) == ("age > 30", "second", True), now
    # Two edit the same: the second is asked.
    page.goto(f"{server.url}/#/audience?name=shared")
    shown_count(page, server, "age > 30")
    page.get_by_label("age", exact=True).fill("40")
    shown_count(page, server, "age > 40")
    server.call("PUT", "/v1/audiences/shared", {"where": "age > 35", "description": "third"})
    page.get_by_role("button", name="Save").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Somebody else")
    assert server.call("GET", "/v1/audiences/shared")["where"] == "age > 35"
    dialog.get_by_label("Save it over").check()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    assert server.call("GET", "/v1/audiences/shared")["where"] == "age > 40"
    # And again, without a question: nobody else was there meanwhile.
    page.get_by_role("button", name="Save").click()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    server.call("DELETE", "/v1/audiences/shared")


def a_list_is_uploaded_as_its_owner_says(page, server):
    server.call("PUT", "/v1/audiences/taken", {"where": "age > 20"})
    page.add_init_script(HOLD)
    page.goto(f"{server.url}/#/audiences?find=taken")
    page.get_by_role("button", name="Upload a list").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill("taken")
    dialog.get_by_label("File").set_input_files({"name": "ids.txt", "mimeType": "text/plain", "buffer": b"u1\nu2\n"})
    dialog.get_by_role("button", name="Upload").click()
    expect(dialog.get_by_role("alert")).to_contain_text("taken")
    assert server.call("GET", "/v1/audiences/taken")["where"] == "age > 20"
    dialog.get_by_label("Replace the audience").check()
    # Who cancels while it is sent replaces nothing.
    hold(page, "PUT /v1/audiences/taken")
    dialog.get_by_role("button", name="Upload").click()
    until_held(page, 1)
    dialog.get_by_role("button", name="Cancel").click()
    release(page)
    assert server.call("GET", "/v1/audiences/taken")["where"] == "age > 20"
    page.get_by_role("button", name="Upload a list").click()
    dialog.get_by_role("textbox", name="Name").fill("taken")
    dialog.get_by_label("File").set_input_files({"name": "ids.txt", "mimeType": "text/plain", "buffer": b"u1\nu2\n"})
    dialog.get_by_role("button", name="Upload").click()
    dialog.get_by_label("Replace the audience").check()
    dialog.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("2 of 2 ids are known users")).to_be_visible()
    server.call("DELETE", "/v1/audiences/taken")


def pages_are_reached_by_keyboard(page, server):
    page.goto(f"{server.url}/#/catalog")
    expect(page.get_by_role("heading", name="Catalog")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("[location.hash, document.activeElement.id]") == ["#/catalog", "main"]
    expect(page.get_by_role("heading", name="Catalog")).to_be_visible()
    link = page.get_by_role("navigation", name="Pages").get_by_role("link", name="SQL")
    link.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    # A page that does not come says so.
    page.refused |= {"/console/js/pages/jobs.js"}
    page.route("**/pages/jobs.js", lambda route: route.abort())
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("alert")).to_contain_text("The page cannot be shown")
    page.unroute("**/pages/jobs.js")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()


def members_are_listed_once(page, server):
    page.add_init_script(HOLD)
    page.goto(f"{server.url}/#/audience?where=is_member")
    shown_count(page, server, "is_member")
    page.get_by_role("button", name="Members").click()
    expect(page.locator(".member")).to_have_count(48)
    hold(page, "/v1/members")
    page.evaluate("""() => {
      const more = [...document.querySelectorAll("button")].find((one) => one.textContent === "Show more");
      more.click();
      more.click();
    }""")
    until_held(page, 1)
    release(page)
    expect(page.locator(".member")).to_have_count(96)
    names = page.locator(".member").all_inner_texts()
    assert len(set(names)) == 96, names


def suggestions_say_what_went_wrong(page, server):
    page.refused |= {"/v1/profile", "/v1/sql"}
    profile = json.dumps(server.call("POST", "/v1/profile", {"where": "TRUE", "by": ["province"], "values": 500})).replace('"more_values": 0', '"more_values": 900')
    assert "900" in profile, profile
    searched = []

    def search(route):
        searched.append(route.request.post_data_json["sql"])
        route.fulfill(status=403, json={"title": "Forbidden", "detail": "this token has no scope export"})

    page.route("**/v1/profile", lambda route: route.fulfill(status=500, json={"title": "Broken", "detail": "the disk is on fire"}))
    page.goto(server.url)
    page.get_by_role("button", name="Tag", exact=True).click()
    choose(page, "Tag", "province")
    values = page.get_by_role("combobox", name="Values of province")
    values.click()
    note = page.locator(".combobox-note:visible")
    page.wait_for_timeout(400)
    expect(note).to_have_text("the disk is on fire")
    page.keyboard.press("Escape")
    page.unroute("**/v1/profile")
    page.route("**/v1/profile", lambda route: route.fulfill(status=200, content_type="application/json", body=profile))
    page.route("**/v1/sql", search)
    values.click()
    expect(note).to_contain_text("more: write to find them")
    values.press_sequentially("xyzzy", delay=10)
    expect(note).to_contain_text("no scope export")
    assert len(searched) <= 2 and "xyzzy" in searched[-1], searched
    page.unroute_all(behavior="wait")


AXIS = """(root) => [...root.querySelectorAll("text.axis-text")].filter((one) => one.getAttribute("text-anchor") !== null && !one.classList.contains("axis-unit"))
  .map((one) => [one.textContent, one.getBoundingClientRect()]).map(([text, { left, right, top }]) => ({ text, left, right, top }))"""


def labels_of_an_axis_stand_apart(page, server):
    page.goto(f"{server.url}/#/insight?by=registered_at,age,spend")
    charts = page.get_by_role("img", name=re.compile("^Histogram"))
    expect(charts).to_have_count(3)
    for width in [1280, 1100, 900, 700, 390]:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(200)
        for chart in charts.all():
            places = chart.evaluate(AXIS)
            lowest = max(place["top"] for place in places)
            below = sorted((place for place in places if lowest - place["top"] < 3), key=lambda place: place["left"])
            gaps = [after["left"] - before["right"] for before, after in zip(below, below[1:])]
            assert len(below) > 1 and min(gaps) >= 8, (width, gaps)
            # The last one says where the axis ends, and stands there.
            label = chart.get_attribute("aria-label")
            if "registered_at" in label:
                assert label.endswith(f"to {below[-1]['text']}"), (width, label, below)


ALL = [
    opening_an_audience_changes_nothing, the_empty_text_is_a_value, what_is_on_the_screen_is_saved, text_that_is_not_right_stays,
    what_is_superseded_is_not_shown, figures_that_follow_ask_seldom, the_live_page_listens_once, what_is_looked_at_stays,
    what_others_changed_is_not_lost, a_list_is_uploaded_as_its_owner_says, pages_are_reached_by_keyboard, members_are_listed_once,
    suggestions_say_what_went_wrong, labels_of_an_axis_stand_apart,
]
