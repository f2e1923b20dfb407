"""People at Prefect's UI, in Debian's Chromium: what they see and press, nothing else.

Selectors are roles and labels of the second UI, which the server opens by default. What a page
shows is waited for. The browser itself loads nothing from the network: it drops what it is loading
whenever a container's network appears or goes (ERR_NETWORK_CHANGED), and deployments do just that.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from shutil import which
from urllib.parse import urlsplit

from playwright.sync_api import (
    APIResponse,
    Browser,
    Error,
    Locator,
    Page,
    Route,
    expect,
    sync_playwright,
)

from sandbox.layout import Sandbox

SLOW = 30_000  # ms that something may take to appear on a busy machine
RUN = 180_000  # ms that a run may take to get somewhere


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser."""
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(
            executable_path=which("chromium"),
            # The run's graph is drawn in 3D; without a graphics card that takes a core.
            args=["--no-sandbox", "--disable-gpu", "--disable-3d-apis"],
        )
        try:
            yield program
        finally:
            program.close()


class Person:
    """Somebody at the UI, in a browser window of their own."""

    def __init__(self, browser: Browser, sandbox: Sandbox) -> None:
        self.first_ui = sandbox.prefect_ui_url.rstrip("/").removesuffix("/v2")
        self.ui = f"{self.first_ui}/v2"
        context = browser.new_context(
            color_scheme="light", viewport={"width": 1250, "height": 1400}
        )
        self.assets: dict[str, APIResponse] = {}
        context.route("**/*", self.load)
        self.page: Page = context.new_page()
        self.page.set_default_timeout(SLOW)

    def load(self, route: Route) -> None:
        """Answer a request of the page, from this process; the UI's own files are asked for once.

        The UI asks other hosts on every load: nothing here leaves this machine.
        """
        url = urlsplit(route.request.url)
        with suppress(Error):  # the page may be closed by now
            if url.hostname != "127.0.0.1":
                route.abort()
                return
            try:
                answer = self.assets.get(url.path) or route.fetch()
            except Error:
                route.abort()
                return
            if "/assets/" in url.path and answer.ok:
                self.assets[url.path] = answer
            route.fulfill(response=answer)

    def open(self, path: str, until: Locator, within: float = SLOW, ui: str = "") -> None:
        """Open a page, of the second UI unless another is named, and wait for something on it."""
        self.page.goto(f"{ui or self.ui}/{path}")
        expect(until).to_be_visible(timeout=within)

    def look_away(self) -> None:
        """Close the page: its moving graph takes from the run what the run needs."""
        self.page.goto("about:blank")

    def start_deployment(self, deployment: str, version: str, ref: str, name: str) -> str:
        """Fill in the form of a deployment, send it, and return the run's id."""
        page = self.page
        self.open(f"deployments/deployment/{deployment}/run", page.get_by_label("Version"))
        page.get_by_label("Version").fill(version)
        page.get_by_label("Branch or commit").fill(ref)
        page.get_by_label("Your name").fill(name)
        with page.expect_response(lambda r: "create_flow_run" in r.url and r.ok) as created:
            page.get_by_role("button", name="Submit", exact=True).click()
        run = str(created.value.json()["id"])
        self.look_away()
        return run

    @property
    def menu(self) -> Locator:
        """The ⋮ of a run's page."""
        return self.page.locator("button:has(svg.lucide-ellipsis-vertical)").first

    def find_waiting(self, run_name: str) -> None:
        """Find a run in the list of those that wait, and open it."""
        page = self.page
        link = page.get_by_role("link", name=run_name, exact=True).first
        self.open("runs?state-types=%5B%22PAUSED%22%5D", link)
        link.click()
        # The list shows the name as well, and has menus of its own.
        page.wait_for_url(re.compile("/runs/flow-run/"))
        expect(self.menu).to_be_visible(timeout=SLOW)

    def answer(
        self,
        decision: str,
        name: str,
        code: str = "",
        comment: str = "",
        shown: str = "",
    ) -> None:
        """Fill in the form of a gate and send it. ``shown`` stands above it, with the evidence."""
        page = self.page
        self.menu.click()
        page.get_by_role("menuitem", name="Resume").click()
        form = page.get_by_role("dialog")
        expect(form.get_by_label("Your name")).to_be_visible()
        expect(form).to_contain_text(shown, timeout=SLOW)  # it comes after the fields
        self.choose(form.get_by_label("Decision"), decision)
        form.get_by_label("Your name").fill(name)
        if code:
            form.get_by_label("One-time code").fill(code)
        if comment:
            form.get_by_label("Comment").fill(comment)
        with page.expect_response(lambda r: r.url.endswith("/resume")) as sent:
            form.get_by_role("button", name="Resume", exact=True).click()
        # HTTP 200 is also said by a server that refuses.
        assert sent.value.json()["status"] == "ACCEPT", sent.value.json()
        self.look_away()

    def choose(self, field: Locator, value: str) -> None:
        """Pick an entry of a list to choose from."""
        field.click()
        self.page.get_by_role("option", name=value, exact=True).click()

    def sees(self, run: str, name: str) -> None:
        """Wait until a run's page shows its name, with its ending."""
        shown = self.page.get_by_text(name, exact=True).first
        self.open(f"runs/flow-run/{run}", shown, within=RUN)

    def finds(self, name: str, state: str, deployment: str) -> None:
        """Find a run that has ended in both UIs: by its state, and on its deployment's own page."""
        for ui in (self.ui, self.first_ui):
            for path in (f"runs?state={state}", f"deployments/deployment/{deployment}?tab=Runs"):
                self.open(path, self.page.get_by_role("link", name=name).first, ui=ui)
        self.look_away()

    def close(self) -> None:
        """Close the window, whatever it is still loading."""
        self.page.context.unroute_all(behavior="ignoreErrors")
        self.page.context.close()
