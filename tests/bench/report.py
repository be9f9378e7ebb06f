"""Figures as Markdown tables and as bars."""
import os
import platform
import re
import statistics
from html import escape
from pathlib import Path

BAR_WIDTH, NAME_WIDTH, LINE, MARGIN = 420, 210, 22, 12
OURS, THEIRS, BOUND, TEXT, FAINT = "#2f7ed8", "#9aa5b1", "#d9dee5", "#1c2733", "#6b7785"
HEAD = "<!-- figures -->"
END = "<!-- end -->"


def about(present, repeat, seconds):
    """What was measured, where."""
    processor = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024
    return {
        "machine": f"{os.cpu_count()} cores ({processor[1] if processor else 'unknown'}), "
                   f"{memory / 2 ** 30:.0f} GiB, kernel {platform.release()}",
        "versions": {tool.name: tool.version() for tool in present},
        "commands": {tool.name: tool.command for tool in present},
        "repeat": repeat,
        "minutes": round(seconds / 60),
    }


def values(runs, figure):
    return sorted(run[figure] for run in runs if figure in run)


def cell(runs, figure):
    found = values(runs, figure.name)
    if not found:
        return "failed" if all("error" in run for run in runs) else ""
    middle, least, most = (f"{value:,.{figure.digits}f}" for value in (statistics.median(found), found[0], found[-1]))
    return middle if least == most else f"**{middle}** ({least}–{most})"


def is_ours(name):
    return name.startswith("braidfs")


def keeps(name):
    return "no cache" not in name


def ratio(found, figure, goal):
    """The median of ours over that of the best peer, of those that are compared."""
    def medians(wanted):
        all_of = {name: values(runs, figure.name) for name, runs in found.items() if wanted(name)}
        return {name: statistics.median(of) for name, of in all_of.items() if of}

    same = lambda name: goal.kind is None or keeps(name) == (goal.kind == "cache")  # noqa: E731
    tools = lambda name: is_ours(name) or any(name.startswith(peer) for peer in ("rclone", "httpdirfs"))  # noqa: E731
    ours = medians(lambda name: is_ours(name) and same(name))
    theirs = medians(lambda name: tools(name) and not is_ours(name) and same(name))
    if not ours or not theirs:
        return None
    best = max if figure.more_is_better else min
    name = best(theirs, key=theirs.get)
    ours_name = best(ours, key=ours.get)
    return ours[ours_name] / theirs[name], ours_name, name


def verdicts(row, found):
    """Each goal of a row in a line."""
    lines = []
    for figure in row.figures:
        for goal in figure.goals:
            seen = ratio(found, figure, goal)
            if seen:
                value, ours, theirs = seen
                word = "at least" if figure.more_is_better else "at most"
                reached = value >= goal.ratio if figure.more_is_better else value <= goal.ratio
                lines.append(f"{figure.name}: {ours} is {value:.2f} of {theirs}; the goal is {word} {goal.ratio:g}"
                             f"{'' if reached else ': **missed**'}.")
    return lines


def table(row, found):
    shown = [figure for figure in row.figures if any(values(runs, figure.name) for runs in found.values())]
    units = [figure.name for figure in shown]
    lines = [f"| | {' | '.join(units)} |", "|---|" + "---|" * len(units)]
    lines += [f"| {name} | {' | '.join(cell(runs, figure) for figure in shown)} |" for name, runs in found.items()]
    errors = [f"{name} failed {sum('error' in run for run in runs)} of {len(runs)} times: "
              + next(run["error"] for run in runs if "error" in run)
              for name, runs in found.items() if any("error" in run for run in runs)]
    return "\n".join(lines) + "\n" + "".join(f"\n{line}\n" for line in verdicts(row, found) + errors)


def tables(rows, results, about, before=""):
    """`before`: such a text of an earlier run, whose rows stay where they are not among the results."""
    took_part = {name for row in rows for name in results.get(row.name, {})}
    lines = {name: f"- {name}: {version}, `{about['commands'][name].replace('{program}', name.split(',')[0].split()[0])}`"
             for name, version in about["versions"].items() if name in took_part}
    lines = {re.match("- (.+?): ", line)[1]: line for line in re.findall("^- .*", before, re.MULTILINE)} | lines
    text = f"On {about['machine']}; {about['repeat']} runs of each in turn: **median** (least–most).\n\n"
    text += "\n".join(lines.values()) + "\n"
    stay = {section.partition("\n")[0]: section.strip() for section in before.split("\n### ")[1:]}
    for row in rows:
        if row.name in results:
            text += f"\n### {row.name}\n\n{row.about}.\n\n{table(row, results[row.name])}"
        elif row.name in stay:
            text += f"\n### {stay[row.name]}\n"
    return text


def chart(row, figure, found):
    """Bars for one figure, the best at the top, as an SVG."""
    bars = [(name, statistics.median(values(runs, figure.name))) for name, runs in found.items()
            if values(runs, figure.name)]
    bars.sort(key=lambda bar: bar[1], reverse=figure.more_is_better)
    longest = max(value for _, value in bars) or 1
    height = MARGIN * 2 + LINE * (len(bars) + 1)
    width = NAME_WIDTH + BAR_WIDTH + 110
    better = "more is better" if figure.more_is_better else "less is better"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
             f'font-size="13"><rect width="{width}" height="{height}" fill="#ffffff"/>',
             f'<text x="{MARGIN}" y="{MARGIN + 10}" fill="{TEXT}" font-weight="bold">{escape(row.name)}: '
             f'{escape(figure.name)}<tspan fill="{FAINT}" font-weight="normal"> ({better})</tspan></text>']
    for at, (name, value) in enumerate(bars):
        top = MARGIN + LINE * (at + 1)
        colour = OURS if is_ours(name) else THEIRS if name.startswith(("rclone", "httpdirfs", "aria2")) else BOUND
        parts.append(f'<text x="{NAME_WIDTH - 6}" y="{top + 14}" text-anchor="end" fill="{TEXT}">{escape(name)}</text>'
                     f'<rect x="{NAME_WIDTH}" y="{top + 2}" width="{max(value / longest * BAR_WIDTH, 1):.0f}" '
                     f'height="{LINE - 6}" fill="{colour}"/>'
                     f'<text x="{NAME_WIDTH + value / longest * BAR_WIDTH + 6:.0f}" y="{top + 14}" fill="{TEXT}">'
                     f'{value:,.{figure.digits}f} {escape(figure.unit)}</text>')
    return "".join(parts) + "</svg>\n"


def write(folder, rows, results, about):
    """docs/comparison.md between its marks, and a chart of the first figure of each row. Rows that were not run stay."""
    page = folder / "comparison.md"
    text, found = re.subn(f"{HEAD}\n(.*?)\n{END}", lambda seen: f"{HEAD}\n{tables(rows, results, about, seen[1])}\n{END}",
                          page.read_text(), flags=re.DOTALL)
    if found != 1:
        raise SystemExit(f"{page} has no place for the figures: {HEAD} and {END}")
    page.write_text(text)
    for row in rows:
        figure = row.figures[0]
        if any(values(runs, figure.name) for runs in results.get(row.name, {}).values()):
            name = re.sub(r"[^a-z0-9]+", "-", row.name.lower())
            (folder / f"comparison-{name}.svg").write_text(chart(row, figure, results[row.name]))
