"""Reports, as `bdinn-video --report` makes them, looked at in a real browser."""

import base64
import io
import json
import shutil
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

from bdinn_core import DebandOptions, cli
from bdinn_core.show.png import encode_png
from bdinn_core.show.verdict import Sentence, judge
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
        for version, file, span in (("source", before, 219), ("encoded", after, 4 * 219)):
            found = [unpack(plane) for plane in versions[version]]
            assert versions[version][0]["span"] == span
            assert all(np.array_equal(a, b) for a, b in zip(found, planes(file.frames[number]), strict=True))
        filtered = unpack(versions["filtered"][0])
        assert len(np.unique(filtered)) > 2 * len(np.unique(planes(before.frames[number])[0]))


def test_it_says_what_was_measured_asked_for_and_made(job):
    source, result, page = job
    data = data_of(page)
    curves = data["curves"]
    assert curves["times"] == pytest.approx([number / 25 for number in range(FRAMES)])
    cambi, shares, change = curves["charts"].values()
    for banding in (cambi, shares):
        assert np.mean(banding["source"]) > 3 * np.mean(banding["filtered"])
    assert all(0 < value < 1 for value in change["filtered"])
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


@pytest.mark.parametrize("pix_fmt", ["gray", "gbrp10le", "yuv420p16le"])
def test_pictures_that_are_small_or_of_other_kinds_have_reports_too(tmp_path, pix_fmt):
    source, page = tmp_path / "in.mkv", tmp_path / "page.html"
    make(source, pix_fmt=pix_fmt, width=70, height=50, times=[0])
    options = ["--codec", "ffv1", "--device", "cpu", "--report", str(page)]
    assert cli.main([str(source), str(tmp_path / "out.mkv"), *options]) == 0
    data = data_of(page)
    assert not any("CAMBI" in title for title in data["curves"]["charts"])  # it scores no smaller ones
    plane = data["frames"][0]["versions"]["source"][0]
    expected = planes(read(source).frames[0])[2 if pix_fmt == "gbrp10le" else 0]  # green, blue, red
    if pix_fmt == "yuv420p16le":
        expected = np.minimum(np.rint(expected / 16), 4095)  # of 16 bits, 12 are kept
        assert plane["span"] == 219 * 16
    assert np.abs(unpack(plane) - expected.astype(int)).max() <= 1e-9


def test_full_range_is_that_of_the_source_whatever_the_depth(tmp_path):
    """Strength 0 changes nothing, though codes of more bits aren't multiples there."""
    source, page = tmp_path / "in.png", tmp_path / "page.html"
    picture = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (220, 1))
    source.write_bytes(encode_png(np.stack([picture] * 3, -1)))
    options = ["--device", "cpu", "--strength", "0", "--report", str(page)]
    assert cli.main([str(source), str(tmp_path / "out.png"), *options]) == 0
    data = data_of(page)
    levels = [
        (unpack(plane) - plane["zero"]) / plane["span"]
        for plane in (data["frames"][0]["versions"][version][0] for version in VERSIONS)
    ]
    assert all(np.abs(level - levels[0]).max() * data["colours"]["steps"][0] < 0.04 for level in levels)
    assert max(data["curves"]["charts"]["Mean change, in 8-bit steps"]["encoded"]) < 0.01


def test_of_a_result_that_is_there_the_report_alone_is_made(job, tmp_path, capfd):
    source, result, page = job
    before = result.stat()
    options = ["--device", "cpu", "--codec", "libx264", "--crf", "12"]
    assert cli.main([str(source), str(result), "--report", str(tmp_path / "again.html"), *options]) == 0
    assert f"{result} is there already" in capfd.readouterr().err
    assert result.stat() == before
    assert data_of(tmp_path / "again.html")["curves"] == data_of(page)["curves"]


