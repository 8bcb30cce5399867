"""`report.html`: the last figures and tables of a run in one file that needs no network."""

import base64
import html
from collections.abc import Iterable, Mapping

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1b1b1b; --line: #ccc; --head: #f2f2f2; }
@media (prefers-color-scheme: dark) {
  :root { --page: #16181c; --text: #e6e6e6; --line: #444; --head: #24272d; }
}
body { background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif;
  max-width: 1100px; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); }
figure { margin: 0 0 1rem; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-size: 0.875rem; }
th, td { border: 1px solid var(--line); padding: 0.3rem 0.5rem; text-align: start;
  vertical-align: top; }
td bdi { overflow-wrap: anywhere; }
td:has(bdi) { min-width: 9rem; }
th { background: var(--head); }
.for, .against { border-radius: 3px; padding: 0 2px; }
.for { background: rgb(0 114 178 / calc(0.6 * var(--strength))); }
.against { background: rgb(213 94 0 / calc(0.6 * var(--strength))); }
"""

# tag of a picture or table, its heading
_SECTIONS = (
    ("curves", "Training and validation"),
    ("test/evaluation", "Test part"),
    ("val/evaluation", "Validation part, last epoch"),
    ("trainability/through_time", "Can the network learn from its first words?"),
    ("words/space", "Word space"),
    ("words/neighbours", "Nearest neighbours of some words"),
    ("sentences/probability_of_positive", "Hand-written sentences: probability of positive"),
    ("test/mistakes", "Worst mistakes on the test part"),
    ("test/confident", "Most confident right answers on the test part"),
)


def page(rows: Mapping[str, str], pictures: Mapping[str, bytes], tables: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        rows: Names and values of the summary, not yet escaped.
        pictures: PNG files by tag.
        tables: HTML tables by tag, escaped.
    """
    sections = "\n".join(_sections(pictures, tables))
    summary = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>\n"
        for name, value in rows.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>lit-imdb: review of a run</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>lit-imdb: review of a run</h1>
<p>docs/review.md says what each panel means. In the tables of reviews
<span class="for" style="--strength:0.7">blue</span> words speak for a positive review and
<span class="against" style="--strength:0.7">orange</span> ones for a negative one.</p>
<div class="wide"><table>
{summary}</table></div>
{sections}
</body>
</html>
"""


def _sections(pictures: Mapping[str, bytes], tables: Mapping[str, str]) -> Iterable[str]:
    for tag, heading in _SECTIONS:
        title = html.escape(heading)
        if tag in pictures:
            data = base64.b64encode(pictures[tag]).decode()
            yield (
                f"<h2>{title}</h2>\n"
                f'<figure><img alt="{title}" src="data:image/png;base64,{data}"></figure>'
            )
        if tag in tables:
            yield f"<h2>{title}</h2>\n{tables[tag]}"
