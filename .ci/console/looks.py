"""Every page as it looks, in both themes, wide and narrow; and what axe finds wrong with it."""

import time

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

import browser

BUILT = "gender%20%3D%20'f'%20AND%20age%20BETWEEN%2025%20AND%2034%20AND%20(interest%20IN%20('yoga'%2C%20'running')%20OR%20is_member)%20AND%20did('purchase'%2C%20category%20%3D%20'shoes'%2C%20count%20%3E%3D%202%2C%20within%20%3D%3E%20'30%20days')%20AND%20NOT%20in_audience('big_spenders')"
SQL = "SELECT province%2C%20count(*)%20AS%20people%2C%20avg(spend)%20AS%20spend%20FROM%20users%20GROUP%20BY%20province%20ORDER%20BY%20people%20DESC"
STEPS = "step=purchase&step=purchase%20where%20category%20%3D%20'shoes'&step=purchase%20where%20amount%20%3E%3D%2020%20AND%20campaign%20IN%20('spring'%2C%20'autumn')"
CHOSEN = "purchase%20where%20campaign%20%3D%20'spring'"
OTHERS = "purchase%20where%20category%20%3C%3E%20'shoes'"
SHOES = "purchase%20where%20category%20%3D%20'shoes'"
METRICS = "metric=purchase&metric=events%20of%20purchase&metric=sum(amount)%20of%20purchase"
TIERS = "group=tier%201%3Dcity_tier%20%3D%201&group=tier%202%3Dcity_tier%20%3D%202&group=tiers%203%20and%204%3Dcity_tier%20%3E%3D%203"
PATTERN = "(%3F1)(%3Ft<%3D604800)(%3F2).*(%3F3)"
CAMPAIGN = "impressions=impression&clicks=click&conversions=purchase%20where%20campaign%20IS%20NOT%20NULL&cost=price&value=amount&by=channel"
SIX = "members,yogis,women_25_34,big_spenders,shoe_buyers,active_today"
# A name, an address, and what is there once it is whole.
PAGES = [
    ("audience", f"audience?where={BUILT}", ".row-count:not(:empty)"),
    ("audience-empty", "audience", "[data-count]"),
    ("audiences", "audiences", ".table tbody tr"),
    ("insight", "insight?where=in_audience('yogis')", ".histogram-bar"),
    ("overlap", "insight?view=overlap", ".heat"),
    ("venn", "insight?view=venn&of=members,yogis,women_25_34", "circle.set"),
    ("venn-six", f"insight?view=venn&of={SIX}", ".region-name"),
    ("movement", "insight?view=movement&of=active_today", ".moved .member"),
    ("funnel", f"analysis?{STEPS}&by=province&mode=strict_once", ".step-users"),
    ("funnel-empty", "analysis", ".state"),
    ("sequence", f"analysis?view=sequence&{STEPS}&pattern={PATTERN}", ".step-users"),
    ("sequence-empty", "analysis?view=sequence", ".state"),
    ("retention", "analysis?view=retention&first=purchase", ".cohorts"),
    ("path", f"analysis?view=path&from={CHOSEN}&step=purchase%20by%20category&step=visit&window=30%20days&depth=4", ".flow-place"),
    ("path-to", f"analysis?view=path&to={SHOES}&step=purchase%20by%20campaign&step=visit&window=20%20days&depth=3&fold=1&occurrence=last", ".flow-place"),
    ("path-empty", "analysis?view=path", ".state"),
    ("attribution", f"analysis?view=attribution&conversion={SHOES}&value=amount&touch={OTHERS}&by=campaign", ".model-0"),
    ("attribution-touches", f"analysis?view=attribution&conversion={SHOES}&value=amount&touch={OTHERS}&touch=visit&measure=value&lookback=14%20days", ".model-0"),
    ("attribution-empty", "analysis?view=attribution", ".state"),
    ("effect", f"analysis?view=effect&{CAMPAIGN}&grain=day&within=30%20days", ".series-line"),
    ("effect-plan", f"analysis?view=effect&{CAMPAIGN}&channel=email&channel=radio&where=in_audience('members')&of=email&cap=6", ".reach-words"),
    ("effect-empty", "analysis?view=effect", ".state"),
    ("experiment", f"analysis?view=experiment&{TIERS}&{METRICS}&within=30%20days", ".interval"),
    ("experiment-mismatch", f"analysis?view=experiment&{TIERS}&{METRICS}&weights=3,2,1&scale=relative&control=tier%202", ".mismatch"),
    ("experiment-empty", "analysis?view=experiment", ".state"),
    ("lookalike", "lookalike?seed=in_audience('yogis')&size=500", ".line"),
    ("lookalike-empty", "lookalike", ".state"),
    ("sql", f"sql?q={SQL}", ".rows .table"),
    ("live", "live", ".big-value"),
    ("catalog", "catalog", ".table tbody tr"),
    ("catalog-facts", "catalog?view=facts", ".table tbody tr"),
    ("catalog-yaml", "catalog?view=yaml", ".yaml"),
    ("jobs", "jobs", ".table tbody tr"),
]
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}


def at_all_pages(chromium, server, screenshots):
    began = time.monotonic()
    wrong = []
    for theme in ["light", "dark"]:
        with browser.page(chromium, server, color_scheme=theme, viewport=WIDE) as page, server.streaming():
            for name, address, whole in PAGES:
                page.set_viewport_size(WIDE)
                page.goto("about:blank")
                page.goto(f"{server.url}/#/{address}")
                expect(page.locator(whole).first).to_be_visible()
                page.wait_for_timeout(3_000 if name == "live" else 450)
                page.screenshot(path=screenshots / f"{name}-1280-{theme}.png", full_page=True)
                wrong += found(page, f"{name}, {theme}, wide")
                page.set_viewport_size(NARROW)
                page.wait_for_timeout(150)
                page.screenshot(path=screenshots / f"{name}-390-{theme}.png", full_page=True)
                room = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if room > 0:
                    wrong.append(f"{name}, {theme}: {room} pixels too wide for 390")
                if theme == "light":
                    wrong += found(page, f"{name}, {theme}, narrow")
    print(f"looks of {len(PAGES)} pages: {time.monotonic() - began:.1f} s", flush=True)
    assert not wrong, "\n".join(wrong)


def found(page, where):
    """What axe calls serious or critical."""
    violations = Axe().run(page).response["violations"]
    serious = [one for one in violations if one["impact"] in ("serious", "critical")]
    return [f"{where}: {one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}" for one in serious]
