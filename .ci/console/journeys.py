"""What people do with the console, each from the first page to an answer that REST gives, too."""

import json
import re

from playwright.sync_api import expect

SHOWN = "[data-count]"
# Far longer than anything takes on a machine that is not busy.
expect.set_options(timeout=20_000)


def shown_count(page, server, expression):
    """Waits until the page shows what REST answers. Both may move meanwhile, since more comes in."""
    shown = page.locator(SHOWN)
    for _ in range(200):
        wanted = server.count(expression)
        if shown.count() == 1 and shown.get_attribute("data-count") == str(wanted):
            return wanted
        page.wait_for_timeout(100)
    raise AssertionError(f"{expression}: {wanted} fit, and the page shows {shown.all_inner_texts()}")


def choose(page, label, text, nth=-1):
    """Writes into a field with suggestions and takes the first one."""
    field = page.get_by_role("combobox", name=label, exact=True).nth(nth)
    field.click()
    field.fill(text)
    # Those of a combobox: what a closed select has can be seen by nobody.
    page.locator(".combobox-option").filter(has_text=text).first.click()


def an_audience_is_built_by_clicking(page, server):
    page.goto(server.url)
    shown_count(page, server, "TRUE")
    page.get_by_role("button", name="Tag", exact=True).click()
    choose(page, "Tag", "gender")
    # Values are suggested with how many users have each.
    page.get_by_role("combobox", name="Values of gender").click()
    option = page.get_by_role("option", name=re.compile("^f")).first
    expect(option).to_contain_text(re.compile(r"\d"))
    option.click()
    shown_count(page, server, "gender = 'f'")
    page.get_by_role("button", name="Tag", exact=True).first.click()
    choose(page, "Tag", "age")
    page.get_by_label("age, from").fill("25")
    page.get_by_label("age, to").fill("34")
    shown_count(page, server, "gender = 'f' AND age BETWEEN 25 AND 34")
    # A group of alternatives inside.
    page.get_by_role("button", name="Group", exact=True).click()
    inner = page.locator("section.group section.group")
    choose(page, "Tag", "interest")
    page.get_by_role("combobox", name="Values of interest").click()
    page.get_by_role("option", name=re.compile("^yoga")).click()
    page.keyboard.press("Escape")
    inner.get_by_role("button", name="Tag", exact=True).click()
    choose(page, "Tag", "is_member")
    both = "gender = 'f' AND age BETWEEN 25 AND 34 AND (interest = 'yoga' OR is_member)"
    shown_count(page, server, both)
    # What they did, and how often, and when.
    page.get_by_role("button", name="Behaviour").last.click()
    page.get_by_label("What", exact=True).select_option("purchase")
    page.get_by_role("button", name="Condition on events").click()
    choose(page, "Column", "category")
    page.get_by_role("combobox", name="Values of category").click()
    page.get_by_role("option", name=re.compile("^shoes")).click()
    page.keyboard.press("Escape")
    page.get_by_label("When").select_option("within")
    whole = f"{both} AND did('purchase', category = 'shoes', within => '30 days')"
    count = shown_count(page, server, whole)
    assert 0 < count < server.count(both), count
    # The text says the same, and what is written there comes back as conditions.
    expect(page.locator(".reads")).to_have_text(whole)
    page.get_by_role("radio", name="Text").check()
    area = page.get_by_label("Audience expression")
    assert area.input_value() == whole
    area.fill(whole.replace("25 AND 34", "25 AND 44"))
    shown_count(page, server, whole.replace("25 AND 34", "25 AND 44"))
    page.get_by_role("radio", name="Conditions").check()
    expect(page.get_by_label("age, to")).to_have_value("44")
    page.get_by_label("age, to").fill("34")
    shown_count(page, server, whole)
    epoch = int(page.locator(SHOWN).get_attribute("data-epoch"))
    assert 0 < epoch <= server.call("GET", "/v1/status")["epoch"]
    # It is saved, opened again from its address, and used in another.
    page.get_by_role("button", name="Save").click()
    page.get_by_role("textbox", name="Name").fill("journey")
    page.get_by_label("Description").fill("Built by clicking")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="journey")).to_be_visible()
    assert server.call("GET", "/v1/audiences/journey")["where"] == whole
    page.goto("about:blank")
    page.goto(f"{server.url}/#/audience?name=journey")
    shown_count(page, server, "in_audience('journey')")
    expect(page.locator("section.group section.group")).to_be_visible()
    # Members, and one of them.
    page.get_by_role("button", name="Members").click()
    member = page.locator(".member").first
    name = member.inner_text()
    assert name in server.call("POST", "/v1/members", {"where": whole})["users"]
    member.click()
    expect(page.get_by_role("dialog", name=name)).to_contain_text("journey")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="CSV").click()
    lines = open(download.value.path()).read().split()
    assert lines[0] == "user_id" and len(lines) == count + 1, lines[:3]


