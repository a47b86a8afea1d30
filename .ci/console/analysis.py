"""Analysis and the views of Insight beside the profile: funnel, sequence, retention, path, attribution, effect, experiment, regions, movement. Each shows the
figures that REST gives."""

import datetime
import decimal
import math
import re
import urllib.parse

from playwright.sync_api import expect

from edges import HOLD, hold, release, until_held
from journeys import choose, shown_count

STEPS = [{"fact": "purchase"}, {"fact": "purchase", "where": "category = 'shoes'"}, {"fact": "purchase", "where": "amount >= 20"}]


def address(page, **parameters):
    return f"{page}?{urllib.parse.urlencode(parameters, doseq=True)}"


def same(page, wanted, shown, again=None):
    """Waits until the page shows what REST answers. Data may move meanwhile: `again` has the page ask anew."""
    for times in range(1, 101):
        expected, found = wanted(), shown()
        if expected == found:
            return expected
        page.wait_for_timeout(200)
        if again and times % 20 == 0:
            again()
    raise AssertionError(f"REST: {expected}\npage: {found}")


def number(text):
    return int(text.replace(",", ""))


def shown_steps(page, region="Steps of the funnel"):
    rows = page.get_by_role("region", name=region).locator("tbody tr")
    texts = rows.evaluate_all("(rows) => rows.map((row) => [...row.querySelectorAll('.kept > span')].map((one) => one.textContent))")
    return [[number(text) for text in row] for row in texts]


def counted(answer, key="steps"):
    """Of each step who came so far, and who stopped; of the last one nobody stops."""
    steps = answer[key]
    return [[step["users"], step["stopped"]] for step in steps[:-1]] + [[steps[-1]["users"]]]


def timed(answer):
    """Who came how far, and how long they took from the step before: the median, and nine of ten."""
    times = [["–" if key not in step else seconds(step[key]) for key in ["median_seconds", "p90_seconds"]] for step in answer["steps"]]
    return [counted(answer), times]


def shown_times(page):
    return [shown_steps(page), [row[3:5] for row in cells(page, "Steps of the funnel")]]


def kept(page, server, name):
    """Names what a dialog asks for, opens it, and tells how many they are."""
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill(name)
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    page.get_by_role("link", name="Open").last.click()
    count = shown_count(page, server, f"in_audience('{name}')")
    server.call("DELETE", f"/v1/audiences/{name}")
    return count