def test_a_result_that_is_there_must_be_the_jobs(job, tmp_path, capfd):
    source, result, _ = job
    options = ["--device", "cpu", "--codec", "libx264", "--report", str(tmp_path / "page.html")]
    assert cli.main([str(source), str(source), *options]) == 2
    assert "is the same file as the input" in capfd.readouterr().err
    assert cli.main([str(source), str(result), "--start", "0.2", *options]) == 1
    assert f"{result} has other pictures than this job makes" in capfd.readouterr().err
    assert cli.main([str(source), str(result), "--end", "0.2", *options]) == 1
    assert f"{result} has other pictures than this job makes" in capfd.readouterr().err
    small = make(tmp_path / "small.mkv", draw=banded, times=range(FRAMES))
    assert cli.main([str(source), str(small), *options]) == 1
    assert f"is 64x48 yuv420p, which isn't made of {WIDTH}x{HEIGHT} yuv420p" in capfd.readouterr().err
    short = make(tmp_path / "short.mkv", draw=banded, width=WIDTH, height=HEIGHT, times=range(3))
    assert cli.main([str(source), str(short), *options]) == 1
    assert "has fewer pictures than this job makes" in capfd.readouterr().err
    Path(f"{short}.bdinn").mkdir()
    Path(f"{short}.bdinn", "manifest.json").write_text("{}")
    assert cli.main([str(source), str(short), *options]) == 2
    assert "is being made anew: add -y to go on with that" in capfd.readouterr().err


def test_a_result_of_a_part_has_a_report_of_it(tmp_path, data_dir):
    arguments = [str(data_dir / "vp90-2-05-resize.ivf"), str(tmp_path / "out.mkv"), "--keep-partial"]
    options = ["--device", "cpu", "--preset", "ultrafast", "--report", str(tmp_path / "page.html")]
    assert cli.main([*arguments, *options]) == 3
    data = data_of(tmp_path / "page.html")
    assert data["verdict"][0]["warn"]
    assert "what came before is kept" in data["verdict"][0]["text"]


def test_a_report_that_cannot_be_made_leaves_the_result(job, tmp_path, monkeypatch, capfd):
    def fail(*_: Any) -> None:
        raise OSError(5, "no more of it")

    monkeypatch.setattr("bdinn_core.show.report.watch", fail)
    arguments = [str(job[0]), str(tmp_path / "out.mkv"), "--codec", "ffv1", "--device", "cpu"]
    assert cli.main([*arguments, "--report", str(tmp_path / "page.html"), "--progress", "json"]) == 1
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert "out.mkv is complete, but its report can't be made" in events[-1]["text"]
    assert "done" not in [event["event"] for event in events]
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


def watched(
    source: float, filtered: float, encoded: float, codec: str, worse: float = 1, **encoding: Any
) -> Watched:
    """A hundred pictures, of which that share is encoded so, and the others as they were filtered."""
    bad = round(100 * worse)
    scores = {
        "source": [source] * 100,
        "filtered": [filtered] * 100,
        "encoded": [encoded] * (bad - 1) + [encoded + 1] + [filtered] * (100 - bad),
    }
    shares = {version: [value / 30 for value in values] for version, values in scores.items()}
    plan = plan_encoding(codec, info(), **encoding)
    times = [Fraction(n) for n in range(100)]
    return Watched(source=info(), result=info(), encoding=plan, times=times, banding=shares, cambi=scores)


def say(seen: Watched, output: str = "out.mkv", **options: Any) -> list[Sentence]:
    return [*judge(seen, DebandOptions(**options), output)]


def test_bands_brought_back_by_the_encoder_are_told_with_what_to_change():
    good = say(watched(19, 2, 4, "libx265"))
    assert [sentence.warn for sentence in good] == [False, False]
    assert good[1].text.startswith("The encoder keeps the gradients; in the file: CAMBI 4.0, ")
    bad = say(watched(19, 2, 12, "libx265", crf=24.0))[1]
    assert bad.warn
    assert "brings bands back in 100 of 100 pictures, most at 0:01:39.000 (CAMBI 2.0 before" in bad.text
    assert "a lower --crf, as 20 instead of 24; -e aq-mode=3" in bad.text
    asked = [("aq-mode", "3")]
    assert "aq-mode" not in say(watched(19, 2, 12, "libx264", encoder_options=asked))[1].text
    assert "enable-variance-boost" in say(watched(19, 2, 12, "libsvtav1"))[1].text
    assert "--grain" not in say(watched(19, 2, 12, "libx264"), grain=1.0)[1].text


