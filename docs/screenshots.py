"""Takes the pictures of docs/images/ from a running sandbox: `python -m docs.screenshots`.

Source the sandbox's `env` first. One deployment to production must be waiting at its gate and one
must have ended as Deployed; otherwise their pictures stay as they are. Nothing is retouched.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import httpx
from playwright.sync_api import FloatRect, Page, sync_playwright

API = os.environ["PREFECT_API_URL"]
UI = API.removesuffix("/api") + "/v2"
IMAGES = Path(__file__).with_name("images")
WIDTH = 1200
SETTLED = 6000  # ms until a page has drawn its graph


def ask(path: str, **body: object) -> list[dict[str, str]]:
    """The objects that the server's API finds."""
    return list(httpx.post(f"{API}/{path}/filter", json=body, timeout=30).raise_for_status().json())


def newest_run(**which: object) -> str:
    """The id of the newest deployment to production that is found; empty if there is none."""
    runs = ask(
        "flow_runs",
        flows={"name": {"any_": ["deploy"]}},
        deployments={"name": {"any_": ["production"]}},
        flow_runs=which,
        sort="EXPECTED_START_TIME_DESC",
        limit=1,
    )
    return runs[0]["id"] if runs else ""


def form_id() -> str:
    """The id of the deployment deploy/production."""
    return next(
        d["id"]
        for d in ask("deployments", flows={"name": {"any_": ["deploy"]}})
        if d["name"] == "production"
    )


def report_id(run: str) -> str:
    """The id of a run's report artifact."""
    found = ask(
        "artifacts",
        artifacts={"flow_run_id": {"any_": [run]}, "key": {"any_": ["report-production"]}},
    )
    return found[0]["id"]


@contextmanager
def browser() -> Iterator[Page]:
    """A light page that talks to this machine alone."""
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(
            executable_path=which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        context = program.new_context(color_scheme="light")
        context.route(lambda url: "127.0.0.1" not in url, lambda route: route.abort())
        yield context.new_page()
        program.close()


def picture(page: Page, name: str, path: str, height: int) -> None:
    """Open a page and keep it as docs/images/<name>.png."""
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto(f"{UI}/{path}")
    page.wait_for_timeout(SETTLED)
    page.screenshot(path=IMAGES / f"{name}.png")


def gate(page: Page, run: str) -> None:
    """The form that a waiting run is resumed with, from the ⋮ menu of its page."""
    page.set_viewport_size({"width": WIDTH, "height": 2200})  # the form has no scrollbar to show
    page.goto(f"{UI}/runs/flow-run/{run}?tab=Parameters")
    page.wait_for_timeout(SETTLED)
    page.locator("button:has(svg.lucide-ellipsis-vertical)").first.click()
    page.get_by_role("menuitem", name="Resume").click()
    page.wait_for_timeout(2000)
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None, "the form did not open"
    x, y, width, height = (box[side] for side in ("x", "y", "width", "height"))
    edge: FloatRect = {"x": x - 24, "y": y - 24, "width": width + 48, "height": height + 48}
    page.screenshot(path=IMAGES / "gate.png", clip=edge)


def end_of_run(page: Page, run: str) -> None:
    """A run's page with its last log lines first."""
    page.set_viewport_size({"width": WIDTH, "height": 1180})
    page.goto(f"{UI}/runs/flow-run/{run}?tab=Logs")
    page.wait_for_timeout(SETTLED)
    page.get_by_role("combobox").filter(has_text="Oldest").click()
    page.get_by_role("option", name="Newest to oldest").click()
    page.wait_for_timeout(3000)
    page.screenshot(path=IMAGES / "run.png")


def main() -> None:
    """Take the pictures that can be taken, and list those that exist."""
    IMAGES.mkdir(exist_ok=True)
    waiting = newest_run(state={"name": {"any_": ["Suspended"]}})
    deployed = newest_run(tags={"all_": ["ending:Deployed"]})
    with browser() as page:
        picture(page, "deploy-form", f"deployments/deployment/{form_id()}/run", 1180)
        if waiting:
            gate(page, waiting)
        if deployed:
            end_of_run(page, deployed)
            picture(page, "report", f"artifacts/artifact/{report_id(deployed)}", 1120)
    for file in sorted(IMAGES.glob("*.png")):
        print(f"{file.name}  {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
