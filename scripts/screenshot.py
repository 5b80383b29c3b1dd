"""Takes the README's picture of a report, by chromium (Debian's) without a screen, through playwright."""

import shutil
from pathlib import Path

import click
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1000, 1180


@click.command(help=__doc__)
@click.argument("report", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="PNG to write.")
@click.option("--contrast", default=4.0, show_default=True, help="Logarithm to base 2 of the knob's factor.")
def main(report: Path, out: Path, contrast: float) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise click.UsageError("no chromium on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        page.wait_for_function("document.getElementById('picture').dataset.drawn > 0")
        page.locator("#contrast").fill(f"{contrast}")
        page.wait_for_function("document.getElementById('picture').dataset.drawn > 1")
        page.locator("#contrast").blur()
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main()