def test_bands_that_come_back_in_a_part_are_told_too():
    assert "in 30 of 100 pictures" in say(watched(15, 2, 15, "libx265", worse=0.3))[1].text
    assert not say(watched(15, 2, 15, "libx265", worse=0.02))[1].warn


def test_how_to_get_ten_bits():
    eight = watched(19, 2, 12, "libvpx-vp9")
    assert "which libvpx-vp9 hasn't here: --codec libx265 or libsvtav1" in say(eight)[1].text
    assert "which libvpx-vp9 hasn't here: --codec libsvtav1;" in say(eight, "out.webm")[1].text
    asked = say(watched(19, 2, 12, "libx265", pix_fmt="yuv420p"))[1].text
    assert "10 bits, by leaving out --pix-fmt and --output-depth" in asked


def test_debanding_that_does_nothing_is_told():
    clean = say(watched(0.2, 0.1, 0.2, "libx265"))[0]
    assert clean.text.startswith("The source has hardly any banding: CAMBI 0.2, ")
    useless = say(watched(8, 8.5, 8.5, "libx265"))[0]
    assert useless.warn
    assert "left bands (CAMBI from 8.0 to 8.5" in useless.text
    undithered = say(watched(8, 8, 8, "libx264", pix_fmt="yuv420p"), dither="none")[0]
    assert "8 bits without dither keep them: 10 bits, by leaving out --pix-fmt" in undithered.text
    seen = replace(watched(15, 3, 3, "libx265"), cambi=None)  # of pictures that CAMBI doesn't score
    assert "took pixels at edges of bands from 50.0 % to 10.0 %" in say(seen)[0].text


def test_bands_that_one_measure_does_not_see_are_told_by_the_other():
    """CAMBI looks for steps of one code, and bands of four are worse."""
    seen = watched(20, 1, 1, "libx265")
    assert seen.cambi is not None
    blind = replace(seen, cambi={version: [0.0] * 100 for version in seen.cambi})
    assert say(blind)[0].text.startswith("Debanding took pixels at edges of bands from 66.7 %")


def test_encoders_that_really_bring_bands_back_are_caught(tmp_path):
    source, page = tmp_path / "in.mkv", tmp_path / "page.html"
    make(source, draw=banded, width=WIDTH, height=HEIGHT, times=range(6))
    options = ["--codec", "libx264", "--pix-fmt", "source", "--crf", "30", "--device", "cpu"]
    assert cli.main([str(source), str(tmp_path / "out.mkv"), "--report", str(page), *options]) == 0
    took, back = data_of(page)["verdict"]
    assert took["text"].startswith("Debanding took ")
    assert "The encoder brings bands back in 6 of 6 pictures" in back["text"]


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
    assert page.locator("#charts figure").count() == 3
    chart = page.locator("#charts svg[tabindex]").first
    assert chart.locator("path").count() == 3
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    legend = page.locator("#charts .legend").first.inner_text()
    cambi = next(iter(curves["charts"].values()))
    assert f"{cambi['source'][1]:.2f}" in legend
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


def test_the_last_choice_wins_however_quick(look):
    page = look()
    expected = after(page, lambda: page.locator("#left").select_option("encoded"))
    page.evaluate("""() => { for (const version of ["filtered", "source", "encoded"]) {
        document.getElementById("left").value = version;
        document.getElementById("left").dispatchEvent(new Event("change")); } }""")
    page.wait_for_timeout(300)
    assert np.array_equal(pixels(page), expected)


def test_a_pixel_of_the_picture_is_one_of_the_screen(look):
    page = look(device_scale_factor=2)
    assert page.locator("#picture").bounding_box()["width"] == WIDTH / 2
    assert page.locator("#divider").evaluate("d => d.style.left") == f"{WIDTH // 4}px"


def test_all_controls_have_names(look):
    page = look()
    unnamed = page.evaluate("""[...document.querySelectorAll('input, select')].filter(
        e => !e.labels.length && !e.getAttribute('aria-label')).map(e => e.id)""")
    assert unnamed == []
