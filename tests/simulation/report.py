"""What all stories came to, in a table for people."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.simulation.stories import tell
from tests.simulation.world import Result, Story

_EXAMPLES = 4
_HEADS = ("schedules", "kept", "lost", "calls", "rotations", "calls/rotation", "in calm")


@dataclass
class Row:
    """The stories of one kind of vendor."""

    sums: Counter[str] = field(default_factory=Counter)
    lost: dict[str, list[str]] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        calm = not (result.story.at_step or result.story.name == "random")
        self.sums.update(schedules=1, steps=result.steps, kept=result.kept, calls=result.calls)
        self.sums.update(rotations=result.rotations, lost=result.lost.total())
        if calm:
            self.sums.update(calm_calls=result.calls, calm_rotations=result.rotations)
        name = _name(result.story) + (f" ({', '.join(result.struck)})" if result.struck else "")
        for fate, count in result.lost.items():
            self.lost.setdefault(fate, []).extend([name] * count)


@dataclass
class Report:
    """All rows, and everything that must not have happened."""

    rows: dict[str, Row] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.rows.setdefault(result.story.kind.name, Row()).add(result)
        self.wrong += [f"{result.story.kind.name}, {_name(result.story)}: {what}" for what in result.wrong]

    def text(self) -> str:
        sums = sum((row.sums for row in self.rows.values()), Counter())
        lines = [
            f"{sums['schedules']} schedules, {sums['steps']} steps of the first replica, {sums['kept']} grants kept",
            f"promises broken (a grant lost that a client could save, a token sent twice at once, ...): {len(self.wrong)}",
            f"grants lost that no client could save: {sums['lost']}",
            "",
            _line("vendor", *_HEADS),
        ]
        for name, row in self.rows.items():
            each = row.sums
            ratios = _ratio(each["calls"], each["rotations"]), _ratio(each["calm_calls"], each["calm_rotations"])
            counts = (each[what] for what in ("schedules", "kept", "lost", "calls", "rotations"))
            lines.append(_line(name, *map(str, counts), *ratios))
        lines += ["", "where no client could save the grant, and why:"]
        for name, row in self.rows.items():
            for fate, stories in sorted(row.lost.items()):
                names = sorted(set(stories))
                more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
                lines.append(f"  {name}: {fate}: {len(stories)}: {'; '.join(names[:_EXAMPLES])}{more}")
        return "\n".join([*lines, *(f"WRONG {what}" for what in self.wrong)])


def run_all(stories: Iterable[Story]) -> Report:
    report = Report()
    for story in stories:
        report.add(tell(story))
    return report


def _name(story: Story) -> str:
    return f"seed {story.seed}" if story.name == "random" else story.name


def _line(name: str, *cells: str) -> str:
    return f"{name:36}" + "".join(f"{cell:>{max(9, len(head) + 2)}}" for cell, head in zip(cells, _HEADS, strict=True))


def _ratio(calls: int, rotations: int) -> str:
    return f"{calls / rotations:.2f}" if rotations else "-"
