"""Takes the README's picture of a report page, with a Chromium.

Run `make quickstart` and then `python -m scripts.draw_page` from the repository's root.
"""

import shutil
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "results" / "quickstart" / "report" / "index.html"
PICTURE = ROOT / "docs" / "pictures" / "report.png"
SIZE: ViewportSize = {"width": 1280, "height": 760}


def main() -> None:
    """Open the page and save what is seen first."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(PAGE.as_uri())
        page.locator("#chart canvas").first.wait_for()
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
