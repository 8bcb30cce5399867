"""`report.html`: the pictures and tables of a run in one file that needs no network."""

import base64
import html
import re
from collections.abc import Mapping
from importlib.resources import files
from string import Template

from lit_imdb.report.panels import PANELS
from lit_imdb.report.tables import Table


def page(summary: Mapping[str, str], drawn: Mapping[str, bytes | Table]) -> str:
    """The whole page.

    Args:
        summary: Names and values, not yet escaped.
        drawn: PNG files and tables by tag.
    """
    rows = [
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in summary.items()
    ]
    sections = [_section(heading, drawn) for heading in PANELS]
    template = files("lit_imdb.report").joinpath("page.html").read_text("utf-8")
    return Template(template).substitute(summary="\n".join(rows), sections="\n".join(sections))


def _section(heading: str, drawn: Mapping[str, bytes | Table]) -> str:
    """The pictures of a section side by side, then its tables."""
    pictures, tables = [], []
    for panel in PANELS[heading]:
        title = html.escape(panel.title)
        caption = re.sub(r"(--[\w.]+)", r"<code>\1</code>", html.escape(panel.caption))
        shown = drawn.get(panel.tag)
        if isinstance(shown, Table):
            tables.append(f'<h3>{title}</h3>\n<p class="soft">{caption}</p>\n{shown.html()}')
        elif shown:
            source = f"data:image/png;base64,{base64.b64encode(shown).decode()}"
            image = f'<img alt="{title}" width="600" height="450" src="{source}">'
            pictures.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    parts = [f"<h2>{html.escape(heading)}</h2>", '<div class="pictures">', *pictures, "</div>"]
    return "\n".join([*parts, *tables])
