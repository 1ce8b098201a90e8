"""What MkDocs needs to know of this repository: pages that lie outside docs/, and links between all of them.

Pages are written to be read where they lie, in an editor or on a forge: README.md names docs/predict.md, a page of
docs/ names a bundle's README. Each link is followed from the page's own place; it becomes a link of the site if the
file is a page or a picture of it, and plain text if it is any other file of the repository. A link that leads nowhere
stays as it is, and MkDocs refuses it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

#: File of the repository → page of the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    **{
        path.relative_to(ROOT).as_posix(): f"bundles/{path.parts[-3]}.md"
        for path in sorted(ROOT.glob("bundles/*/docs/README.md"))
    },
}

#: `[text](target#anchor)`, and the picture `![text](target)`.
LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in PAGES.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    here = posixpath.dirname(place_of(page.file.src_uri))

    def follow(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, match["target"]))
        shown = PAGES.get(target) or target.removeprefix("docs/")
        if files.get_file_from_path(shown) is not None:
            way = posixpath.relpath(shown, posixpath.dirname(page.file.src_uri) or ".")
            return f"{match['text']}({way}{match['anchor'] or ''})"
        if (ROOT / target).exists():
            return match["text"].strip("![]")
        return match[0]

    return LINK.sub(follow, markdown)


def place_of(page: str) -> str:
    """The file of the repository that a page of the site was made from."""
    places = {shown: source for source, shown in PAGES.items()}
    return places.get(page, f"docs/{page}")
