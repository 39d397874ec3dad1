"""Documents whose declarations are labelled: what each governs, and what it does not.

A label is (the declaration's words, where it is in force, where it is not). Places are named by words that stand once in
the document. `TUNED` is what the rules were written on; `HELD_OUT` was labelled before there were rules, and first
measured when they were done; `TECHNICAL` is what manuals of programs have taught since.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Declared(NamedTuple):
    words: str
    holds: tuple[str, ...] = ()
    fails: tuple[str, ...] = ()


class Case(NamedTuple):
    name: str
    text: str
    declared: tuple[Declared, ...]
    plain: bool = False


ANNUAL_REPORT = Case(
    "annual report",
    """# Hollis Milling plc, annual report

## About this report

All numbers in this document are in millions unless we say otherwise. Amounts are reported in pounds sterling.

## Trading

Revenue was 812 after 790 the year before. The loss of the Severn contract cost 14 of gross profit.

### Overseas mills

In this section, amounts are stated in thousands of euros. The Lyon mill sold flour for 4,310. Its rent came to 97.

### Home mills

The home mills sold flour for 655.

## Pensions

In this section, "the Scheme" means the Hollis Pension Fund, closed to new members in 2009. The deficit of the Scheme was 31.

## Directors

The Scheme of arrangement with lenders was approved in May. Fees of directors were 2.
""",
    (
        Declared(
            "All numbers in this document are in millions",
            ("Revenue was 812", "cost 14 of gross", "flour for 655", "Scheme was 31", "directors were 2"),
            ("flour for 4,310", "came to 97"),
        ),
        Declared(
            "Amounts are reported in pounds sterling",
            ("Revenue was 812", "flour for 655", "directors were 2"),
            ("flour for 4,310",),
        ),
        Declared(
            "amounts are stated in thousands of euros",
            ("flour for 4,310", "came to 97"),
            ("Revenue was 812", "flour for 655", "directors were 2"),
        ),
        Declared('"the Scheme" means', ("deficit of the Scheme",), ("Scheme of arrangement",)),
    ),
)

MANUAL = Case(
    "software manual",
    """# Tern user manual

Throughout this manual, commands are entered in a POSIX shell. Text in angle brackets stands for a value of your own.

# Chapter 1: Installing

Download the archive and unpack it with `tar xf`. This means that no administrator rights are needed.

## On a server

Unless otherwise noted, the paths in this chapter are relative to /opt/tern. Edit conf/main.toml first.

## On a laptop

Put your key into conf/key.pem.

# Chapter 2: Running

Start it with `tern up <name>`. For the remainder of this chapter, we assume that the daemon listens on port 7070.

## Health

Ask `curl localhost:7070/health` for its state.

# Chapter 3: Backups

Copy var/data while the daemon is stopped.
""",
    (
        Declared(
            "Throughout this manual, commands are entered in a POSIX shell",
            ("unpack it with", "Ask `curl", "Copy var/data"),
        ),
        Declared(
            "the paths in this chapter are relative to /opt/tern",
            ("Edit conf/main.toml", "conf/key.pem"),
            ("Start it with", "Copy var/data"),
        ),
        Declared(
            "we assume that the daemon listens on port 7070",
            ("localhost:7070/health",),
            ("unpack it with", "Copy var/data"),
        ),
    ),
)

AGREEMENT = Case(
    "service agreement",
    """# Services agreement

This agreement is effective as of 1 March 2024 and remains in force until terminated.

## 1. Definitions

"Fees" means the amounts set out in Schedule B. “Confidential Information” shall mean any information disclosed by one party to the other. The term "Working Day" refers to a day on which banks in Leeds are open.

## 2. The parties

Aldred Ltd (the "Supplier") and Corin & Sons LLP (hereinafter referred to as the "Client") enter into this agreement.

## 3. Payment

The Client shall pay the Fees within ten days. A delay of one Working Day is tolerated.

## 4. Secrecy

For the purposes of this section, "Confidential Information" excludes price lists. The Supplier keeps Confidential Information safe.

## 5. Ending

