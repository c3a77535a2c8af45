#!/usr/bin/python3
"""Opens a page of compare --html in headless Chromium.

    check_page.py PAGE

The console stays free of messages; a click on any heading sorts its table by that column, a second click the other way,
cells without a value last; nothing but tables is wider than a narrow screen. Before that it makes sure that a message on
the console would be seen. Exits 1 and says what is wrong.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

CLICK_ALL = """<pre id="found"></pre><script>
const found = {width: document.documentElement.scrollWidth, room: document.documentElement.clientWidth, columns: []};
for (const table of document.querySelectorAll('table')) {
  for (const heading of table.tHead.rows[0].cells) {
    const clicks = [];
    for (let click = 0; click < 2; ++click) {
      heading.querySelector('button').click();
      clicks.push({sort: heading.getAttribute('aria-sort'),
                   values: Array.from(table.tBodies[0].rows, row => row.cells[heading.cellIndex].dataset.value)});
    }
    found.columns.push({title: heading.textContent, clicks});
  }
}
document.getElementById('found').textContent = JSON.stringify(found);
</script>"""


def open_page(text, folder):
    """The page's document after its scripts, and what its console said."""
    page = pathlib.Path(folder, "page.html")
    page.write_text(text)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
               f"--user-data-dir={folder}/profile", "--window-size=500,900", "--enable-logging=stderr", "--dump-dom",
               page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "HOME": folder})
    return run.stdout, re.findall(r".*CONSOLE.*", run.stderr)


def number(value):
    try:
        return float(value)
    except ValueError:
        return None


def in_order(values, falling):
    """Whether values are sorted, numbers as numbers, with the empty ones last."""
    full = [value for value in values if value != ""]
    if values != full + [""] * (len(values) - len(full)):
        return False
    numbers = [number(value) for value in full]
    if None not in numbers:
        return numbers == sorted(numbers, reverse=falling)
    # A browser's collation looks at letters and digits before anything else.
    letters = ["".join(c for c in value.lower() if c.isalnum()) for value in full]
    return letters == sorted(letters, reverse=falling)


def main(arguments):
    if len(arguments) != 1:
        return __doc__
    page = pathlib.Path(arguments[0]).read_text()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if not open_page(page.replace("</body>", "<script>console.error('seen?')</script></body>"), folder)[1]:
            return "this test is broken: it does not see the console"
        console = open_page(page, folder)[1]
        if console:
            return "the console says:\n" + "\n".join(console)
        document, console = open_page(page.replace("</body>", CLICK_ALL + "</body>"), folder)
    if console:
        return "clicks make the console say:\n" + "\n".join(console)
    text = re.search(r'<pre id="found">(.*?)</pre>', document, re.DOTALL).group(1)
    for escaped, plain in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(escaped, plain)
    found = json.loads(text)
    if found["width"] > found["room"]:
        return f"the page is {found['width']} wide where {found['room']} fit"
    for column in found["columns"]:
        for click, falling in zip(column["clicks"], (False, True)):
            if click["sort"] != ("descending" if falling else "ascending"):
                return f"{column['title']}: aria-sort is {click['sort']}"
            if not in_order(click["values"], falling):
                return f"{column['title']}: a click leaves {click['values']}"
    print(f"{len(found['columns'])} columns sort both ways, the console is silent")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
