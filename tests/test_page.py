"""The page in a real browser: typed into, submitted and read as a visitor does it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from child import Server, serving
from conftest import Trained

import lit_imdb

pytest.importorskip("uvicorn")
_REASON = "no selenium, the page is NOT tested: pip install selenium"
webdriver = pytest.importorskip("selenium.webdriver", reason=_REASON)
Keys = webdriver.Keys

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)

_NONE = "no browser, the page is NOT tested: apt-get install chromium chromium-driver"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=_NONE),
]


@pytest.fixture(scope="module")
def server(best: Path) -> Iterator[Server]:
    with serving(best) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as driver:
        yield driver


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """The page, fresh; at the end nothing must have complained in the console."""
    show_as(browser, width=1280)
    browser.get(f"http://127.0.0.1:{server.port}/")
    yield browser
    assert browser.get_log("browser") == []


def show_as(browser: Any, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def verdict(page: Any, said: str = "Probability") -> str:
    """The answer, once it has `said` in it."""
    place = page.find_element("id", "verdict")
    waiting(page).until(lambda _: said in place.text)
    return str(place.text)


def waiting(page: Any) -> Any:
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(page, 15)


def classify(page: Any, text: str = "") -> None:
    """Type a text and press the button."""
    page.find_element("id", "text").send_keys(text)
    page.find_element("id", "send").click()


@pytest.mark.parametrize("text", ["The film was lovely, great!", "The plot was awful, dull."])
def test_visitor_types_a_review_presses_the_button_and_reads_the_answer(
    page: Any, best: Path, text: str
) -> None:
    classifier = lit_imdb.load(best)
    (expected,) = classifier.predict(text)
    classify(page, text)
    assert verdict(page).startswith({"pos": "Positive", "neg": "Negative"}[expected.label])
    assert expected.probability
    assert f"{100 * expected.probability:.1f}" in verdict(page)
    words = page.find_elements("css selector", "#words .word")
    for word, (token, influence) in zip(words, classifier.explain(text), strict=True):
        assert word.text == token
        assert word.get_attribute("title")[0] == ("+" if influence > 0 else "\u2212")
        assert ("pos" if influence > 0 else "neg") in word.get_attribute("class")
    assert len({word.value_of_css_property("background-color") for word in words}) > 1


def test_keyboard_alone_is_enough(page: Any) -> None:
    box, button = page.find_element("id", "text"), page.find_element("id", "send")
    waiting(page).until(lambda page: page.switch_to.active_element == box)  # the browser's time
    box.send_keys("great", Keys.TAB)
    waiting(page).until(lambda page: page.switch_to.active_element == button)
    button.send_keys(Keys.ENTER)
    verdict(page)
    assert page.switch_to.active_element == button, "the focus stays where it was"
    box.send_keys(Keys.CONTROL + "a")
    box.send_keys("zebra", Keys.CONTROL + Keys.ENTER)
    verdict(page, "no known word to read")


def test_markup_in_an_answer_stays_text(page: Any) -> None:
    """The tokenizer drops angle brackets: here the page gets them all the same."""
    markup = "<img src=x onerror=\"document.title='owned'\">"
    page.execute_script(
        "show({label: 'pos', probability: 0.9, unknown_words: 0, words: [[arguments[0], 1]]})",
        markup,
    )
    assert page.find_element("id", "words").text == markup
    assert markup in page.find_element("id", "strongest").text
    assert "owned" not in page.title


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_page_needs_no_sideways_scrolling(page: Any, scheme: str) -> None:
    show_as(page, width=360, scheme=scheme)
    classify(page, "great " + "w" * 200)
    verdict(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    back = page.find_element("tag name", "body").value_of_css_property("background-color")
    brightness = sum(int(part) for part in back.strip("rgba()").split(",")[:3])
    assert (brightness < 3 * 128) == (scheme == "dark")


def test_the_report_of_a_run_opens_with_its_pictures_and_without_complaint(
    browser: Any, trained: Trained
) -> None:
    browser.get((trained.run / "report.html").as_uri())
    assert "test reviews right" in browser.find_element("tag name", "body").text
    pictures = browser.find_elements("tag name", "img")
    assert {picture.get_property("naturalWidth") for picture in pictures} == {600}
    assert browser.get_log("browser") == []


def test_complaint_of_the_server_is_shown(page: Any) -> None:
    for answer, said in (
        ("""new Response('{"error": "too many"}')""", "too many"),
        ("new Response('no JSON', {statusText: 'Too Large'})", "Too Large"),
        ("Promise.reject(new TypeError('refused'))", "cannot be reached"),
    ):
        page.execute_script(f"fetch = async () => {answer}")
        classify(page)
        verdict(page, said)