On ending, all Confidential Information is returned. The Supplier refunds Fees paid ahead.

## Schedule A

The effective date of this schedule is 1 June 2025. Support is given by telephone.
""",
    (
        Declared(
            "This agreement is effective as of 1 March 2024",
            ("shall pay the Fees within", "keeps Confidential", "refunds Fees"),
            ("given by telephone",),
        ),
        Declared('"Fees" means', ("shall pay the Fees within", "refunds Fees paid"), ("given by telephone",)),
        Declared(
            "“Confidential Information” shall mean",
            ("all Confidential Information is",),
            ("keeps Confidential Information",),
        ),
        Declared('The term "Working Day" refers to', ("one Working Day is tolerated",)),
        Declared('Aldred Ltd (the "Supplier")', ("The Supplier keeps", "The Supplier refunds")),
        Declared('hereinafter referred to as the "Client"', ("The Client shall pay",)),
        Declared(
            '"Confidential Information" excludes',
            ("keeps Confidential Information",),
            ("all Confidential Information is",),
        ),
        Declared("The effective date of this schedule", ("given by telephone",), ("shall pay the Fees within",)),
    ),
)

PROTOCOL = Case(
    "laboratory protocol",
    """# Protein purification

All temperatures are in degrees Celsius. Volumes are given in millilitres unless otherwise stated.

## Lysis

Suspend the pellet in 40 of buffer and keep it at 4.

## Column

In this step, volumes are in microlitres. Load 250 onto the column and wash it twice with 900.

## Elution

Elute with 12 at room temperature. The yield means little before the gel has run. All samples are in the cold room.
""",
    (
        Declared("All temperatures are in degrees Celsius", ("keep it at 4", "Load 250", "Elute with 12")),
        Declared("Volumes are given in millilitres", ("pellet in 40", "Elute with 12"), ("Load 250",)),
        Declared("volumes are in microlitres", ("Load 250", "twice with 900"), ("pellet in 40", "Elute with 12")),
    ),
)

BULLETIN = Case(
    "bulletin with tables",
    """# Harbour statistics

## Freight

Table 1. Freight by quay (in thousands of tonnes)

| quay | 2022 | 2023 |
|------|------|------|
| North | 611 | 640 |
| South | 87 | 92 |

The new crane handled most of it.

## Passengers

| line | passengers |
|------|-----------|
| Ferry | 51200 |

Passenger figures in this table are rounded to the nearest hundred.

Did you ask whether all amounts are in dollars? They cost 5 million dollars in total.
""",
    (
        Declared(
            "(in thousands of tonnes)", ("611", "| South | 87"), ("51200", "5 million dollars", "new crane handled")
        ),
        Declared("Passenger figures in this table are rounded", ("51200",), ("611", "5 million dollars")),
    ),
)

NOTHING = Case(
    "no declarations",
    """# Notes from the valley

## People

All employees are in Germany. By "home" he means the cottage. This means nothing to her.

The company sold shares in millions of households. Sales grew in thousands of small steps.

## Weather

In this section of the river, trout are common. The rule was effective in keeping dogs out.

Throughout the summer it rained. Unless it stops, the bridge will go. The numbers are in the appendix.

```
All values are in cents.
```
""",
    (),
)

TUNED = (ANNUAL_REPORT, MANUAL, AGREEMENT, PROTOCOL, BULLETIN, NOTHING)

FILING = Case(
    "company filing",
    """# Form of annual filing

Unless the context otherwise requires, references to "we", "us" and "our" are to Brannock Corp and its subsidiaries.

## Item 1. Business

In February we opened a plant at Dorset. Our staff numbered 4,000.

## Item 7. Discussion

(Dollars in millions, except per share data)

Net sales were $9,214. Interest was $88.

### Segment results

Except where noted, segment figures exclude the Dorset plant. The timber segment earned $410.

## Item 8. Statements

The accompanying figures are expressed in thousands of US dollars. Receivables were 774,200.