EDITS = """async () => {
  const input = document.querySelector("[aria-label='age, to']");
  const waits = [];
  for (const age of ["36", "37", "38", "39", "40", "41", "42", "43", "44", "45"]) {
    const counted = new Promise((done) => {
      const observer = new MutationObserver(() => { observer.disconnect(); done(); });
      observer.observe(document.querySelector(".count"), { childList: true, subtree: true });
    });
    const began = performance.now();
    input.value = age;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    await counted;
    waits.push(performance.now() - began);
  }
  return waits;
}"""


def the_count_follows_each_edit(page, server):
    page.goto(f"{server.url}/#/audience?where=gender%20%3D%20'f'%20AND%20age%20BETWEEN%2025%20AND%2034")
    shown_count(page, server, "gender = 'f' AND age BETWEEN 25 AND 34")
    # The machine may be busy with other things at some of them.
    waits = page.evaluate(EDITS)
    assert min(waits) < 300, waits
    shown_count(page, server, "gender = 'f' AND age BETWEEN 25 AND 45")
    # What is superseded is dropped: the last edit is the one that is counted.
    for age in ["50", "29", "51", "30"]:
        page.get_by_label("age, to").fill(age)
    shown_count(page, server, "gender = 'f' AND age BETWEEN 25 AND 30")


def mistakes_are_told_where_they_are(page, server):
    page.refused |= {"/v1/translate", "/v1/count", "/v1/sql"}
    page.goto(f"{server.url}/#/audience?where=gendr%20%3D%20'f'%20AND%20age%20%3E%2030")
    wrong = page.locator(".row[data-wrong]")
    expect(wrong).to_have_count(1)
    expect(wrong).to_contain_text("gender")
    page.get_by_role("radio", name="Text").check()
    area = page.get_by_label("Audience expression")
    expect(page.locator(".code-wrong").first).to_have_text("gendr")
    area.fill("gender = 'f' AND")
    expect(page.locator(".inline-problem")).to_be_visible()
    area.fill("gender = 'f'")
    shown_count(page, server, "gender = 'f'")
    page.goto(f"{server.url}/#/sql")
    statement = page.get_by_label("SQL statement")
    statement.fill("SELECT gendr FROM users")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".inline-problem")).to_contain_text("gender")
    expect(page.locator(".code-wrong")).to_have_text("gendr")


def an_audience_is_looked_into(page, server):
    page.goto(f"{server.url}/#/audience?name=yogis")
    shown_count(page, server, "interest = 'yoga'")
    page.get_by_role("button", name="Profile").click()
    answer = server.call("POST", "/v1/profile", {"where": "interest = 'yoga'", "by": ["gender", "age"]})
    expect(page.locator(".figure-value").first).to_have_text(f"{answer['count']:,}")
    female = next(value for value in answer["tags"][0]["values"] if value["value"] == "f")
    row = page.get_by_role("region", name="Values of gender", exact=True).get_by_role("row").filter(has=page.get_by_role("rowheader", name="f", exact=True))
    expect(row).to_contain_text(f"{female['index']:.0f}")
    expect(page.get_by_role("img", name=re.compile("^Histogram of age"))).to_be_visible()
    page.get_by_role("link", name="Overlap").click()
    both = server.count("in_audience('yogis') AND in_audience('members')")
    expect(page.get_by_title(f"members and yogis: {both:,} users in both")).to_be_visible()
    page.get_by_title(f"members and yogis: {both:,} users in both").click()
    shown_count(page, server, "in_audience('members') AND in_audience('yogis')")


def a_seed_is_expanded(page, server):
    page.goto(f"{server.url}/#/lookalike?seed=in_audience('yogis')&size=500")
    expect(page.get_by_role("heading", name="Found")).to_be_visible()
    expect(page.locator(".figure-value").first).to_have_text("500")
    expect(page.get_by_role("img", name=re.compile(r"at 1[0-9] sizes"))).to_be_visible(timeout=30_000)
    # The slider asks for more of them.
    slider = page.get_by_role("slider", name="How many users", exact=True)
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".figure-value").first).not_to_have_text("500")
    size = int(page.get_by_label("How many users, exactly").input_value().replace(",", ""))
    expect(page.locator(".figure-value").first).to_have_text(f"{size:,}")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("textbox", name="Name").fill("like_yogis")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Open").click()
    assert shown_count(page, server, "in_audience('like_yogis')") == size


def sql_is_run(page, server):
    page.goto(f"{server.url}/#/sql")
    sql = "SELECT gender, count(*) AS people FROM users GROUP BY gender ORDER BY people DESC"
    page.get_by_label("SQL statement").fill(sql)
    page.get_by_role("button", name="Run").click()
    rows = server.call("POST", "/v1/sql", {"sql": sql})["rows"]
    table = page.get_by_role("region", name="Rows")
    expect(table).to_contain_text(f"{rows[0][1]:,}")
    page.get_by_role("radio", name="Chart").check()
    expect(page.get_by_role("img", name=re.compile("^people by gender"))).to_be_visible()
    page.get_by_role("button", name="Download").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name=re.compile("Parquet")).click()
    assert open(download.value.path(), "rb").read(4) == b"PAR1"
    # One that takes hours is ended, at the server too.
    page.get_by_label("SQL statement").fill("SELECT count(*) FROM users a, users b, users c WHERE a.age + b.age + c.age = -1")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()
    for _ in range(50):
        running = [query for query in server.call("GET", "/v1/queries")["queries"] if query["kind"] == "sql" and query["state"] == "running"]
        if not running:
            return
        page.wait_for_timeout(100)
    raise AssertionError(running)