def a_funnel_is_built_by_clicking(page, server):
    answers = Answers(page, "/v1/funnel")
    body = {"steps": STEPS, "window": "7 days"}
    asked = lambda: answers.shown(body, timed, lambda: shown_times(page))
    page.goto(server.url)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Analysis").click()
    expect(page.get_by_text("Choose the first step")).to_be_visible()
    step = lambda at: page.get_by_role("group", name=f"Step {at}", exact=True)
    step(1).get_by_label("Event").select_option("purchase")
    step(2).get_by_label("Event").select_option("purchase")
    step(2).get_by_role("button", name="Condition", exact=True).click()
    choose(page, "Column", "category")
    page.get_by_role("combobox", name="Values of category").click()
    page.get_by_role("option", name=re.compile("^shoes")).click()
    page.keyboard.press("Escape")
    # By keyboard: another step, its event, its condition as text; and to another place and back.
    page.get_by_role("button", name="Step", exact=True).focus()
    page.keyboard.press("Enter")
    expect(step(3).get_by_label("Event")).to_be_focused()
    page.keyboard.press("p")
    expect(step(3).get_by_label("Event")).to_have_value("purchase")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(step(3).get_by_role("button", name="As text")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("amount >= 20")
    asked()
    step(3).get_by_role("button", name="Move up").focus()
    page.keyboard.press("Enter")
    expect(step(2).get_by_role("button", name="Move up")).to_be_focused()
    page.keyboard.press("Enter")
    expect(step(1).get_by_role("button", name="Move down")).to_be_focused()
    body["steps"] = [STEPS[2], STEPS[0], STEPS[1]]
    asked()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(step(3).get_by_role("button", name="Move up")).to_be_focused()
    # The text comes back as conditions.
    step(3).get_by_role("button", name="As text").click()
    expect(step(3).get_by_label("amount")).to_have_value("20")
    # Of whom, in what time, in which order, told apart by what.
    choose(page, "Of whom", "members")
    page.get_by_label("All steps within, how many").fill("14")
    page.get_by_label("Events of", exact=True).last.select_option("within")
    page.get_by_label("Events of, how many").fill("45")
    page.get_by_label("An event is one step").check()
    page.get_by_label("Told apart by").select_option("province")
    body |= {"steps": STEPS, "window": "14 days", "within": "45 days", "where": "in_audience('members')", "mode": ["strict_once"], "by": "province"}
    answer = asked()
    chart = page.get_by_role("img", name=re.compile("^Funnel of 3 steps"))
    expect(chart).to_have_attribute("aria-label", re.compile(f"3, .*: {answer['steps'][2]['users']:,} users, {percent(answer['steps'][2]['of_previous'])} of the step before, half of them within {seconds(answer['steps'][2]['median_seconds'])}"))
    group = answer["groups"][0]
    row = page.get_by_role("region", name="Funnel by province").get_by_role("row").filter(has=page.get_by_role("rowheader", name=group["value"]))
    for users in group["users"]:
        expect(row.get_by_title(f"{users:,}", exact=True).first).to_be_visible()
    told = cells(page, "Funnel by province")[0]
    assert told[4:6] == [seconds(time) for time in group["median_seconds"][1:]], told
    # The address says all of it.
    shared = page.url
    answers.got.clear()
    page.goto("about:blank")
    page.goto(shared)
    answer = asked()
    expect(step(2).get_by_role("combobox", name="Column")).to_have_value("category")
    expect(step(3).get_by_label("amount")).to_have_value("20")
    # Who stopped, and who came so far, as audiences: as many as the answer tells that kept them.
    stopped = answer["steps"][1]["stopped"]
    page.get_by_role("button", name=f"Keep the {stopped:,} users who stopped at step 2").click()
    count = kept(page, server, "stopped_at_2")
    saved = answers.saved({"audience": "stopped_at_2", "step": 2, "stopped": True})
    assert count == saved["saved"]["users"] == saved["steps"][1]["stopped"]
    page.go_back()
    page.get_by_role("button", name=re.compile("who came to step 3")).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill("members")
    dialog.get_by_role("button", name="Keep").click()
    expect(dialog.get_by_role("alert")).to_contain_text("members")
    count = kept(page, server, "came_through")
    saved = answers.saved({"audience": "came_through", "step": 3, "stopped": False})
    assert count == saved["saved"]["users"] == saved["steps"][2]["users"]


def mistakes_in_a_funnel_are_told_where_they_are(page, server):
    page.refused |= {"/v1/funnel", "/v1/translate"}
    page.goto(f"{server.url}/#/{address('analysis', step=['purchase', 'purchase where catgory = 1'])}")
    second = page.get_by_role("group", name="Step 2", exact=True)
    expect(second.get_by_role("alert")).to_contain_text("category")
    expect(page.get_by_text("Nothing to show")).to_be_visible()
    # A text that no condition says stays a text, and what is wrong in it is marked.
    page.goto(f"{server.url}/#/{address('analysis', step=['purchase', 'purchase where amount >= '])}")
    expect(second.get_by_label("Which of its events")).to_have_value("amount >=")
    expect(second.get_by_role("alert")).to_be_visible()
    second.get_by_role("button", name="As text").click()
    expect(page.locator(".toast-bad")).to_contain_text("has to be right first")
    second.get_by_label("Which of its events").fill("amount >= 20")
    expect(page.get_by_role("region", name="Steps of the funnel")).to_be_visible()
    expect(second.get_by_role("alert")).to_have_count(0)
    # Beside the field that it is about.
    page.get_by_label("All steps within, how many").fill("x")
    expect(page.get_by_role("group", name="All steps within").get_by_role("alert")).to_contain_text("7 days")
    page.get_by_label("All steps within, how many").fill("7")
    whom = page.get_by_role("combobox", name="Of whom")
    whom.fill("gendr = 'f'")
    whom.press("Enter")
    expect(page.locator(".field .code-wrong").first).to_have_text("gendr")
    whom.fill("")
    whom.press("Enter")
    expect(page.get_by_role("region", name="Steps of the funnel")).to_be_visible()
    # A condition without a value is no condition yet, and is told.
    second.get_by_role("button", name="As text").click()
    answers = Answers(page, "/v1/funnel")
    second.get_by_label("amount", exact=True).fill("")
    expect(second).to_contain_text("not complete and left out")
    answers.shown({"steps": [{"fact": "purchase"}] * 2, "window": "7 days"}, counted, lambda: shown_steps(page))


def late_answers_of_an_analysis_are_dropped(page, server):
    page.add_init_script(HOLD)
    page.goto(f"{server.url}/#/jobs")
    hold(page, "/v1/funnel")
    page.goto(f"{server.url}/#/{address('analysis', step=['purchase', 'visit'])}")
    until_held(page, 1)
    for at in [1, 2]:
        page.get_by_role("group", name=f"Step {at}", exact=True).get_by_label("Event").select_option("")
    expect(page.get_by_text("Choose the first step")).to_be_visible()
    release(page)
    expect(page.get_by_text("Choose the first step")).to_be_visible()
    hold(page, "/v1/retention")
    page.goto(f"{server.url}/#/{address('analysis', view='retention', first='purchase')}")
    until_held(page, 1)
    page.get_by_role("group", name="Begins with").get_by_label("Event").select_option("")
    expect(page.get_by_text("Choose what users begin with")).to_be_visible()
    release(page)
    expect(page.get_by_text("Choose what users begin with")).to_be_visible()
    others = [
        ("effect", {"impressions": "impression"}, "Impressions", "Choose what is shown"),
        ("sequence", {"step": "purchase"}, "Step 1", "Choose the events"),
        ("path", {"from": "purchase", "step": "visit"}, "Chosen event", "Choose an event, and what else"),
        ("attribution", {"conversion": "purchase", "touch": "visit"}, "Conversion", "Choose a conversion"),
        ("experiment", {"group": ["a=is_member", "b=NOT is_member"], "metric": "purchase"}, "Metric 1", "Choose two groups"),
    ]
    for view, parameters, group, invitation in others:
        hold(page, f"/v1/{view}")
        page.goto(f"{server.url}/#/{address('analysis', view=view, **parameters)}")
        until_held(page, 1)
        expect(page.get_by_text("Loading")).to_be_attached()
        page.get_by_role("group", name=group, exact=True).get_by_label("Event").select_option("")
        expect(page.get_by_text(invitation)).to_be_visible()
        release(page)
        expect(page.get_by_text(invitation)).to_be_visible()


def retention_is_read_and_kept(page, server):
    page.refused |= {"/v1/retention"}
    page.goto(f"{server.url}/#/{address('analysis', view='retention')}")
    page.get_by_role("group", name="Begins with").get_by_label("Event").select_option("purchase")
    page.get_by_label("Periods").fill("6")
    body = {"first": {"fact": "purchase"}, "every": "week", "periods": 6}
    answer = {}

    def asked():
        answer.update(server.call("POST", "/v1/retention", body))
        return [[cohort["users"]] + cohort["back"] for cohort in answer["cohorts"]]

    def shown():
        rows = page.locator(".cohorts tbody tr").evaluate_all("(rows) => rows.map((row) => [row.querySelector('td').textContent, ...[...row.querySelectorAll('button')].map((cell) => cell.ariaLabel)])")
        return [[number(users)] + [number(re.search(r"([\d,]+) of", label)[1]) for label in labels] for users, *labels in rows]

    same(page, asked, shown)
    # What cells say, and that the last week is not over.
    grid = page.locator(".cohorts")
    second = answer["cohorts"][1]
    expect(grid.locator("tbody tr").nth(1).locator("button").nth(1)).to_have_text(f"{round(second['shares'][1] * 100)} %")
    assert grid.locator("button[data-open]").count() == 6
    page.get_by_role("radio", name="Users").check()
    expect(grid.locator("tbody tr").nth(1).locator("button").nth(1)).to_have_text(f"{second['back'][1]:,}")
    page.get_by_role("radio", name="Share").check()
    expect(page.get_by_role("img", name=re.compile("^Share of users who came back. 1 week later"))).to_be_visible()
    # One stop of the Tab key; arrows move, Enter chooses, and what is chosen can be kept.
    stops = grid.locator("button[tabindex='0']")
    expect(stops).to_have_count(1)
    stops.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(grid.locator("tbody tr").nth(1).locator("button").nth(2)).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(grid.locator("tbody tr").nth(1).locator("button").nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    back, users = second["back"][2], second["users"]
    expect(page.get_by_role("status").filter(has_text="came back")).to_contain_text(f"{back:,} of {users:,} users came back")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=f"Keep the {back:,} who came back")).to_be_focused()
    page.keyboard.press("Enter")
    assert kept(page, server, "came_back") == back
    # With another event to come back with, by month, of some.
    both = {"first": {"fact": "purchase", "where": "category = 'shoes'"}, "back": {"fact": "visit"}, "every": "month", "periods": 3, "where": "is_member"}
    body.update(both)
    shoes = "purchase where category = 'shoes'"
    page.goto(f"{server.url}/#/{address('analysis', view='retention', first=shoes, back='visit', every='month', periods=3, where='is_member')}")
    same(page, asked, shown)
    lost = answer["cohorts"][0]["users"] - answer["cohorts"][0]["back"][1]
    grid.locator("tbody tr").first.locator("button").nth(1).click()
    page.get_by_role("button", name=f"Keep the {lost:,} who did not").click()
    assert kept(page, server, "lost_ones") == lost
    page.go_back()
    page.get_by_label("Periods").fill("0")
    expect(page.get_by_role("alert")).to_contain_text("400")
    page.get_by_label("Periods").fill("")
    expect(page.get_by_role("alert")).to_contain_text("how many periods")


def shared_area(r1, r2, d):
    """Of two circles."""
    if d >= r1 + r2:
        return 0.0
    first = 2 * math.acos((d * d + r1 * r1 - r2 * r2) / (2 * d * r1))
    second = 2 * math.acos((d * d + r2 * r2 - r1 * r1) / (2 * d * r2))
    return (r1 * r1 * (first - math.sin(first)) + r2 * r2 * (second - math.sin(second))) / 2


class Answers:
    """What the page asks at a call, and what REST answers: more comes in all the while, so the very answer is looked at that the page got."""

    def __init__(self, page, path):
        self.page, self.got = page, []
        page.on("response", lambda response: response.url.endswith(path) and response.request.method == "POST" and self.got.append(response))

    def shown(self, body, wanted, shown):
        """Waits until the page has asked this, and shows `wanted(answer)`. Gives the answer."""
        expected = None
        for _ in range(300):
            self.page.wait_for_timeout(100)
            last = self.got[-1] if self.got else None
            if not last or last.request.post_data_json != body or not last.ok:
                continue
            answer = last.json()
            expected, found = wanted(answer), shown()
            if expected == found:
                return answer
        question = last and last.request.post_data_json
        raise AssertionError(f"asked: {question}\nand not: {body}" if question != body else f"REST: {expected}\npage: {found}")


    def saved(self, save_as):
        """The answer of the call that kept an audience."""
        told = [response.json() for response in self.got if response.ok and response.request.post_data_json.get("save_as") == save_as]
        assert len(told) == 1, told
        return told[0]


