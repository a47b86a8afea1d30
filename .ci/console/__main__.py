"""The console in a browser: whole journeys by clicking and typing, every page in both themes and two widths.

Usage: python .ci/console BELUGA SCREENSHOTS. Needs playwright and axe-playwright-python, and Chromium at /usr/bin/chromium (or where
BELUGA_CHROMIUM says). SCREENSHOTS is a folder for pictures of each page: to be looked at by whoever changes one.
"""

import pathlib
import sys
import time

from playwright.sync_api import sync_playwright

import analysis
import browser
import edges
import journeys
import looks
from server import Server


def main():
    beluga, screenshots = sys.argv[1], pathlib.Path(sys.argv[2])
    screenshots.mkdir(parents=True, exist_ok=True)
    with Server(beluga) as server, sync_playwright() as playwright:
        chromium = browser.launch(playwright)
        for journey in journeys.ALL + analysis.ALL + edges.ALL:
            began = time.monotonic()
            with browser.page(chromium, server) as page:
                try:
                    journey(page, server)
                except BaseException:
                    page.screenshot(path=screenshots / f"failed-{journey.__name__}.png", full_page=True)
                    raise
            print(f"{journey.__name__.replace('_', ' ')}: {time.monotonic() - began:.1f} s", flush=True)
        looks.at_all_pages(chromium, server, screenshots)
        # The last one, since afterwards nobody gets in without a token.
        with browser.page(chromium, server) as page:
            journeys.a_token_is_asked_for_once(page, server)
        chromium.close()
    print(f"screenshots are in {screenshots}")


main()