From this point on, all amounts are presented in Canadian dollars. Payables were 51,900.
""",
    (
        Declared('references to "we", "us" and "our" are to Brannock', ("In February we opened", "Our staff numbered")),
        Declared(
            "(Dollars in millions, except per share data)",
            ("Net sales were", "Interest was $88", "timber segment earned"),
            ("Receivables were", "Our staff numbered"),
        ),
        Declared(
            "segment figures exclude the Dorset plant",
            ("timber segment earned",),
            ("Net sales were", "Receivables were"),
        ),
        Declared("expressed in thousands of US dollars", ("Receivables were",), ("Net sales were", "Payables were")),
        Declared(
            "all amounts are presented in Canadian dollars", ("Payables were",), ("Receivables were", "Net sales were")
        ),
    ),
)

STANDARD = Case(
    "protocol standard",
    """# A protocol for lamps

## 1. Conventions

The key words "MUST" and "SHOULD" in this document are to be interpreted as requirement levels. In this document, all integers are in network byte order.

## 2. Messages

A lamp MUST answer within a second. The length field has two bytes.

### 2.1. Errors

As used in this subsection, "fault" denotes a message whose first bit is set. A fault carries a code.

## 3. Timing

A bridge SHOULD wait. After a fault in the mains, lamps flicker. All durations in this section are in milliseconds. Wait 250 before the first retry.
""",
    (
        Declared('The key words "MUST" and "SHOULD"', ("A lamp MUST answer", "A bridge SHOULD wait")),
        Declared("all integers are in network byte order", ("The length field", "Wait 250")),
        Declared('"fault" denotes', ("A fault carries a code",), ("After a fault in the mains",)),
        Declared("All durations in this section are in milliseconds", ("Wait 250",), ("The length field",)),
    ),
)

TIMETABLE = Case(
    "timetable",
    """# Island ferries, summer timetable

This timetable is valid from 3 May to 28 September 2025. All times are local time.

## Outward

Depart Oban 07:15, arrive 09:40.

## Return

Depart 16:05 on weekdays. All prices are in pounds and include tax. A single costs 11.

## Radio

Times in this section are in UTC. Listen at 05:30 for the forecast. The sea was calm at all times in June.
""",
    (
        Declared("This timetable is valid from 3 May", ("Depart Oban 07:15", "Depart 16:05")),
        Declared("All times are local time", ("Depart Oban 07:15", "Depart 16:05"), ("Listen at 05:30",)),
        Declared("All prices are in pounds and include tax", ("A single costs 11",)),
        Declared("Times in this section are in UTC", ("Listen at 05:30",), ("Depart Oban 07:15", "Depart 16:05")),
    ),
)

DRAWINGS = Case(
    "building specification",
    """# Specification, Weir House

## Part 1: General

Dimensions are in millimetres unless noted otherwise. Levels are measured in metres above the datum at the lock. Wherever the word "approved" appears, it means approved in writing by the architect.

## Part 2: Masonry

Joints are 10 wide. Use approved mortar only.

## Part 3: Imported joinery

Dimensions in this part are in inches. Doors are 32 wide.

## Part 4: Finishes

Skirting is 120 high. The floor level is 4.20.
""",
    (
        Declared("Dimensions are in millimetres", ("Joints are 10", "Skirting is 120"), ("Doors are 32",)),
        Declared("Levels are measured in metres above", ("Joints are 10", "floor level is 4.20")),
        Declared('the word "approved" appears, it means', ("Use approved mortar",)),
        Declared("Dimensions in this part are in inches", ("Doors are 32",), ("Joints are 10", "Skirting is 120")),
    ),
)

POLICY = Case(
    "insurance policy",
    """# Household policy

This policy takes effect on 1 July 2025. In this policy, "you" means the person named in the schedule.

## Storm

For the purpose of this section, 'storm' means wind of more than 90 km/h. We pay for damage by storm. The excess is 200.

## Theft

We pay for what a thief takes during a storm. Claims are settled in euros. All limits in this section are per event. The limit is 5,000.

## Travel

