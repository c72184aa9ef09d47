"""The reference of the commands, from their own help."""

import typer
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from stnrot.cli import app


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str | None:
    """Add the help of `stnrot` and of each of its commands to the page."""
    if page.file.src_uri != "reference/commands.md":
        return None
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="stnrot")
    return f"{markdown}\n\n{get_docs_for_click(obj=command, ctx=context, indent=1, name='stnrot')}"
