"""PDF and DOCX files made from Markdown, so that the truth about them is known."""

from __future__ import annotations

import io
import random
import re

WORDS = [
    "the",
    "river",
    "carries",
    "water",
    "from",
    "the",
    "northern",
    "mountains",
    "to",
    "mills",
    "along",
    "its",
    "banks",
    "where",
    "millers",
    "grind",
    "wheat",
    "and",
    "barley",
    "for",
    "towns",
    "whose",
    "markets",
    "open",
    "early",
    "every",
    "season",
    "brings",
    "another",
    "harvest",
    "although",
    "floods",
    "occasionally",
    "interrupt",
    "transportation",
    "between",
    "settlements",
    "and",
    "merchants",
    "consequently",
    "reconsider",
    "international",
    "arrangements",
]


def book(sections: int = 12, seed: int = 1) -> str:
    """A Markdown book: chapters, sections, paragraphs, lists and tables with words that occur only there."""
    rng = random.Random(seed)
    parts = []
    for chapter in range(1, sections + 1):
        parts.append(f"# {chapter} Chapter about {rng.choice(WORDS)} number {chapter}")
        for section in range(1, 4):
            parts.append(f"## {chapter}.{section} Section on {rng.choice(WORDS)} and {rng.choice(WORDS)}")
            for _ in range(3):
                text = " ".join(rng.choices(WORDS, k=rng.randint(40, 90)))
                parts.append(f"{text[0].upper()}{text[1:]}.")
            if section == 2:
                parts.append("\n".join(f"- {' '.join(rng.choices(WORDS, k=rng.randint(3, 14)))}" for _ in range(4)))
            if section == 3:
                rows = [["Name", "Amount", "Note"]] + [
                    [rng.choice(WORDS), f"{rng.randint(1, 9999)}", " ".join(rng.choices(WORDS, k=2))] for _ in range(5)
                ]
                lines = ["| " + " | ".join(row) + " |" for row in rows]
                parts.append("\n".join([lines[0], "|---|---|---|", *lines[1:]]))
    return "\n\n".join(parts)


def parsed(markdown: str) -> list[tuple[str, int, object]]:
    """Kind, level and content of each part of `book`'s Markdown."""
    found: list[tuple[str, int, object]] = []
    for part in markdown.split("\n\n"):
        if heading := re.match(r"(#+) (.*)", part):
            found.append(("heading", len(heading[1]), heading[2]))
        elif part.startswith("- "):
            found.extend(("list_item", 1, line[2:]) for line in part.split("\n"))
        elif part.startswith("|"):
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.split("\n")]
            found.append(("table", 0, [rows[0], *rows[2:]]))
        else:
            found.append(("paragraph", 0, part))
    return found


def pdf(markdown: str, columns: int = 2, *, ruled: bool = True, outline: bool = False, password: str = "") -> bytes:
    """Typeset Markdown: justified, hyphenated, with running headers and page numbers."""
    from reportlab.lib import colors
    from reportlab.lib.enums import TA_JUSTIFY
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.lib.units import cm
    from reportlab.platypus import BaseDocTemplate, Frame, PageTemplate, Paragraph, Spacer, Table, TableStyle

    text = ParagraphStyle("text", fontName="Times-Roman", fontSize=10, leading=12, alignment=TA_JUSTIFY, spaceAfter=6)
    headings = {
        1: ParagraphStyle(
            "h1", fontName="Times-Bold", fontSize=16, leading=20, spaceBefore=12, spaceAfter=8, keepWithNext=1
        ),
        2: ParagraphStyle(
            "h2", fontName="Times-Bold", fontSize=12, leading=15, spaceBefore=8, spaceAfter=4, keepWithNext=1
        ),
    }
    item = ParagraphStyle("item", parent=text, leftIndent=14, bulletIndent=2, spaceAfter=2)
    width, height = A4
    gutter = 0.8 * cm
    frame_width = (width - 4 * cm - gutter * (columns - 1)) / columns
    frames = [
        Frame(2 * cm + index * (frame_width + gutter), 2.2 * cm, frame_width, height - 4.6 * cm, 0, 0, 0, 0)
        for index in range(columns)
    ]

    def edge(canvas, _document) -> None:
        canvas.setFont("Times-Roman", 9)
        canvas.drawString(2 * cm, height - 1.5 * cm, "A Book of Mills and Rivers")
        canvas.drawCentredString(width / 2, 1.2 * cm, f"{canvas.getPageNumber()}")

    class Template(BaseDocTemplate):
        def afterFlowable(self, flowable) -> None:  # noqa: N802 - reportlab's name
            if outline and getattr(flowable, "level", 0):
                key = f"h{id(flowable)}"
                self.canv.bookmarkPage(key)
                self.canv.addOutlineEntry(flowable.title, key, flowable.level - 1)

    flow = []
    for kind, level, content in parsed(markdown):
        if kind == "heading":
            flowable = Paragraph(content, headings[level])
            flowable.level, flowable.title = level, content
        elif kind == "list_item":
            flowable = Paragraph(content, item, bulletText="\u2022")
        elif kind == "table":
            flowable = Table(content, hAlign="LEFT", spaceBefore=4, spaceAfter=8)
            style = [("FONT", (0, 0), (-1, 0), "Times-Bold", 9), ("FONT", (0, 1), (-1, -1), "Times-Roman", 9)]
            if ruled:
                style.append(("GRID", (0, 0), (-1, -1), 0.5, colors.black))
            flowable.setStyle(TableStyle([*style, ("NOSPLIT", (0, 0), (-1, -1))]))
        else:
            flowable = Paragraph(content, text)
        flow += [flowable, Spacer(1, 2)] if kind == "table" else [flowable]
    data = io.BytesIO()
    encrypt = {"encrypt": password} if password else {}
    document = Template(
        data, pagesize=A4, pageTemplates=[PageTemplate("page", frames, onPage=edge)], invariant=1, **encrypt
    )
    document.build(flow)
    return data.getvalue()


def docx(markdown: str) -> bytes:
    """A Word document of Markdown, with a running header and a footer."""
    import docx as python_docx

    document = python_docx.Document()
    document.sections[0].header.paragraphs[0].text = "Running header"
    document.sections[0].footer.paragraphs[0].text = "Running footer"
    for kind, level, content in parsed(markdown):
        if kind == "heading":
            document.add_heading(content, level)
        elif kind == "list_item":
            document.add_paragraph(content, style="List Bullet")
        elif kind == "table":
            table = document.add_table(rows=0, cols=len(content[0]), style="Table Grid")
            for row in content:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
        else:
            document.add_paragraph(content)
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()