def seconds(value):
    """As the page says it."""
    if value == 0:
        return "0 s"
    if value < 0.001:
        return "< 1 ms"
    if value < 1:
        return f"{rounded(value * 1_000, 0)} ms"
    if value < 90:
        return f"{rounded(value, 1 if value < 10 else 0)} s"
    for most, unit, name in [(5_400, 60, "min"), (129_600, 3_600, "h")]:
        if value < most:
            return f"{rounded(value / unit, 0)} {name}"
    return f"{rounded(value / 86_400, 0)} days"


def percent(share):
    """As the page says it."""
    value = share * 100
    if value == 0:
        return "0 %"
    if value < 0.1:
        return "< 0.1 %"
    return f"{rounded(value, 2 if value < 10 else 1 if value < 99.95 else 0)} %"


def rounded(value, places):
    """Halves go up, as browsers round them."""
    return decimal.Decimal(value).quantize(decimal.Decimal(1).scaleb(-places), decimal.ROUND_HALF_UP)


def two_places(value):
    """Up to two places behind the point, of the digits that a number is written with."""
    text = f"{rounded(str(value), 2):,}"
    return text.rstrip("0").rstrip(".")


def three_digits(value):
    size = abs(value)
    if size >= 1_000:
        return f"{rounded(value, 0):,}"
    if size == 0 or size >= 0.001:
        return f"{float(f'{value:.3g}'):g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent):+d}"


def signed(value, told):
    return told(0) if value == 0 else f"{'+' if value > 0 else '−'}{told(abs(value))}"


def cells(page, region):
    """The texts of a table's rows, without what stands there for narrow screens only."""
    rows = page.get_by_role("region", name=region, exact=True).locator("tbody tr")
    return rows.evaluate_all("""(rows) => rows.map((row) => [...row.children].map((cell) => {
      const shown = cell.cloneNode(true);
      shown.querySelectorAll(".narrow").forEach((one) => one.remove());
      return shown.textContent;
    }))""")


def figures(page):
    read = "(all) => all.map((one) => [...one.children].map((part) => part.textContent))"
    return {label: rest for label, *rest in page.locator(".figure-box").evaluate_all(read)}


def condition(page, step, column, value):
    """Adds a condition to a step by clicking."""
    step.get_by_role("button", name="Condition", exact=True).click()
    choose(page, "Column", column)
    page.get_by_role("combobox", name=f"Values of {column}").last.click()
    page.locator(".combobox-option").filter(has_text=re.compile(f"^{value}")).click()
    page.keyboard.press("Escape")


PLACES_SHOWN = 15


class Paths:
    """What REST says of paths, as the page says it: `by` is the column of the only step that is told apart."""

    def __init__(self, answer, by, body):
        self.answer = answer
        self.backwards = "to" in body
        self.depth = body["depth"]
        valued = next(step["fact"] for step in body["steps"] if "by" in step)
        self.names = []
        for place in self.answer["places"]:
            told = place["value"] or (f"{place['others']} other{'s' if place['others'] != 1 else ''}" if "others" in place else f"no {by}")
            self.names.append(told if place["step"] == valued else place["step"])

    def when(self, depth):
        steps = f"{depth} step{'' if depth == 1 else 's'}"
        return "Chosen" if depth == 0 else f"{steps} {'before' if self.backwards else 'later'}"

    def link(self, link):
        places = self.answer["places"]
        depth = max(places[link[end]]["depth"] for end in ["from", "to"])
        return f"{self.names[link['from']]} → {self.names[link['to']]}", self.when(depth)

    def links(self):
        return [[*self.link(link), f"{link['users']:,}", percent(link["share"])] for link in self.answer["links"][:PLACES_SHOWN]]

    def places(self):
        rows = zip(self.names, self.answer["places"])
        stopped = lambda place: "–" if place["depth"] == self.depth else f"{place['stopped']:,}"
        return [[name, self.when(place["depth"]), f"{place['users']:,}", percent(place["users"] / self.answer["users"]), stopped(place)] for name, place in rows][:PLACES_SHOWN]

    def told(self):
        return [self.links(), self.places(), f"{self.answer['users']:,}"]


def shown_paths(page):
    links = [row[:3] + row[4:5] for row in cells(page, "Links of the paths")]
    return [links, cells(page, "Places of the paths"), figures(page).get("Users", [""])[0]]


