"""The report's style sheet: light and dark by the reader's own setting, one column where it is narrow."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark;
  --page: #fdfdfc; --text: #1b1d21; --quiet: #5d636e; --rule: #dcdfe4; --band: #f3f4f6;
  --ours: #0b63ce; --other: #7a818c; --plain: #b26a00; }
@media (prefers-color-scheme: dark) { :root {
  --page: #15171a; --text: #e8eaed; --quiet: #a3abb8; --rule: #343942; --band: #1e2126;
  --ours: #6fb0ff; --other: #98a1af; --plain: #f0b35a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem;
  background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.125rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 44rem; }
.quiet { color: var(--quiet); font-size: .9rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1rem 0; }
.figures div { background: var(--band); border-radius: .5rem; padding: .6rem .8rem; }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.figures span { color: var(--quiet); font-size: .85rem; }
.plot { margin: .75rem 0; }
.plot .row { display: grid; grid-template-columns: 11rem 1fr 13rem; gap: .75rem; align-items: center; }
.plot .row + .row { border-top: 1px solid var(--rule); }
.plot .name { overflow-wrap: anywhere; }
.plot .value { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; font-size: .9rem; }
.plot svg { display: block; width: 100%; height: 1.75rem; overflow: visible; }
.plot line { stroke: var(--other); stroke-width: 2; stroke-linecap: round; }
.plot circle { fill: var(--other); }
.plot .ours line, .plot .served line { stroke: var(--ours); }
.plot .ours circle, .plot .served circle { fill: var(--ours); }
.plot .served line { stroke-width: 4; }
.plot .served .name { font-weight: 600; }
.plot .plain line { stroke: var(--plain); }
.plot .plain circle { fill: var(--plain); }
.plot .row line.mark { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 3 3; }
.plot .axis { color: var(--quiet); font-size: .8rem; }
.plot .axis .ends { display: flex; justify-content: space-between; }
.table { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th { color: var(--quiet); font-weight: 500; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
tr.served td { font-weight: 600; }
code { font-size: .9em; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  .plot .row { grid-template-columns: 1fr auto; gap: 0 .5rem; padding-top: .3rem; }
  .plot .row svg, .plot .axis .ends { grid-column: 1 / -1; order: 3; }
  .plot .axis span:empty { display: none; }
}
"""
