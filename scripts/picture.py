"""Draw docs/run.svg: the terminal at the end of a real run of the digest workflow."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from flowcraft.app import FlowCraft
from flowcraft.cli.progress import Progress, table
from flowcraft.cli.run import show

FILE = "workflows/digest.yaml"
PICTURE = Path("docs/run.svg")


async def main() -> None:
    """Run the workflow and draw how the terminal looks at its end."""
    console = Console(record=True, width=104, force_terminal=True, color_system="truecolor", file=io.StringIO(), emoji=False)
    progress = Progress()
    async with FlowCraft() as flow:
        flow.subscribe(progress)
        result = await flow.run(FILE, {"paths": ["README.md", "docs/language.md", "docs/durable.md", "docs/plugins.md"]})
    console.print(Text(f"$ flowcraft run {FILE}", style="bold"))
    console.print(table(progress))
    console.print()
    show(result, console, console)
    # Without the fonts that the format would fetch from elsewhere: any monospaced one will do.
    form = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(PICTURE), title="flowcraft run", code_format=form)


if __name__ == "__main__":
    asyncio.run(main())
