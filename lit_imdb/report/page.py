"""`report.html`: the pictures and tables of a run in one file that needs no network."""

import base64
import html
import re
from collections.abc import Mapping
from importlib.resources import files
from string import Template

from lit_imdb.report.panels import PANELS, Panel
from lit_imdb.report.tables import Table


def page(summary: Mapping[str, str], drawn: Mapping[str, bytes | Table]) -> str:
    """Return the whole page.

    Args:
        summary: Names and values, not yet escaped.
        drawn: PNG files and tables by tag.
    """
    parts = []
    for heading, panels in PANELS.items():
        shown = [_shown(panel, drawn[panel.tag]) for panel in panels if panel.tag in drawn]
        parts += [f"<h2>{html.escape(heading)}</h2>", '<div class="panels">', *shown, "</div>"]
    table = Table(["run", ""], list(summary.items())).html()
    template = files("lit_imdb.report").joinpath("page.html").read_text("utf-8")
    return Template(template).substitute(summary=table, sections="\n".join(parts))


def _shown(panel: Panel, content: bytes | Table) -> str:
    title = html.escape(panel.title)
    caption = re.sub(r"(--[\w.]+)", r"<code>\1</code>", html.escape(panel.caption))
    if isinstance(content, Table):
        return f'<div class="wide"><h3>{title}</h3><p>{caption}</p>\n{content.html()}</div>'
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    image = f'<img alt="{title}" width="600" height="450" src="{source}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
