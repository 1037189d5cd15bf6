"""The screen of a terminal, text with colours on standard input, as SVG. Argument: its title."""

import re
import sys

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

lines = sys.stdin.read().rstrip("\n").split("\n")
text = Text.from_ansi("\n".join(lines), no_wrap=True)
width = max(len(line) for line in text.plain.split("\n"))
console = Console(width=width, record=True, file=open("/dev/null", "w"), color_system="truecolor", force_terminal=True)
console.print(text, soft_wrap=True)
# No fonts from elsewhere.
style = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
style = style.replace("Fira Code, monospace", "monospace")
svg = console.export_svg(title=sys.argv[1], code_format=style, unique_id="screen")


def moved(match: re.Match) -> str:
    """Some that draw SVG drop the spaces that a text begins with: it begins further right."""
    x = float(match["x"]) + 12.2 * len(match["spaces"]) / len("&#160;")
    return f'x="{x:g}"{match["y"]}{match["clip"]}>'


begin = r'x="(?P<x>[\d.]+)"(?P<y> y="[\d.]+") textLength="[\d.]+"(?P<clip>[^>]*)>(?P<spaces>(?:&#160;)+)(?!<)'
sys.stdout.write(re.sub(begin, moved, svg) + "\n")