def what_is_live_moves(page, server):
    page.goto(f"{server.url}/#/live")
    events = page.locator("[data-live=events]")
    live = page.locator("[data-audience=active_today]")
    expect(live).to_be_visible()
    before = int(events.inner_text().replace(",", "")), int(live.inner_text().replace(",", ""))
    with server.streaming():
        expect(page.locator("[data-live=rate]")).not_to_have_text("0")
        page.wait_for_function("([was, size]) => Number(document.querySelector('[data-live=events]').textContent.replaceAll(',', '')) > was + 200 && Number(document.querySelector('[data-audience=active_today]').textContent.replaceAll(',', '')) > size", arg=list(before))
        expect(page.get_by_role("region", name="Sources")).to_contain_text("running")
    # And what is edited elsewhere follows the newest view by itself.
    page.goto(f"{server.url}/#/audience?name=active_today")
    shown_count(page, server, "in_audience('active_today')")


def the_rest_is_managed(page, server):
    page.goto(f"{server.url}/#/jobs")
    row = page.get_by_role("row").filter(has_text="slow purchases")
    expect(row).to_contain_text("running")
    row.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(row).to_contain_text("cancelled")
    page.get_by_role("row").filter(has_text="late purchases").get_by_role("button", name="late purchases").click()
    expect(page.get_by_role("dialog")).to_contain_text("never")
    page.keyboard.press("Escape")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Catalog").click()
    page.get_by_role("button", name="province").click()
    expect(page.get_by_role("dialog")).to_contain_text("zhejiang")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="YAML").click()
    expect(page.locator(".yaml")).to_contain_text("type: enum")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Saved").click()
    server.call("PUT", "/v1/audiences/to_go", {"where": "TRUE"})
    page.reload()
    page.get_by_role("button", name="Actions for to_go").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Deleted to_go")).to_be_visible()
    assert "to_go" not in json.dumps(server.call("GET", "/v1/audiences"))
    # By keyboard alone: the palette, a page, back.
    page.keyboard.press("Control+k")
    page.keyboard.type("Insi")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Insight")).to_be_visible()


def a_token_is_asked_for_once(page, server):
    page.refused |= {"/v1/status", "/v1/catalog", "/v1/count", "/v1/audiences", "/v1/members", "/v1/jobs", "/v1/audiences/active_today/movement", "/v1/funnel"}
    made = server.call("POST", "/v1/tokens", {"name": "all", "scopes": ["query", "export", "ingest", "admin"]})
    server.token = made["token"]
    figures = server.call("POST", "/v1/tokens", {"name": "figures", "scopes": ["query"]})
    # Who says no is not asked each second.
    page.goto(f"{server.url}/#/jobs")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    page.wait_for_timeout(2_500)
    expect(dialog).to_have_count(0)
    page.goto(f"{server.url}/#/audience")
    dialog.get_by_label("Token").fill(figures["token"][:-1] + "x")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert")).to_be_visible()
    # A character that nobody sees, as some programs copy it: what is wrong is told, and nothing is kept of it.
    dialog.get_by_label("Token").fill("\u200b" + figures["token"])
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert")).to_contain_text("U+200B")
    assert page.evaluate("sessionStorage.length") == 0
    dialog.get_by_label("Token").fill(figures["token"])
    dialog.get_by_role("button", name="Sign in").click()
    shown_count(page, server, "TRUE")
    page.reload()
    shown_count(page, server, "TRUE")
    # A token for figures shows nobody.
    page.get_by_role("button", name="Members").click()
    expect(page.get_by_role("alert")).to_contain_text("export")
    page.goto(f"{server.url}/#/insight?view=movement")
    expect(page.get_by_role("alert")).to_contain_text("export")
    # And keeps nobody.
    page.goto(f"{server.url}/#/analysis?step=purchase&step=visit")
    page.get_by_role("button", name=re.compile("who came to step 1")).click()
    dialog.get_by_role("textbox", name="Name").fill("not_kept")
    dialog.get_by_role("button", name="Keep").click()
    expect(dialog.get_by_role("alert")).to_contain_text("ingest")
    dialog.get_by_role("button", name="Cancel").click()
    assert page.context.cookies() == []


ALL = [an_audience_is_built_by_clicking, the_count_follows_each_edit, mistakes_are_told_where_they_are, an_audience_is_looked_into, a_seed_is_expanded, sql_is_run, what_is_live_moves, the_rest_is_managed]
