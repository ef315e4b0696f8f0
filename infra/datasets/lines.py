"""Lines of a file, in stretches: none is held that is longer than the API takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from infra.datasets.rows import Fault, NotReadable

MAX_LINE_BYTES: Final = 1 << 20
"""The API takes no longer one."""
MAX_SKIPPED_BYTES: Final = 1 << 30
"""A line that goes on for longer is the end of what can be read: nothing else would come for hours."""


class Stretch(NamedTuple):
    """Some lines, without their ends and without the blank ones. `numbers[i]`: of `lines[i]`, from 1."""

    lines: list[bytes]
    numbers: Sequence[int]
    faults: list[Fault]

    def without(self, refused: Callable[[bytes], bool], code: str) -> Stretch:
        """Without the lines that are refused, which are faults with `code`."""
        lines, numbers, faults = [], [], [*self.faults]
        for number, line in zip(self.numbers, self.lines, strict=True):
            if refused(line):
                faults.append(Fault(number, "line", code))
            else:
                lines.append(line)
                numbers.append(number)
        return Stretch(lines, numbers, faults)


def stretches(blocks: Iterator[bytes]) -> Iterator[Stretch]:
    """Every line; a line ends in LF or CRLF, the last may have no end. One that is longer than
    `MAX_LINE_BYTES` or holds a NUL is a fault.

    Errors: those of `blocks`, with the number of the last whole line.
    """
    number, start, skipped = 1, b"", 0
    while True:
        try:
            block = next(blocks, None)
        except NotReadable as error:
            sentence = f"{error.sentence}, after line {number - 1:,}"
            raise NotReadable(sentence, remedy=error.remedy) from None
        if block is None:
            break
        faults = []
        if skipped:
            end = block.find(b"\n")
            if end < 0:
                skipped += len(block)
                if skipped > MAX_SKIPPED_BYTES:
                    raise NotReadable(f"has a line {number:,} that goes on for more than 1 GiB")
                continue
            faults.append(Fault(number, "line", "too_long"))
            number, block, skipped = number + 1, block[end + 1 :], 0
        text = start + block
        *lines, start = text.split(b"\n")
        yield _usable(lines, number, faults, text)
        number += len(lines)
        if len(start) > MAX_LINE_BYTES:
            start, skipped = b"", len(start)
    if skipped:
        yield Stretch([], [], [Fault(number, "line", "too_long")])
    elif start:
        yield _usable([start], number, [], start)


def _usable(lines: list[bytes], first: int, faults: list[Fault], text: bytes) -> Stretch:
    """`text`: what holds `lines`; it is searched for what most files do not have."""
    found = Stretch(lines, range(first, first + len(lines)), faults)
    if len(text) > MAX_LINE_BYTES and any(len(line) > MAX_LINE_BYTES for line in lines):
        found = found.without(lambda line: len(line) > MAX_LINE_BYTES, "too_long")
    if b"\0" in text:
        found = found.without(lambda line: b"\0" in line, "nul_byte")
    if b"\r" in text:
        found = found._replace(lines=[line.removesuffix(b"\r") for line in found.lines])
    if not all(map(bytes.strip, found.lines)):
        pairs = [it for it in zip(found.lines, found.numbers, strict=True) if it[0].strip()]
        found = Stretch([line for line, _ in pairs], [number for _, number in pairs], found.faults)
    return found
