"""Settings of the documentation's build (`make docs`)."""

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # autodoc imports this checkout

from tasks.models import torchvision_shim  # noqa: E402, F401 (before Lightning, whose metrics import torchvision)

project = "s3bench"
author = copyright = "The s3bench developers"
version = release = installed_version("s3bench")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"

myst_heading_anchors = 3  # down to ###; links to these anchors are checked
napoleon_use_rtype = False  # "Returns:" begins with a sentence, not with a type
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
nitpicky = True  # a reference without a target is a warning, which `make docs` turns into an error
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|np|npt|pandas|pd|pathlib|collections|typing|subprocess)\..*|Tensor|Path")
]


class RepositoryLinks(SphinxTransform):
    """Resolves links to Markdown files and folders outside docs/.

    MyST itself checks links to other files, and copies these files. A Markdown file is copied as well; a link to a
    folder becomes its text. What does not exist is left to MyST, which warns.
    """

    default_priority = 999

    def apply(self, **_: Any) -> None:
        """Replace the links of one page."""
        here = Path(self.document["source"]).parent
        for link in list(self.document.findall(pending_xref)):
            if link["reftype"] != "myst":
                continue
            markdown = Path(f"{link['reftarget']}.md")
            if link["refdomain"] == "doc" and markdown.is_absolute() and markdown.is_file():
                target = os.path.relpath(markdown, here)
                link.replace_self(download_reference("", "", *link.children, reftarget=target, refdoc=link["refdoc"]))
            elif link["refdomain"] != "doc" and (here / link["reftarget"]).is_dir():
                link.replace_self(nodes.inline("", "", *link.children))


def mark_formulas(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Keep the lines of a docstring's formulas, which are indented paragraphs, and read |x| as text, not as markup."""
    paragraphs = "\n".join(lines).split("\n\n")
    marked = [f"::\n\n{text}" if text.startswith("    ") else text.replace("|", r"\|") for text in paragraphs]
    lines[:] = "\n\n".join(marked).split("\n")


def setup(app: Sphinx) -> None:
    """Register what is defined here."""
    app.add_transform(RepositoryLinks)
    app.connect("autodoc-process-docstring", mark_formulas, priority=400)  # before napoleon, at 500
