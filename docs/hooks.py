"""What mkdocs.yml adds to mkdocs: files outside of docs/ are parts of the site too, so that each exists in one place.

docs/ is the root of the site, beside which those files keep their paths: docs/design.md becomes design.md, and
CONTRIBUTING.md stays what it is. Links are written as the repository has them, and carried over here.
"""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "NOTICE",
    "scenes/README.md",
    "scenes/contact_sheet.png",
)
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)")


def in_site(path: str) -> str:
    """Path in the site of a file of the repository."""
    return path.removeprefix("docs/")


def in_repository(path: str) -> str:
    """Path in the repository of a file of the site."""
    return path if path in OUTSIDE else f"docs/{path}"


def carried(markdown: str, page: str) -> str:
    """Text of a page (its path in the repository) with links that lead to the same files in the site."""
    folder = posixpath.dirname(page)

    def link(match: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        return "](" + posixpath.relpath(in_site(target), posixpath.dirname(in_site(page)) or ".")

    return LINK.sub(link, markdown)


def on_files(files, config):
    """Add the files outside of docs/."""
    from mkdocs.structure.files import File

    for path in OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, **_):
    """Carry the links of every page over."""
    return carried(markdown, in_repository(page.file.src_uri))
