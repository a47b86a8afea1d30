"""A browser that notices what a reader would not: errors in its console, and requests that leave the server."""

import contextlib
import os
import urllib.parse

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
POLICY = ["default-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]


def launch(playwright):
    return playwright.chromium.launch(executable_path=os.environ.get("BELUGA_CHROMIUM", "/usr/bin/chromium"), args=ARGUMENTS)


@contextlib.contextmanager
def page(chromium, server, **settings):
    """A page in a context of its own. Whatever went wrong unseen fails it at its end."""
    settings = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light", "accept_downloads": True, **settings}
    context = chromium.new_context(**settings)
    context.set_default_timeout(20_000)
    opened = context.new_page()
    wrong, documents = [], []
    opened.refused = set()

    def said(message):
        if message.type != "error":
            return
        # Chromium reports each answer that is no success, also one that the journey provokes.
        path = urllib.parse.urlsplit(message.location.get("url", "")).path
        if "Failed to load resource" in message.text and path in opened.refused:
            return
        wrong.append(f"console: {message.text} ({message.location.get('url')})")

    def asked(request):
        parts = urllib.parse.urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and f"{parts.scheme}://{parts.netloc}" != server.url:
            wrong.append(f"a request leaves the server: {request.url}")

    def answered(response):
        if response.request.resource_type == "document" and response.url.startswith(server.url):
            documents.append(response.headers.get("content-security-policy", ""))

    opened.on("console", said)
    opened.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    opened.on("request", asked)
    opened.on("response", answered)
    yield opened
    assert documents, "no page was opened"
    for policy in documents:
        assert all(part in policy for part in POLICY), policy
        assert "unsafe" not in policy, policy
    assert not wrong, "\n".join(wrong)
    context.close()