def a_path_is_followed_by_clicking(page, server):
    answers = Answers(page, "/v1/path")
    page.goto(server.url)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Analysis").click()
    page.get_by_role("link", name="Path").click()
    expect(page.get_by_text("Choose an event, and what else is looked at")).to_be_visible()
    event = page.get_by_role("group", name="Chosen event", exact=True)
    step = lambda at: page.get_by_role("group", name=f"Step {at}", exact=True)
    event.get_by_label("Event").select_option("purchase")
    condition(page, event, "campaign", "spring")
    step(1).get_by_label("Event").select_option("purchase")
    # Only columns whose values tell events apart are offered.
    expect(step(1).get_by_label("Told apart").locator("option")).to_have_text(["as one step", "by category", "by campaign"])
    step(1).get_by_label("Told apart").select_option("category")
    page.get_by_role("button", name="Step", exact=True).focus()
    page.keyboard.press("Enter")
    expect(step(2).get_by_label("Event")).to_be_focused()
    page.keyboard.press("v")
    page.get_by_label("Not farther than, how many").fill("30")
    chosen = "purchase where campaign = 'spring'"
    body = {"from": {"fact": "purchase", "where": "campaign = 'spring'"}, "steps": [{"fact": "purchase", "by": "category"}, {"fact": "visit"}], "window": "30 days", "depth": 5, "values": 10}
    asked = lambda: Paths(answers.shown(body, lambda answer: Paths(answer, "category", body).told(), lambda: shown_paths(page)), "category", body)
    paths = asked()
    # The diagram has all places and links, with the same figures, as high as their users.
    answer = paths.answer
    nodes = page.locator(".flow-place").evaluate_all("(all) => all.map((one) => [one.getAttribute('aria-label'), Number(one.querySelector('.flow-node').getAttribute('height'))])")
    heights = {label: height for label, height in nodes}
    assert len(nodes) == len(answer["places"])
    for name, place in zip(paths.names, answer["places"]):
        words = name if place["depth"] == 0 else f"{name}, {paths.when(place['depth'])}"
        stopped = f", {place['stopped']:,} stopped there" if place["stopped"] else ""
        height = heights[f"{words}: {place['users']:,} user{'' if place['users'] == 1 else 's'}{stopped}"]
        assert height == 1.5 or abs(height / heights[nodes_label(paths, 0)] - place["users"] / answer["users"]) < 0.001
    bands = page.locator(".flow").evaluate_all("(all) => all.map((one) => one.getAttribute('aria-label'))")
    assert len(bands) == len(answer["links"])
    for label, link in zip(bands, answer["links"]):
        assert label.startswith(f"{paths.link(link)[0]}: {link['users']:,} user"), label
    # A place by a click, and by keyboard: arrows move, Enter chooses.
    told = page.locator(".cell-told")
    page.locator(".flow-place").first.locator(".flow-node").click()
    went = answer["users"] - answer["places"][0]["stopped"]
    expect(told).to_contain_text(f"{chosen}: {answer['users']:,} users, 100 % of all. {answer['places'][0]['stopped']:,} stopped there")
    expect(told).to_contain_text(f"{went:,} went on")
    expect(page.locator(".flow-place[tabindex='0']")).to_have_count(1)
    page.locator(".flow-place[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    expect(page.locator(".flow-place[aria-pressed='true']")).to_have_attribute("aria-label", focused)
    expect(told).to_contain_text(focused.split(":")[0])
    # A link by a click on its middle, and its users as an audience.
    link = answer["links"][0]
    x, y = page.locator(".flow").first.evaluate("""(flow) => {
      const at = flow.getPointAtLength(flow.getTotalLength() / 2).matrixTransform(flow.getScreenCTM());
      return [at.x, at.y];
    }""")
    page.mouse.click(x, y)
    expect(told).to_contain_text(f"{paths.link(link)[0]}, 1 step later: {link['users']:,} users, {percent(link['share'])} of the {answer['users']:,}")
    page.get_by_role("button", name=f"Keep the {link['users']:,} who went so").click()
    # They are kept a moment later than they were counted.
    assert abs(kept(page, server, "went_so") - link["users"]) < 20
    page.go_back()
    # By its row, too; and who stopped.
    place = asked().answer["places"][1]
    page.get_by_role("region", name="Places of the paths").get_by_role("row").nth(2).get_by_role("button").click()
    expect(page.get_by_role("button", name=f"Keep the {place['users']:,} who came here")).to_be_visible()
    page.get_by_role("button", name=f"Keep the {place['stopped']:,} who stopped").click()
    assert abs(kept(page, server, "stopped_there") - place["stopped"]) < 20
    page.go_back()
    paths = asked()
    # What led to it: the last one of each user, less deep, repeats folded, of some, values put together.
    page.get_by_role("radio", name="Lead to").check()
    page.get_by_role("radio", name="Last").check()
    page.get_by_label("Steps deep").fill("2")
    page.get_by_label("Values told apart").fill("2")
    page.get_by_label("Repeats are one step").check()
    page.get_by_label("Events of", exact=True).last.select_option("within")
    page.get_by_label("Events of, how many").fill("45")
    choose(page, "Of whom", "members")
    body = {**body, "to": body["from"], "depth": 2, "values": 2, "occurrence": "last", "fold": True, "within": "45 days", "where": "in_audience('members')"}
    del body["from"]
    assert any("others" in place for place in asked().answer["places"])
    # The address says all of it.
    shared = page.url
    answers.got.clear()
    page.goto("about:blank")
    page.goto(shared)
    asked()
    expect(step(1).get_by_label("Told apart")).to_have_value("category")
    # Mistakes stand where they are.
    page.refused |= {"/v1/path", "/v1/translate"}
    page.get_by_label("Steps deep").fill("99")
    expect(page.locator(".field", has=page.get_by_label("Steps deep")).get_by_role("alert").last).to_contain_text("20")
    page.goto(f"{server.url}/#/{address('analysis', view='path', **{'from': 'purchase where catgory = 1'}, step='visit')}")
    expect(event.get_by_role("alert")).to_contain_text("category")
    page.goto(f"{server.url}/#/{address('analysis', view='path', **{'from': 'purchase'}, step=['visit', 'visit by pgae'])}")
    expect(step(2).get_by_role("alert")).to_be_visible()
    page.goto(f"{server.url}/#/{address('analysis', view='path', **{'from': 'visit where page = 1'}, step='purchase')}")
    expect(event.get_by_role("alert")).to_be_visible()
    nobody = "purchase where amount > 1000000000"
    page.goto(f"{server.url}/#/{address('analysis', view='path', **{'from': nobody}, step='visit')}")
    expect(page.get_by_text("Nobody has the chosen event")).to_be_visible()


def nodes_label(paths, at):
    place = paths.answer["places"][at]
    stopped = f", {place['stopped']:,} stopped there" if place["stopped"] else ""
    return f"{paths.names[at]}: {place['users']:,} user{'' if place['users'] == 1 else 's'}{stopped}"


MODELS = ["first", "last", "linear", "decay", "position"]


def campaigns_are_credited(page, server):
    answers = Answers(page, "/v1/attribution")
    page.goto(f"{server.url}/#/{address('analysis', view='attribution')}")
    expect(page.get_by_text("Choose a conversion, and what it can be credited to")).to_be_visible()
    conversion = page.get_by_role("group", name="Conversion", exact=True)
    touch = lambda at: page.get_by_role("group", name=f"Touch {at}", exact=True)
    conversion.get_by_label("Event").select_option("purchase")
    condition(page, conversion, "category", "shoes")
    touch(1).get_by_label("Event").select_option("purchase")
    touch(1).get_by_role("button", name="As text").click()
    page.keyboard.press("Tab")
    page.keyboard.type("category <> 'shoes'")
    body = {"conversion": {"fact": "purchase", "where": "category = 'shoes'"}, "touches": [{"fact": "purchase", "where": "category <> 'shoes'"}], "lookback": "30 days", "half_life": "7 days", "position": [40, 20, 40], "order": "linear"}
    which = "credited"

    def wanted(answer):
        rows = [[one["campaign"] or f"no {body.get('by')}", f"{one['conversions']:,}", f"{one['users']:,}", *(two_places(one[which][model]) for model in MODELS)] for one in answer["campaigns"]]
        everything, untouched = answer["all"]["conversions"], answer["untouched"]["conversions"]
        return [rows, f"{everything:,}", f"{untouched:,}", percent(untouched / everything)]

    def shown():
        unit = "amount credited" if which == "value" else "conversions credited"
        told = figures(page)
        untouched = told.get("Untouched", ["", ""])
        return [cells(page, f"Campaigns by {unit}"), told.get("Conversions", [""])[0], untouched[0], untouched[1].split(" of ")[0]]

    asked = lambda: answers.shown(body, wanted, shown)
    assert [one["campaign"] for one in asked()["campaigns"]] == ["purchase where category <> 'shoes'"]
    # By the values of a column, in order by a model.
    page.get_by_label("Campaigns are", exact=True).select_option("campaign")
    page.get_by_label("Ordered by").select_option("first")
    page.get_by_label("Touches up to so long before, how many").fill("21")
    page.get_by_label("Decay: half-life, how many").fill("36")
    page.get_by_label("Decay: half-life, unit").select_option("hours")
    page.get_by_label("Position: first, between, last").fill("50,10,40")
    page.get_by_label("Conversions of", exact=True).last.select_option("within")
    page.get_by_label("Conversions of, how many").fill("28")
    choose(page, "Of whom", "members")
    body |= {"by": "campaign", "order": "first", "lookback": "21 days", "half_life": "36 hours", "position": [50, 10, 40], "within": "28 days", "where": "in_audience('members')"}
    answer = asked()
    rows = wanted(answer)[0]
    assert len(rows) == 4 and "no campaign" in [row[0] for row in rows]
    # Each model has a bar for each campaign, as long as it is credited.
    chart = page.get_by_role("img", name=re.compile("^What campaigns are credited with by five models"))
    label = chart.get_attribute("aria-label")
    for row in rows:
        assert ", ".join(f"{model.capitalize()} {value}" for model, value in zip(MODELS, row[3:])) in label, label
    longest = max(one["credited"][model] for one in answer["campaigns"] for model in MODELS)
    widths = {at: chart.locator(f".model-{at}").evaluate_all("(all) => all.map((one) => Number(one.getAttribute('width')))") for at in range(len(MODELS))}
    widest = max(width for model in widths.values() for width in model)
    for at, model in enumerate(MODELS):
        for width, one in zip(widths[at], answer["campaigns"], strict=True):
            assert abs(width / widest - one["credited"][model] / longest) < 0.01
    # What they are worth.
    conversion.get_by_label("What one is worth").select_option("amount")
    body["value"] = "amount"
    answer = asked()
    expect(page.locator(".figure-box", has_text="Sum of amount")).to_contain_text(two_places(answer["all"]["value"]))
    page.get_by_role("radio", name="Value").check()
    which = "value"
    asked()
    answers.got.clear()
    shared = page.url
    page.goto("about:blank")
    page.goto(shared)
    asked()
    # Touches of other facts have no column in common: each is a campaign.
    page.get_by_role("button", name="Touch", exact=True).click()
    touch(2).get_by_label("Event").select_option("visit")
    expect(page.get_by_label("Campaigns are", exact=True).locator("option")).to_have_text(["each touch"])
    body["touches"].append({"fact": "visit"})
    del body["by"]
    asked()
    # Mistakes stand where they are.
    page.refused |= {"/v1/attribution", "/v1/translate"}
    position = page.locator(".field", has=page.get_by_label("Position: first, between, last")).last
    page.get_by_label("Position: first, between, last").fill("50,10")
    expect(position.get_by_role("alert")).to_contain_text("40,20,40")
    page.get_by_label("Position: first, between, last").fill("50,10,10")
    expect(position.get_by_role("alert")).to_contain_text("adds up to 100")
    page.goto(f"{server.url}/#/{address('analysis', view='attribution', conversion='purchase', touch=['visit', 'visit where pgae = 1'])}")
    expect(touch(2).get_by_role("alert")).to_contain_text("page")
    page.goto(f"{server.url}/#/{address('analysis', view='attribution', conversion='purchase', touch='visit', value='category')}")
    expect(conversion.get_by_role("alert")).to_contain_text("added up")


def a_sequence_is_followed(page, server):
    page.refused |= {"/v1/sequence", "/v1/translate"}
    answers = Answers(page, "/v1/sequence")
    page.goto(server.url)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Analysis").click()
    page.get_by_role("link", name="Sequence").click()
    expect(page.get_by_text("Choose the events")).to_be_visible()
    step = lambda at: page.get_by_role("group", name=f"Step {at}", exact=True)
    pattern = page.get_by_label("Pattern", exact=True)
    body = {"steps": [{"fact": "purchase", "where": "category = 'shoes'"}], "pattern": "(?1)"}

    def wanted(answer):
        taken = answer["taken"]
        shares = [[one["name"], "–" if one["of_first"] is None else percent(one["of_first"])] for one in taken]
        return [f"{answer['users']:,}", f"{answer['times']:,}", counted(answer, "taken"), shares]

    def shown():
        told = figures(page)
        names = [[re.sub(r"^\d+", "", row[0]), row[1]] for row in cells(page, "Events of the pattern")]
        return [told.get("Followed it", [""])[0], told.get("Times", [""])[0], shown_steps(page, "Events of the pattern"), names]

    asked = lambda: answers.shown(body, wanted, shown)
    # Unless a pattern is written, the steps in order: here one.
    step(1).get_by_label("Event").select_option("purchase")
    condition(page, step(1), "category", "shoes")
    asked()
    step(2).get_by_label("Event").select_option("purchase")
    body |= {"steps": [*body["steps"], {"fact": "purchase"}], "pattern": "(?1).*(?2)"}
    asked()
    expect(pattern).to_have_attribute("placeholder", "(?1).*(?2)")
    # Written, and put together of its parts, with what it means.
    pattern.fill("(?1)(?t<=604800)")
    expect(page.get_by_role("alert").filter(has_text="no event stands behind this time")).to_be_visible()
    page.get_by_role("button", name="(?1)", exact=True).click()
    body["pattern"] = "(?1)(?t<=604800)(?1)"
    answer = asked()
    assert 0 < answer["users"] < answer["taken"][0]["users"] and answer["times"] >= answer["users"]
    expect(page.locator(".pattern-words")).to_have_text("“purchase where category = 'shoes'”, at most 7 days later “purchase where category = 'shoes'”")
    chart = page.get_by_role("img", name=re.compile("^Pattern of 2 events"))
    heights = chart.locator(".histogram-bar").evaluate_all("(all) => all.map((one) => Number(one.getAttribute('height')))")
    assert abs(heights[1] / heights[0] - answer["taken"][1]["users"] / answer["taken"][0]["users"]) < 0.01
    # A step without an event is not asked about, and numbers stay those on the screen.
    step(1).get_by_label("Event").select_option("")
    expect(page.get_by_role("alert").filter(has_text="The pattern names step 1, which has no event")).to_be_visible()
    pattern.fill("(?2)(?2)")
    body |= {"steps": [{"fact": "purchase"}], "pattern": "(?1)(?1)", "within": "20 days", "where": "in_audience('members')"}
    page.get_by_label("Events of", exact=True).last.select_option("within")
    page.get_by_label("Events of, how many").fill("20")
    choose(page, "Of whom", "members")
    asked()
    answers.got.clear()
    shared = page.url
    page.goto("about:blank")
    page.goto(shared)
    stopped = asked()["taken"][0]["stopped"]
    expect(pattern).to_have_value("(?1)(?1)")
    page.get_by_role("button", name=f"Keep the {stopped:,} users who stopped at event 1").click()
    count = kept(page, server, "once_only")
    saved = answers.saved({"audience": "once_only", "step": 1, "stopped": True})
    assert count == saved["saved"]["users"] == saved["taken"][0]["stopped"]
    page.go_back()
    # Mistakes stand where they are.
    pattern.fill("(?1) (?1)")
    expect(page.locator(".field", has=pattern).get_by_role("alert").last).to_contain_text("a pattern is made of")
    page.goto(f"{server.url}/#/{address('analysis', view='sequence', step=['purchase', 'visit where pgae = 1'])}")
    expect(step(2).get_by_role("alert")).to_contain_text("page")
    page.goto(f"{server.url}/#/{address('analysis', view='sequence', step='purchase where amount > 1000000000')}")
    expect(page.get_by_text("Nobody has the first event")).to_be_visible()


FIGURES = {
    "impressions": "count", "reach": "count", "frequency": "amount", "clicks": "count", "clickers": "count", "click_rate": "share", "conversions": "count",
    "converters": "count", "conversion_rate": "share", "cost": "amount", "cost_per_thousand": "amount", "cost_per_user": "amount", "cost_per_click": "amount",
    "cost_per_conversion": "amount", "value": "amount", "return_on_cost": "amount",
}


def effect_told(figures, names):
    """Figures as a row has them."""
    write = {"count": lambda value: f"{value:,}", "amount": two_places, "share": percent}
    return ["–" if figures.get(name) is None else write[FIGURES[name]](figures[name]) for name in names]


def the_effect_of_a_campaign_is_told(page, server):
    answers = Answers(page, "/v1/effect")
    page.goto(server.url)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Analysis").click()
    page.get_by_role("link", name="Effect").click()
    expect(page.get_by_text("Choose what is shown")).to_be_visible()
    editor = lambda name: page.get_by_role("group", name=name, exact=True)
    body = {"impressions": {"fact": "impression"}, "cap": 10}
    names = ["impressions", "reach", "frequency"]
    # Purchases have no channel: groups have none of them.
    of_groups = [name for name in FIGURES if "conver" not in name and name not in ("value", "return_on_cost")]

    def wanted(answer):
        told = answer["all"]["figures"]
        tiles = [f"{told[name]:,}" for name in ["impressions", "reach", "clicks", "conversions"] if name in told]
        tiles += [two_places(told[name]) for name in ["cost", "value"] if name in told]
        named = lambda value: f"no {body['by']}" if value is None else value
        groups = [[named(one["group"]), *effect_told(one["figures"], of_groups)] for one in answer["groups"]]
        if groups:
            groups.append(["All together", *effect_told(told, of_groups)])
        channels = answer.get("incremental", {}).get("channels", [])
        reach = [[named(one["channel"]), *(f"{one[key]:,}" for key in ["reach", "exclusive", "adds", "cumulative"]), percent(one["share"])] for one in channels]
        periods = [effect_told(one["figures"], names) for one in answer["all"].get("periods", [])]
        return [tiles, groups, reach, periods]

    def shown():
        told = figures(page)
        tiles = [told[name][0] for name in ["Impressions", "Reach", "Clicks", "Conversions", "Cost", "Value"] if name in told]
        groups = cells(page, f"Effect by {body.get('by')}")
        return [tiles, groups, cells(page, "Incremental reach"), [row[1:] for row in cells(page, "Effect by period")]]

    asked = lambda: answers.shown(body, wanted, shown)
    editor("Impressions").get_by_label("Event").select_option("impression")
    answer = asked()
    assert answer["all"]["figures"]["impressions"] == 12_000
    # How often users were reached: a column for each number, as high as there are users.
    columns(page, answer["all"]["frequency"], 10)
    # What it costs, what users did, told apart by channel.
    editor("Impressions").get_by_label("What one costs").select_option("price")
    editor("Clicks").get_by_label("Event").select_option("click")
    editor("Conversions").get_by_label("Event").select_option("purchase")
    editor("Conversions").get_by_role("button", name="As text").click()
    editor("Conversions").get_by_label("Which of its events").fill("category = 'shoes'")
    editor("Conversions").get_by_label("What one is worth").select_option("amount")
    expect(page.get_by_label("Told apart by").locator("option")).to_have_text(["nothing", "channel"])
    page.get_by_label("Told apart by").select_option("channel")
    body |= {"clicks": {"fact": "click"}, "conversions": {"fact": "purchase", "where": "category = 'shoes'"}, "cost": "price", "value": "amount", "by": "channel"}
    names[:] = list(FIGURES)
    answer = asked()
    assert len(answer["groups"]) == 7 and len(answer["incremental"]["channels"]) == 7
    expect(page.get_by_text("is told of all together only")).to_be_visible()
    # Each bar begins where those before it end.
    bars = page.get_by_role("img", name=re.compile("^Users whom each channel adds")).locator(".histogram-bar")
    places = bars.evaluate_all("(all) => all.map((one) => ['x', 'width'].map((name) => Number(one.getAttribute(name))))")
    unit = places[0][1] / answer["incremental"]["channels"][0]["adds"]
    for (x, width), one in zip(places, answer["incremental"]["channels"], strict=True):
        assert abs(width - one["adds"] * unit) < 1.1 and abs(x + width - places[0][0] - one["cumulative"] * unit) < 1.1
    # Of one group, how often; and over time, of the first groups.
    page.get_by_label("Of", exact=True).select_option("search")
    search = next(one for one in answer["groups"] if one["group"] == "search")
    columns(page, search["frequency"], 10)
    page.get_by_label("Periods").select_option("week")
    body["grain"] = "week"
    page.get_by_text("As a table").wait_for()
    page.get_by_label("Figure").select_option("click_rate")
    page.get_by_text("As a table").click()
    answer = asked()
    lines = page.get_by_role("img", name=re.compile("^Click rate by week"))
    expect(lines.locator(".series-line")).to_have_count(6)
    last = answer["all"]["periods"][-1]
    expect(lines.locator(".series-0 .series-point").last.locator("title")).to_contain_text(percent(last["figures"]["click_rate"]))
    # A plan: channels that come first. Of some, of a time, by other clocks, paid for by the click.
    channel = page.get_by_role("combobox", name="Channels that come first")
    for name in ["email", "radio"]:
        channel.fill(name)
        channel.press("Enter")
    channel.press("Escape")
    page.get_by_label("By the clocks of").fill("Asia/Shanghai")
    page.get_by_label("Frequency up to").fill("4")
    page.get_by_label("Ordered by").select_option("reach")
    page.get_by_label("Events of", exact=True).last.select_option("within")
    page.get_by_label("Events of, how many").fill("21")
    choose(page, "Of whom", "members")
    body |= {"channels": ["email", "radio"], "time_zone": "Asia/Shanghai", "cap": 4, "order": "reach", "within": "21 days", "where": "in_audience('members')"}
    answer = asked()
    assert [one["channel"] for one in answer["incremental"]["channels"][:2]] == ["email", "radio"]
    today = datetime.datetime.now(datetime.timezone.utc).date()
    days = [str(today - datetime.timedelta(days=before)) for before in [15, 2]]
    page.get_by_label("From one day to another, first").fill(days[0])
    between = page.get_by_role("group", name="From one day to another")
    expect(between.get_by_role("alert")).to_contain_text("Choose both")
    page.get_by_label("From one day to another, last").fill(days[1])
    body["between"] = days
    answer = asked()
    columns(page, next(one for one in answer["groups"] if one["group"] == "search")["frequency"], 4)
    answers.got.clear()
    shared = page.url
    page.goto("about:blank")
    page.goto(shared)
    page.get_by_text("As a table").click()
    asked()
    expect(page.get_by_label("Figure")).to_have_value("click_rate")
    expect(page.get_by_label("Of", exact=True).locator("option:checked")).to_have_text("search")
    # Mistakes stand where they are.
    page.refused |= {"/v1/effect", "/v1/translate"}
    page.get_by_label("Frequency up to").fill("0")
    expect(page.locator(".field", has=page.get_by_label("Frequency up to")).get_by_role("alert").last).to_contain_text("from 1 to 1000")
    page.get_by_label("Frequency up to").fill("4")
    page.get_by_label("By the clocks of").fill("Asia/Shangai")
    expect(page.locator(".field", has=page.get_by_label("By the clocks of")).get_by_role("alert").last).to_contain_text("Asia/Shanghai")
    page.get_by_label("By the clocks of").fill("")
    page.get_by_label("Ordered by").select_option("conversions")
    expect(page.locator(".field", has=page.get_by_label("Ordered by")).get_by_role("alert").last).to_be_visible()
    page.goto(f"{server.url}/#/{address('analysis', view='effect', impressions='impression', clicks='click where chanel = 1')}")
    expect(editor("Clicks").get_by_role("alert")).to_contain_text("channel")
    page.goto(f"{server.url}/#/{address('analysis', view='effect', impressions='impression', cost='channel')}")
    expect(editor("Impressions").get_by_role("alert")).to_contain_text("added up")
    page.goto(f"{server.url}/#/{address('analysis', view='effect', impressions='impression', by='price')}")
    expect(page.locator(".field", has=page.get_by_label("Told apart by")).get_by_role("alert").last).to_be_visible()
    page.goto(f"{server.url}/#/{address('analysis', view='effect', impressions='impression where price > 5')}")
    expect(page.get_by_text("Nothing was shown")).to_be_visible()


def columns(page, frequency, cap):
    """The columns are as high as there are users, and say who had so many impressions."""
    chart = page.get_by_role("img", name=re.compile("^How many users had so many impressions"))
    while frequency and frequency[-1] == 0:
        frequency = frequency[:-1]
    bars = chart.locator(".histogram-bar")
    expect(bars).to_have_count(len(frequency))
    heights = bars.evaluate_all("(all) => all.map((one) => Number(one.getAttribute('height')))")
    for at, (height, users) in enumerate(zip(heights, frequency, strict=True)):
        assert abs(height / max(heights) - users / max(frequency)) < 0.02
        number = f"{at + 1}+" if at + 1 == cap else f"{at + 1}"
        expect(chart).to_have_attribute("aria-label", re.compile(rf"{re.escape(number)} impressions?: {users:,} user"))


def told_of(metric, control):
    """The rows of a metric's table."""
    rows = []
    for read in metric["groups"]:
        of_users = metric["measure"] == "users"
        mean = percent if of_users else three_digits
        difference = (lambda value: signed(value, lambda size: f"{two_places(size * 100)} pp")) if of_users else (lambda value: signed(value, three_digits))
        relative = lambda value: signed(value, lambda size: f"{two_places(size * 100)} %")
        interval = lambda one, told: f"{told(one['estimate'])}{told(one['low'])} to {told(one['high'])}" if one else "–"
        chance = lambda p: "–" if p is None else "< 0.0001" if p < 0.0001 else str(rounded(p, 4 if p < 0.001 else 3))
        is_control = read["group"] == control
        sure = read.get("q_value") is not None and read["q_value"] <= 0.05
        reads = "" if "difference" not in read else "may be chance" if not sure else "more" if read["difference"]["estimate"] > 0 else "less"
        total = [] if of_users else [two_places(read["total"])]
        rows.append([
            read["group"], f"{read['users']:,}", *total, mean(read["mean"]),
            "control" if is_control else interval(read.get("difference"), difference), interval(read.get("relative"), relative),
            chance(read.get("p_value")), chance(read.get("q_value")), reads,
        ])
    return rows


def groups_are_compared(page, server):
    answers = Answers(page, "/v1/experiment")
    page.goto(f"{server.url}/#/{address('analysis', view='experiment')}")
    expect(page.get_by_text("Choose two groups, and what they are compared by")).to_be_visible()
    group = lambda at: page.get_by_role("group", name=f"Group {at}", exact=True)
    metric = lambda at: page.get_by_role("group", name=f"Metric {at}", exact=True)
    # A saved audience, which names the group; and an expression.
    choose(page, "Who was put into it", "members", nth=0)
    whom = group(2).get_by_role("combobox", name="Who was put into it")
    whom.fill("NOT is_member")
    whom.press("Enter")
    group(2).get_by_label("Name").fill("others")
    metric(1).get_by_label("Event").select_option("purchase")
    for at, measure in enumerate(["events", "sum(amount)"], start=2):
        page.get_by_role("button", name="Metric", exact=True).click()
        metric(at).get_by_label("Event").select_option("purchase")
        metric(at).get_by_label("What is measured").select_option(measure)
    condition(page, metric(3), "category", "shoes")
    shoes = {"fact": "purchase", "where": "category = 'shoes'", "measure": "sum", "value": "amount"}
    body = {
        "groups": [{"name": "members", "where": "in_audience('members')"}, {"name": "others", "where": "NOT is_member"}],
        "metrics": [{"fact": "purchase"}, {"fact": "purchase", "measure": "events"}, shoes],
        "confidence": 0.95,
    }

    def wanted(answer):
        control = body.get("control", body["groups"][0]["name"])
        groups = [[one["name"] + ("control" if one["name"] == control else ""), f"{one['users']:,}", percent(one["share"]), percent(one["planned"])] for one in answer["groups"]]
        return [groups, f"{answer['in_several']:,}", *(told_of(one, control) for one in answer["metrics"])]

    def shown():
        several = figures(page).get("In several groups", [""])[0]
        tables = ["users of purchase", "events of purchase", "sum(amount) of purchase where category = 'shoes'"]
        return [cells(page, "Groups of the experiment"), several, *(cells(page, f"Groups by {one}") for one in tables)]

    asked = lambda: answers.shown(body, wanted, shown)
    answer = asked()
    # As many of each were planned, and there are far fewer members: that is told before anything else.
    assert answer["sample_ratio"]["mismatch"]
    alert = page.get_by_role("alert").filter(has_text="Groups are not as large as was planned")
    expect(alert).to_contain_text(f"members has {answer['groups'][0]['users']:,} users")
    expect(page.locator(".figure-box", has_text="Sample ratio")).to_contain_text("Mismatch")
    # Planned as they are, it is not.
    for at, one in enumerate(answer["groups"]):
        group(at + 1).get_by_label("Planned").fill(str(one["users"]))
        body["groups"][at]["weight"] = one["users"]
    answer = asked()
    assert not answer["sample_ratio"]["mismatch"]
    expect(alert).to_have_count(0)
    expect(page.locator(".figure-box", has_text="Sample ratio")).to_contain_text("As planned")
    # A third group, of which some are in the first one, too; another control; how sure; of a time.
    page.get_by_role("button", name="Group", exact=True).click()
    whom = group(3).get_by_role("combobox", name="Who was put into it")
    whom.fill("is_member AND gender = 'f'")
    whom.press("Enter")
    group(3).get_by_label("Name").fill("women")
    body["groups"].append({"name": "women", "where": "is_member AND gender = 'f'"})
    expect(page.get_by_label("Compared with").locator("option")).to_have_text(["the first group", "members", "others", "women"])
    page.get_by_label("Compared with").select_option("others")
    page.get_by_label("Intervals hold with").select_option("0.99")
    page.get_by_label("Events of", exact=True).last.select_option("within")
    body |= {"control": "others", "confidence": 0.99, "within": "14 days"}
    answer = asked()
    assert answer["in_several"] > 0 and answer["groups"][2]["users"] == 0
    # Without users nothing can be compared; with some there is an interval for each, on one axis.
    expect(page.get_by_text("1 group too small for a difference to be told.").first).to_be_visible()
    group(3).get_by_role("button", name="Remove the group").click()
    body["groups"].pop()
    body["groups"].insert(0, body["groups"].pop())
    group(2).get_by_role("button", name="Move up").click()
    choose(page, "Who was put into it", "yogis", nth=1)
    group(2).get_by_label("Name").fill("yogis")
    body["groups"][1] |= {"name": "yogis", "where": "in_audience('yogis')"}
    answer = asked()
    for scale, key in [("Absolute", "difference"), ("Relative", "relative")]:
        page.get_by_role("radio", name=scale).check()
        charts = page.get_by_role("img", name=re.compile("difference to others with intervals of 99.0 %"))
        expect(charts).to_have_count(3)
        for chart, one in zip(charts.all(), answer["metrics"], strict=True):
            interval = next(read for read in one["groups"] if read["group"] == "yogis")[key]
            ends = chart.locator(".interval-line").evaluate("(line) => { const box = line.getBBox(); return [box.x, box.x + box.width]; }")
            point = float(chart.locator(".interval-point").get_attribute("cx"))
            zero = float(chart.locator(".no-difference").get_attribute("x1"))
            unit = (ends[1] - ends[0]) / (interval["high"] - interval["low"])
            assert abs(point - zero - interval["estimate"] * unit) < 0.5
            assert abs(ends[0] - zero - interval["low"] * unit) < 0.5
    shared = page.url
    answers.got.clear()
    page.goto("about:blank")
    page.goto(shared)
    asked()
    expect(page.get_by_role("radio", name="Relative")).to_be_checked()
    expect(page.get_by_label("Compared with")).to_have_value("others")
    # Mistakes stand where they are.
    page.refused |= {"/v1/experiment", "/v1/translate"}
    group(2).get_by_label("Name").fill("others")
    expect(group(2).get_by_role("alert")).to_contain_text("two groups are called")
    group(2).get_by_label("Name").fill("yogis")
    expect(page.get_by_role("region", name="Groups of the experiment")).to_be_visible()
    whom = group(2).get_by_role("combobox", name="Who was put into it")
    whom.fill("gendr = 'f'")
    whom.press("Enter")
    expect(group(2).locator(".code-wrong").first).to_have_text("gendr")
    whom.fill("in_audience('yogis')")
    whom.press("Enter")
    group(2).get_by_label("Planned").fill("0")
    expect(group(2).get_by_role("alert")).to_contain_text("0.000001")


def regions_are_told_and_opened(page, server):
    def regions(*names):
        named = {name: f"in_audience('{name}')" for name in names}
        answer = server.call("POST", "/v1/overlap", {"audiences": named, "regions": True})
        return {frozenset(region["in"]): region["count"] for region in answer["regions"]}

    def shown(names):
        rows = page.get_by_role("region", name="Regions by size").locator("tbody tr")
        told = rows.evaluate_all("(rows) => rows.map((row) => [[...row.querySelectorAll('td')].map((cell) => cell.textContent), row.querySelector('td.number span').title])")
        return {frozenset(name for name, text in zip(names, texts) if text == "yes"): number(users) for texts, users in told}

    two = ["members", "yogis"]
    page.goto(f"{server.url}/#/insight")
    page.get_by_role("link", name="Venn").click()
    expect(page.get_by_role("img", name=re.compile("^3 audiences as circles"))).to_be_visible()
    page.goto(f"{server.url}/#/{address('insight', view='venn', of=','.join(two))}")
    counts = same(page, lambda: regions(*two), lambda: shown(two), page.reload)
    # Areas are in proportion to users.
    (x1, y1, r1), (x2, y2, r2) = page.locator("circle.set").evaluate_all("(all) => all.map((one) => ['cx', 'cy', 'r'].map((name) => Number(one.getAttribute(name))))")
    first, second, both = counts[frozenset(["members"])], counts[frozenset(["yogis"])], counts[frozenset(two)]
    assert abs(r1 * r1 / (r2 * r2) - (first + both) / (second + both)) < 0.001
    assert abs(shared_area(r1, r2, math.hypot(x1 - x2, y1 - y2)) / (math.pi * r1 * r1) - both / (first + both)) < 0.001
    # A region is shown in both places, and opens by a click in the picture.
    place = page.locator("text.region-count", has_text=f"{both:,}").bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    expect(page.locator("tr[data-looked]")).to_contain_text("members and yogis")
    expect(page.locator(".region-shown")).to_have_count(1)
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    assert shown_count(page, server, "in_audience('members') AND in_audience('yogis')") == both
    # Or by the row, by keyboard; of more audiences than can be circles, too.
    six = ["members", "yogis", "women_25_34", "big_spenders", "shoe_buyers", "active_today"]
    page.goto(f"{server.url}/#/{address('insight', view='venn', of=','.join(six), empty=1)}")
    expect(page.get_by_role("region", name="Regions by size")).to_be_visible()
    expect(page.locator("circle.set")).to_have_count(0)
    whole = {}

    def largest():
        whole.clear()
        whole.update(regions(*six))
        return sorted(whole.values(), reverse=True)[:20]

    same(page, largest, lambda: sorted(shown(six).values(), reverse=True), page.reload)
    assert len(whole) == 63
    expect(page.locator(".pager")).to_contain_text("of 63")
    row = page.get_by_role("region", name="Regions by size").locator("tbody tr").first
    names = [name for at, name in enumerate(six) if row.locator("td").nth(at).inner_text().strip() == "yes"]
    row.get_by_role("button").focus()
    page.keyboard.press("Enter")
    inside = [f"in_audience('{name}')" for name in six if name in names] + [f"NOT in_audience('{name}')" for name in six if name not in names]
    shown_count(page, server, " AND ".join(inside))
    # More than six are not told, and it says so.
    server.call("PUT", "/v1/audiences/one_more", {"where": "age > 60"})
    page.goto("about:blank")
    page.goto(f"{server.url}/#/{address('insight', view='venn', of=','.join(six + ['one_more']))}")
    expect(page.get_by_text("Too many at once")).to_be_visible()
    page.get_by_role("button", name="Remove one_more").click()
    expect(page.get_by_role("region", name="Regions by size")).to_be_visible()
    server.call("DELETE", "/v1/audiences/one_more")
    # One in the other, two apart, and nobody: circles are drawn of whatever there is.
    for name, where in {"all_women": "gender = 'f'", "some_women": "gender = 'f' AND age > 50", "men": "gender = 'm'", "nobody": "age > 200"}.items():
        server.call("PUT", f"/v1/audiences/{name}", {"where": where})
    for names in [["all_women", "some_women", "men"], ["all_women", "some_women"], ["men", "nobody"], ["all_women", "men", "nobody"]]:
        page.goto("about:blank")
        page.goto(f"{server.url}/#/{address('insight', view='venn', of=','.join(names), empty=1)}")
        same(page, lambda: regions(*names), lambda: shown(names), page.reload)
        expect(page.locator("circle.set")).to_have_count(len(names))
    for name in ["all_women", "some_women", "men", "nobody"]:
        server.call("DELETE", f"/v1/audiences/{name}")


def movement_is_told(page, server):
    ids = ["tide_in", "tide_out", "tide_through", "tide_back"]

    def members(*wanted):
        lines = [{"user_id": one, "set": {"age": 250 if one in wanted else 20}} for one in ids]
        server.lines("/v1/tags?visible=true", lines)
        for _ in range(100):
            if server.call("POST", "/v1/members", {"where": "in_audience('tide')"})["users"] == sorted(wanted):
                break
            page.wait_for_timeout(50)
        size = lambda: server.call("GET", "/v1/audiences/tide")["live"]["size"]
        for _ in range(100):
            if size() == len(wanted):
                return
            page.wait_for_timeout(50)
        raise AssertionError(size())

    server.lines("/v1/tags?visible=true", [{"user_id": one, "set": {"age": 20}} for one in ids])
    server.call("PUT", "/v1/audiences/tide", {"where": "age BETWEEN 200 AND 300", "live": True})
    members("tide_out", "tide_back")
    page.wait_for_timeout(1_100)
    begin = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    page.wait_for_timeout(50)
    members("tide_through")
    members("tide_in", "tide_back")
    path = f"/v1/audiences/tide/movement?from={begin}"
    asked = lambda: {name: server.call("GET", path)[name] for name in ["entered", "left", "passed", "returned"]}
    figures = "(all) => all.map((one) => [...one.children].slice(0, 2).map((part) => part.textContent))"
    shown = lambda: {label.lower(): number(value) for label, value in page.locator(".figure-box").evaluate_all(figures) if label != "In all"}
    page.goto(f"{server.url}/#/{address('insight', view='movement', of='tide', **{'from': begin})}")
    told = same(page, asked, shown)
    assert told == {"entered": 1, "left": 1, "passed": 1, "returned": 1}, told
    # How often on each day: in and out, and back again.
    days = server.call("GET", path)["days"]
    times = sum(day["entered"] for day in days), sum(day["left"] for day in days)
    expect(page.get_by_role("img", name=re.compile(f": {times[0]} times entered, {times[1]} times left"))).to_be_visible()
    page.get_by_text("As a table").click()
    expect(page.get_by_role("region", name="Entered and left by day").locator("tbody tr")).to_have_count(len(days))
    # Who they are.
    expect(page.locator(".moved .member")).to_have_count(4)
    page.get_by_role("radio", name="Left", exact=True).focus()
    page.keyboard.press("Space")
    expect(page.locator(".moved .member")).to_have_count(1)
    expect(page.locator(".moved .member")).to_contain_text("tide_out")
    page.locator(".moved .member").click()
    expect(page.get_by_role("dialog", name="tide_out")).to_be_visible()
    page.keyboard.press("Escape")
    # A time that ends before it begins is told at the time.
    page.refused |= {"/v1/audiences/tide/movement"}
    page.get_by_label("To (UTC)").fill("2026-01-01T00:00")
    expect(page.locator(".query").get_by_role("alert")).to_contain_text("before")
    page.get_by_role("radio", name="7 days").check()
    expect(page.locator(".figure-value").first).to_be_visible()
    server.call("DELETE", "/v1/audiences/tide")
    server.lines("/v1/tags?visible=true", [{"user_id": one, "unset": ["age"]} for one in ids])


ALL = [
    a_funnel_is_built_by_clicking, mistakes_in_a_funnel_are_told_where_they_are, late_answers_of_an_analysis_are_dropped, a_sequence_is_followed,
    retention_is_read_and_kept, a_path_is_followed_by_clicking, campaigns_are_credited, the_effect_of_a_campaign_is_told, groups_are_compared,
    regions_are_told_and_opened, movement_is_told,
]