You are covered abroad. He told us the storm meant no harm, and that all the money was in a drawer.
""",
    (
        Declared("This policy takes effect on 1 July 2025", ("damage by storm", "The limit is 5,000")),
        Declared('"you" means the person named', ("You are covered abroad",)),
        Declared("'storm' means wind", ("damage by storm",), ("during a storm", "told us the storm")),
        Declared("All limits in this section are per event", ("The limit is 5,000",), ("The excess is 200",)),
    ),
)

OTHERS = Case(
    "no declarations either",
    """# Village history

## Wool

Prices were quoted in shillings by some. The merchants' figures are in dispute. "Wool" was a word he used often.

Wages in millions of homes had fallen. The following year was dry. In this chapter of her life she was happy.

## War

All men were in uniform. The law took effect slowly. What does "home" mean?
""",
    (),
)

PROGRAM = Case(
    "manual of a program",
    """# Using quern

## Expressions

The assignment arrow is made of the characters '<' ("less than") and '-' ("minus"), side by side and without a space.
If a and b are conditions, a & b is their intersection ("and"), and a | b their union ("or"). Less than and minus are
read from left to right, and or comes last.

Lists ("generic vectors") hold anything. In the case of words, generic vectors are sorted and compared.

## Options

In a command line, '-' means standard input. The clipboard is read with read("clipboard"), a graph is set up with
par("edge") and drawn with draw("edge"). The size of an edge or of the clipboard has no limit - or none that we know.

In this chapter, we give an introduction to the options that are of use. The value of HOME is always ${PREFIX}/home.

Functions of class "frame" include print. A frame is printed as a table. Here "most" means all but the first two.

It takes most of the time.

Unless otherwise stated, options apply on all platforms. In the remainder of this section, option refers to a long one.

## Words

The "mill" means the program that grinds. A stone (hereinafter the "runner") turns. The Stone Dressing Language
("SDL") tells how, and so does the Quern Tool ("Tool"). The mill and its runner stop when the SDL says so or the Tool
breaks. An integer ("Number") is stored as a Number. In row-major ("Dutch") order, rows come first. Dutch builders
liked it.
""",
    (
        Declared('"most" means', (), ("takes most of the time",)),
        Declared("Unless otherwise stated", ("option refers to a long one",), ("Dutch builders",)),
        Declared("In the remainder of this section, option refers", ("to a long one",), ("Dutch builders",)),
        Declared('The "mill" means', ("The mill and its runner",)),
        Declared('(hereinafter the "runner")', ("The mill and its runner",)),
        Declared('("SDL")', ("the SDL says so",)),
        Declared('("Tool")', ("the Tool\nbreaks",)),
    ),
)

LICENSE = Path(__file__).parents[2] / "LICENSE"


def license_case() -> Case:
    """The Apache License 2.0, as this repository has it: a text that nobody wrote to be a test."""
    return Case(
        "Apache License",
        LICENSE.read_text(encoding="utf-8"),
        (
            Declared(
                '"License" shall mean',
                (
                    "Grant of Copyright License. Subject to the terms and conditions of\n      this License, each Contributor",
                ),
            ),
            Declared('"Licensor" shall mean'),
            Declared('"Legal Entity" shall mean', ("an individual or Legal Entity\n      exercising",)),
            Declared('"control" means'),
            Declared('"You" (or "Your") shall mean', ("You may reproduce and distribute",)),
            Declared('"Source" form shall mean', ("mechanical\n      transformation or translation of a Source form",)),
            Declared('"Object" form shall mean'),
            Declared('"Work" shall mean'),
            Declared('"Derivative Works" shall mean', ("the Source form of any Derivative Works",)),
            Declared("Derivative Works shall not include"),
            Declared('"Contribution" shall mean', ("any Contribution intentionally submitted",)),
            Declared('"submitted"\n      means'),
            Declared(
                '"Contributor" shall mean',
                (
                    "Grant of Copyright License. Subject to the terms and conditions of\n      this License, each Contributor",
                ),
            ),
            Declared('(the "License")'),
        ),
        plain=True,
    )


TECHNICAL = (PROGRAM,)
HELD_OUT = (FILING, STANDARD, TIMETABLE, DRAWINGS, POLICY, OTHERS, license_case())
