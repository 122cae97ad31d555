"""Tables of text, as every report of the load tests prints them."""

from collections.abc import Container, Sequence


def lined_up(rows: Sequence[Sequence[object]], left: Container[int] = (0,)) -> str:
    """Line rows up, the first being the head; the columns numbered in `left` stand to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
