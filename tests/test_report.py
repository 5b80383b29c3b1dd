"""Reports, as `bdinn-video --report` makes them, looked at in a real browser."""

import base64
import io
import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from jobs import info
from lab.media import banded, make, planes, read
from playwright.sync_api import Browser, Page, sync_playwright

from bdinn_core import cli
from bdinn_core.show.verdict import judge
from bdinn_core.show.watch import VERSIONS, Watched
from bdinn_core.video.codecs import plan_encoding

WIDTH, HEIGHT, FRAMES = 320, 240, 12


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Source, result and report of a job with a name that would break a careless page."""
    folder = tmp_path_factory.mktemp("report")
    source, result, page = folder / "<b>'in' & \"x\".mkv", folder / "out.mkv", folder / "report.html"
    make(source, draw=banded, width=WIDTH, height=HEIGHT, times=range(FRAMES))
    options = ["--device", "cpu", "--codec", "libx264", "--crf", "12", "--chunk-seconds", "0.2"]
    assert cli.main([str(source), str(result), "--report", str(page), *options]) == 0
    return source, result, page


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    return json.loads(text.split('id="data">', 1)[1].split("</script>", 1)[0])


def unpack(plane: dict[str, Any]) -> np.ndarray:
    low, high = np.split(np.frombuffer(zlib.decompress(base64.b64decode(plane["codes"])), np.uint8), 2)
    steps = low + high.astype(np.uint16) * np.uint16(256)
    return np.cumsum(steps, dtype=np.uint16).reshape(plane["height"], plane["width"])


def test_it_holds_the_pictures_with_all_their_bits(job):
    source, result, page = job
    data = data_of(page)
    assert [frame["clock"] for frame in data["frames"]] == sorted(frame["clock"] for frame in data["frames"])
    assert len(data["frames"]) == 4
    before, after = read(source), read(result)
    for frame in data["frames"]:
        number = int(frame["where"].split()[1].rstrip(","))
        versions = frame["versions"]
        assert [*versions] == [*VERSIONS]
        for version, file, unit in (("source", before, 1), ("encoded", after, 0.25)):
            found = [unpack(plane) for plane in versions[version]["planes"]]
            assert versions[version]["unit"] == unit
            assert all(np.array_equal(a, b) for a, b in zip(found, planes(file.frames[number]), strict=True))
        filtered = unpack(versions["filtered"]["planes"][0])
        assert len(np.unique(filtered)) > 2 * len(np.unique(planes(before.frames[number])[0]))


def test_it_says_what_was_measured_asked_for_and_made(job):
    source, result, page = job
    data = data_of(page)
    curves = data["curves"]
    assert curves["times"] == pytest.approx([number / 25 for number in range(FRAMES)])
    assert "CAMBI" in curves["title"]
    banding = {name: np.mean(values) for name, values in curves["banding"].items()}
    assert banding["source"] > 3 * banding["filtered"]
    assert all(0 < change < 1 for change in curves["change"]["filtered"])
    assert data["files"] == {"source": str(source), "output": str(result)}
    tables = {table["title"]: {row[0]: row[1:] for row in table["rows"]} for table in data["tables"]}
    assert tables["Picture"]["pixel format"] == ["yuv420p", "yuv420p10le"]
    assert tables["Encoding"]["crf"] == ["12.0"]
    assert tables["Settings"]["limit"] == ["2.0"]
    assert tables["Settings"]["command"][0].startswith("bdinn-video ")
    assert "torch" in tables["Versions"]
    assert {"speed", "time at"} <= {name for name, _ in data["figures"]}
    assert data["verdict"][0]["text"].startswith("Debanding took CAMBI from ")


def test_it_needs_no_network_and_no_other_file(job):
    text = job[2].read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not [word for word in ("http:", "https:", "src=", "@import", "url(") if word in text]


def test_a_report_is_refused_before_the_work_and_never_replaces_unasked(job, tmp_path, capfd):
    source, _, page = job
    assert cli.main([str(source), str(tmp_path / "out.mkv"), "--report", str(page)]) == 2
    assert f"{page} exists; add -y to replace it" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_small_and_grey_and_float_pictures_have_reports_too(tmp_path):
    for pix_fmt, codec in (("gray", "ffv1"), ("gbrp10le", "ffv1")):
        source, page = tmp_path / f"{pix_fmt}.mkv", tmp_path / f"{pix_fmt}.html"
        make(source, pix_fmt=pix_fmt, width=70, height=50, times=[0])
        options = ["--codec", codec, "--device", "cpu", "--report", str(page)]
        assert cli.main([str(source), str(tmp_path / f"{pix_fmt}-out.mkv"), *options]) == 0
        data = data_of(page)
        assert "CAMBI doesn't score this size" in data["curves"]["title"]
        first = unpack(data["frames"][0]["versions"]["source"]["planes"][0])
        # FFmpeg's order is green, blue, red.
        assert np.array_equal(first, planes(read(source).frames[0])[0 if pix_fmt == "gray" else 2])


def watched(source: float, filtered: float, encoded: float, codec: str, **encoding: Any) -> Watched:
    scores = {"source": [source] * 3, "filtered": [filtered] * 3, "encoded": [encoded, encoded + 1, encoded]}
    plan = plan_encoding(codec, info(), **encoding)
    times = [Fraction(n) for n in range(3)]
    return Watched(source=info(), result=info(), encoding=plan, times=times, cambi=scores)


def test_bands_brought_back_by_the_encoder_are_told_with_what_to_change():
    good = [*judge(watched(19, 2, 4, "libx265"))]
    assert [sentence.warn for sentence in good] == [False, False]
    assert good[1].text == "The encoder keeps the gradients: CAMBI 4.3 in the file."
    bad = [*judge(watched(19, 2, 12, "libx265", crf=24.0))][1]
    assert bad.warn
    assert "The encoder brings bands back: CAMBI 2.0 before encoding, 12.3 in the file" in bad.text
    assert "most at 0:00:01.000" in bad.text
    assert "a lower --crf, as 20 instead of 24; -e aq-mode=3" in bad.text
    eight = [*judge(watched(19, 2, 12, "libvpx-vp9"))][1].text
    assert "10 bits, which libvpx-vp9 has not here" in eight
    asked = [("aq-mode", "3")]
    assert "aq-mode" not in [*judge(watched(19, 2, 12, "libx264", encoder_options=asked))][1].text
    assert "enable-variance-boost" in [*judge(watched(19, 2, 12, "libsvtav1"))][1].text


def test_debanding_that_does_nothing_is_told():
    clean, _ = judge(watched(0.2, 0.1, 0.2, "libx265"))
    assert clean.text == "The source has hardly any banding (CAMBI 0.2)."
    useless, _ = judge(watched(8, 8.5, 8.5, "libx265"))
    assert useless.warn
    assert "Debanding didn't lower CAMBI (8.0, then 8.5)" in useless.text
    seen = watched(0.5, 0.1, 0.1, "libx265")
    assert seen.cambi is not None
    shares, _ = judge(replace(seen, cambi=None, banding=seen.cambi))  # of pictures that CAMBI doesn't score
    assert "took banding from 50.0 % to 10.0 %" in shares.text


@pytest.mark.skipif(sys.platform == "win32", reason="the browser of the tests is Debian's")
def test_encoders_that_really_bring_bands_back_are_caught(tmp_path):
    source, page = tmp_path / "in.mkv", tmp_path / "page.html"
    make(source, draw=banded, width=WIDTH, height=HEIGHT, times=range(6))
    options = [
        "--codec",
        "libx264",
        "--pix-fmt",
        "source",
        "--crf",
        "30",
        "--dither",
        "none",
        "--device",
        "cpu",
    ]
    assert cli.main([str(source), str(tmp_path / "out.mkv"), "--report", str(page), *options]) == 0
    assert any(sentence["warn"] for sentence in data_of(page)["verdict"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def look(browser: Browser, job: tuple[Path, Path, Path]) -> Iterator[Callable[..., Page]]:
    """Opens the report; at the end, nothing may have been complained about, or asked of a network."""
    complaints: list[str] = []
    requests: list[str] = []
    pages: list[Page] = []

    def look(width: int = 1280, **settings: Any) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900}, **settings)
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(job[2].as_uri())
        await_drawn(page, 0)
        return page

    yield look
    for page in pages:
        page.close()
    assert not complaints
    assert all(url.startswith(("file:", "data:")) for url in requests)


def await_drawn(page: Page, times: int) -> None:
    page.wait_for_function(f"Number(document.getElementById('picture').dataset.drawn) > {times}")


def drawn(page: Page) -> int:
    return int(page.locator("#picture").get_attribute("data-drawn") or 0)


def pixels(page: Page) -> np.ndarray:
    """What's seen of the picture, the divider's line too: (height, width, 3)."""
    picture = page.locator("#picture")
    y = picture.bounding_box()["y"]
    with av.open(io.BytesIO(picture.screenshot()), "r", format="png_pipe") as container:
        shot = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    return shot[round(y) - int(y) :][:HEIGHT]  # there's a row more where it lies between pixels of the page


def after(page: Page, act: Callable[[], object]) -> np.ndarray:
    """The pixels once something has been done that draws anew."""
    count = drawn(page)
    act()
    await_drawn(page, count)
    return pixels(page)


def test_the_picture_is_shown_one_to_one_in_its_colours(look, job):
    page = look()
    shown = pixels(page)
    assert shown.shape == (HEIGHT, WIDTH, 3)
    assert page.locator("#picture").bounding_box()["width"] == WIDTH
    number = int(data_of(job[2])["frames"][0]["where"].split()[1].rstrip(","))
    with av.open(str(job[0])) as container:
        frame = [*container.decode(video=0)][number]
        frame.colorspace, frame.color_range = 5, 1
        expected = frame.to_ndarray(format="rgb24", src_colorspace="itu601").astype(int)
    assert np.abs(shown - expected)[:, : WIDTH // 2 - 4].mean() < 1


def test_the_divider_moves_by_keys_and_by_mouse(look):
    page = look()
    page.locator("#left").select_option("source")
    before = after(page, lambda: page.locator("#contrast").fill("5"))
    slider = page.locator("#split")
    slider.focus()
    page.keyboard.press("End")  # where the divider's line is at the edge
    assert page.locator("#divider").evaluate("d => d.style.left") == f"{WIDTH}px"
    left = pixels(page)
    page.keyboard.press("Home")
    right = pixels(page)
    assert np.array_equal(before[:, : WIDTH // 2 - 4], left[:, : WIDTH // 2 - 4])
    assert np.array_equal(before[:, WIDTH // 2 + 4 :], right[:, WIDTH // 2 + 4 :])
    assert np.abs(left - right).mean() > 2
    page.keyboard.press("ArrowRight")
    box = page.locator("#picture").bounding_box()
    page.locator("#divider").hover()
    page.mouse.down()
    page.mouse.move(box["x"] + 80, box["y"] + 50)
    page.mouse.up()
    assert float(slider.input_value()) == pytest.approx(1000 * 80 / WIDTH, abs=8)


def test_the_contrast_knob_shows_bands_of_the_source_alone(look):
    page = look()

    def unevenness(part: slice, picture: np.ndarray) -> float:
        return float(picture[40:200, part].mean(2).reshape(32, 5, -1, 5).mean((1, 3)).std())

    calm = pixels(page)
    raised = after(page, lambda: page.locator("#contrast").fill("5"))
    assert page.locator("#factor").inner_text() == "x32"
    left, right = slice(30, 130), slice(190, 290)
    assert unevenness(left, raised) > 3 * unevenness(left, calm)
    assert unevenness(left, raised) > 2 * unevenness(right, raised)


def test_changes_lie_over_the_picture_and_pictures_can_be_chosen(look, job):
    page = look()
    calm = pixels(page)
    covered = after(page, lambda: page.locator("#overlay").check())
    assert np.abs(covered - calm).mean() > 3
    after(page, lambda: page.locator("#right").select_option("source"))
    assert np.array_equal(pixels(page)[:, :100], calm[:, :100])  # nothing has changed from source to source
    page.locator("#overlay").uncheck()
    frames = page.locator("input[name=frame]")
    assert frames.count() == 4
    second = after(page, lambda: frames.nth(1).check())
    assert not np.array_equal(second, calm)
    assert page.locator("#where").inner_text() == data_of(job[2])["frames"][1]["where"]


def test_curves_can_be_read_by_mouse_by_keys_and_as_a_table(look, job):
    page = look()
    curves = data_of(job[2])["curves"]
    chart = page.locator("#banding svg").first
    assert chart.locator("path").count() == 3
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    legend = page.locator("#banding .legend").inner_text()
    assert f"{curves['banding']['source'][1]:.2f}" in legend
    assert curves["clocks"][1] in legend
    page.get_by_text("As a table").click()
    assert page.locator("#curves tr").count() == FRAMES + 1


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_at_any_width_in_light_and_dark(look, width, scheme):
    page = look(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper, ink = (
        page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
    )
    brightness = [np.mean([int(v) for v in colour[4:-1].split(",")]) for colour in (paper, ink)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    assert abs(brightness[0] - brightness[1]) > 150
    sizes = page.evaluate("""[...document.querySelectorAll('body *')].filter(e => e.innerText?.trim())
        .map(e => parseFloat(getComputedStyle(e).fontSize))""")
    assert min(sizes) >= 12
    for control in ("#left", "#right", "#contrast", "#overlay", "#split", "input[name=frame]"):
        box = page.locator(control).first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, control


def test_the_divider_stays_in_sight_where_the_picture_scrolls(look):
    page = look(250)
    stage = page.locator("#stage")
    visible = stage.evaluate("s => s.clientWidth")
    assert visible < WIDTH
    stage.evaluate("s => { s.scrollLeft = 60 }")
    page.wait_for_function(f"document.getElementById('divider').style.left === '{60 + round(visible / 2)}px'")


def test_all_controls_have_names(look):
    page = look()
    unnamed = page.evaluate("""[...document.querySelectorAll('input, select')].filter(
        e => !e.labels.length && !e.getAttribute('aria-label')).map(e => e.id)""")
    assert unnamed == []
