"""Reads the tables of losses that a notebook shows as HTML, as fastai and Hugging Face's Trainer do."""

from html.parser import HTMLParser


def drawn_tables(html: str) -> str:
    """Return the rows of the tables in a text of HTML that have a loss, drawn with bars; "" if there are none."""
    if "<table" not in html or "loss" not in html.lower():
        return ""
    reader = _Reader()
    reader.feed(html)
    return "\n".join(_drawn(rows) for rows in reader.tables if rows and "loss" in " ".join(rows[0]).lower())


def _drawn(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cell or " " for cell in row) + " |" for row in rows if row]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""])


class _Reader(HTMLParser):
    """Keeps the cells of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._is_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 (html.parser's)
        if tag in ("table", "tr"):
            self._is_cell = False  # whether or not the one before has an end
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables and self.tables[-1]:
            self.tables[-1][-1].append("")
            self._is_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "table"):
            self._is_cell = False

    def handle_data(self, data: str) -> None:
        if self._is_cell:
            self.tables[-1][-1][-1] += " ".join(data.split()).replace("|", "/")
