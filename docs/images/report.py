"""Photograph a report: python docs/images/report.py outputs/sweeps/<time>/report/index.html

Writes report.png (light, its upper part) and report-phone.png (dark, 390 points wide) beside this
file. Needs Chromium and its driver.
"""

import base64
import shutil
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait


def photograph(page: Path, picture: Path, width: int, height: int, scheme: str) -> None:
    """The upper part of a page as a PNG, `width` x `height` points."""
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    options.binary_location = shutil.which("chromium") or ""
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options, service) as browser:
        scheme_asked = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme_asked)
        screen = {"mobile": width < 600, "width": width, "height": height, "deviceScaleFactor": 1}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(page.absolute().as_uri())
        drawn = "return actsweep.charts.every((chart) => !chart.visible || chart.view)"
        WebDriverWait(browser, 30).until(lambda _: browser.execute_script(drawn))
        taken = browser.execute_cdp_cmd("Page.captureScreenshot", {})
        picture.write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    here = Path(__file__).parent
    photograph(Path(sys.argv[1]), here / "report.png", 1000, 1490, "light")
    photograph(Path(sys.argv[1]), here / "report-phone.png", 390, 1400, "dark")
