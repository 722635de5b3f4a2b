"""The page in headless Chromium. Skipped, saying so, where Chromium or its driver is not installed."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from selenium import webdriver
from selenium.common.exceptions import (
    MoveTargetOutOfBoundsException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from autoscaler.fleetpage.page import fleet_routes
from autoscaler.fleetpage.view import FleetView
from scheduler.bill import Bill
from tests.fleetpage.picture import demo_bills, demo_view

pytestmark = pytest.mark.browser
WAIT_SECONDS = 60.0
# The page draws itself anew every second or two: what was found may be gone before it is looked at.
DRAWN_ANEW = (NoSuchElementException, StaleElementReferenceException, MoveTargetOutOfBoundsException)


class Source:
    """What the page is served from; tests change ``view``."""

    def __init__(self) -> None:
        self.view: FleetView = demo_view()
        self.broken = False

    def read(self) -> FleetView:
        if self.broken:
            raise RuntimeError("the fleet cannot be read")
        return self.view

    def bills(self, namespace: str, pod: str) -> list[Bill]:
        return demo_bills(self.view)


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        missing = "Chromium" if binary is None else "chromedriver"
        pytest.skip(f"{missing} is not installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1500,1400"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def url(source: Source) -> Iterator[str]:
    app = FastAPI()
    app.include_router(fleet_routes(source.read, source.bills))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=WAIT_SECONDS)
    listener.close()


@pytest.fixture
def page(chromium: webdriver.Chrome, url: str) -> webdriver.Chrome:
    chromium.get(url)
    eventually(
        chromium,
        lambda browser: browser.find_element(By.TAG_NAME, "body").get_attribute("data-loaded") == "yes",
    )
    return chromium


def eventually(browser: webdriver.Chrome, look: Callable[[webdriver.Chrome], object]) -> None:
    WebDriverWait(browser, WAIT_SECONDS, ignored_exceptions=DRAWN_ANEW).until(look)


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    """What the elements say, read at one moment."""
    script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)"
    return list(browser.execute_script(script, selector))


def text_of(browser: webdriver.Chrome, selector: str) -> str:
    return texts(browser, selector)[0]


def choose(browser: webdriver.Chrome, name: str, value: str) -> None:
    """Choose in a list of the page as a user does."""

    def chosen(page: webdriver.Chrome) -> bool:
        Select(page.find_element(By.ID, name)).select_by_value(value)
        return True

    eventually(browser, chosen)


def cards(browser: webdriver.Chrome) -> int:
    return len(browser.find_elements(By.CSS_SELECTOR, "article.node"))


def test_every_node_is_drawn_with_its_gpus_and_nothing_fails_in_the_console(
    page: webdriver.Chrome, source: Source
) -> None:
    assert cards(page) == len(source.view.nodes)
    # Each bar says in words what it shows in colours.
    script = (
        "return [...document.querySelectorAll('.bar')].map((bar) => bar.getAttribute('aria-label') || '')"
    )
    labels = page.execute_script(script)
    assert len(labels) == source.view.totals.gpus
    assert all(label.startswith("GPU ") for label in labels)
    for kind in ("free", "k1", "whole"):
        assert page.find_elements(By.CSS_SELECTOR, f".unit.{kind}")
    assert f"{source.view.totals.gpus}" in text_of(page, "#totals")
    problems = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert problems == []


def test_choosing_a_pod_prices_every_node_and_lists_the_best_four_term_by_term(
    page: webdriver.Chrome,
) -> None:
    choose(page, "pod", "team-b/waiting-0")
    eventually(page, lambda browser: len(browser.find_elements(By.CSS_SELECTOR, "#bill tbody tr")) == 4)
    bill = text_of(page, "#bill")
    for term in ("fragmentation", "nvlink", "carbon", "money", "locality", "total"):
        assert term in bill
    assert len(page.find_elements(By.CSS_SELECTOR, "article.node .price")) == cards(page)
    assert len(page.find_elements(By.CSS_SELECTOR, ".price.best")) == 1
    totals = [float(text) for text in texts(page, "#bill td.total")]
    assert totals == sorted(totals)


def test_the_page_follows_the_cluster_without_a_reload(page: webdriver.Chrome, source: Source) -> None:
    before = text_of(page, "#totals")
    source.view = demo_view(seed=9, fill=0.3, generation=2)
    eventually(page, lambda browser: text_of(browser, "#totals") != before)
    assert "state 2" in text_of(page, "#state")


def test_an_outage_is_said_and_the_last_picture_stays(page: webdriver.Chrome, source: Source) -> None:
    shown = cards(page)
    source.broken = True
    eventually(page, lambda browser: "what you see is old" in text_of(browser, "#state"))
    assert cards(page) == shown


def test_filters_narrow_the_nodes(page: webdriver.Chrome) -> None:
    everything = cards(page)
    choose(page, "zone", "GB")
    eventually(page, lambda browser: 0 < cards(browser) < everything)


def test_hovering_tells_what_a_unit_is(page: webdriver.Chrome) -> None:
    def told(browser: webdriver.Chrome) -> bool:
        unit = browser.find_element(By.CSS_SELECTOR, ".unit.k1")
        webdriver.ActionChains(browser).move_to_element(unit).perform()
        tip = browser.find_element(By.ID, "tip")
        return tip.is_displayed() and "1g." in tip.text and "team-a/pod-" in tip.text

    eventually(page, told)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(page: webdriver.Chrome, scheme: str) -> None:
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    pairs = page.execute_script(CONTRAST)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert pairs
    poor = {name: round(ratio, 2) for name, ratio in pairs.items() if ratio < 4.5}
    assert poor == {}


# The ratio of WCAG 2 between text and the colour that is painted behind it.
CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).slice(0, 4).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const found = {};
for (const selector of ["h1", "h1 span", "#totals dt", "#state", "label", "h2 small", ".facts", ".gpu b",
                        ".unit.k1", ".unit.k2", ".unit.k3", ".unit.k4", ".unit.k7", ".unit.whole",
                        "#legend li"]) {
  const node = document.querySelector(selector);
  if (!node) continue;
  node.style.transition = "none";
  const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
  found[selector] = (a + 0.05) / (b + 0.05);
}
return found;
"""
