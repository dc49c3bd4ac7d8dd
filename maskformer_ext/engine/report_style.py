"""The style sheet of the results page."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --ink: #1c1d21; --soft: #63666f; --rule: #e3e3df; --accent: #2f5fd0;
  --c0: #2f5fd0; --c1: #d0552f; --c2: #23875a; --c3: #8a4fc7; --c4: #b8860b;
  --c5: #0f8ca6; --c6: #c23b78; --c7: #6b7280;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131417; --card: #1b1d21; --ink: #eceef2; --soft: #9a9faa; --rule: #2d3036; --accent: #86a8ff;
    --c0: #86a8ff; --c1: #ff9a73; --c2: #6fd3a0; --c3: #c79bff; --c4: #ecc35b;
    --c5: #63d0e8; --c6: #ff8fbc; --c7: #a3a9b5;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); -webkit-font-smoothing: antialiased;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 56px 24px 80px; }
h1 { font-size: 34px; line-height: 1.15; letter-spacing: -0.02em; font-weight: 650; margin: 0 0 8px; }
h2 { font-size: 20px; letter-spacing: -0.01em; font-weight: 620; margin: 56px 0 6px; }
p { margin: 0 0 16px; max-width: 72ch; }
.lead, .note, figcaption, .facts, .soft { color: var(--soft); }
.note { font-size: 14px; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 22px; font-size: 14px; margin-top: 10px; }
.facts b { color: var(--ink); font-weight: 560; }
.scores { display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: 12px; margin: 30px 0 0; }
.score { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 14px 16px 12px; }
.score .name { font-size: 13px; color: var(--soft); }
.score .value { font-size: 30px; line-height: 1.2; letter-spacing: -0.02em; font-weight: 620; }
.score .before { font-size: 13px; color: var(--soft); }
.value, .before, td, .keys b { font-variant-numeric: tabular-nums; }
.charts { display: grid; gap: 14px; margin-top: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 16px 18px; }
.card h3 { font-size: 14px; font-weight: 580; margin: 0 0 8px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font-size: 12px; }
svg .y { text-anchor: end; } svg .x { text-anchor: middle; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .dot { fill: currentColor; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); } .c5 { color: var(--c5); } .c6 { color: var(--c6); } .c7 { color: var(--c7); }
.keys { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--soft); margin-top: 8px; }
.keys b { color: var(--ink); font-weight: 560; }
.key { display: inline-block; width: 14px; height: 3px; border-radius: 2px; background: currentColor;
  vertical-align: middle; margin-right: 6px; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 16px; font-size: 14px; margin: 12px 0 18px; }
.swatch { display: inline-block; width: 13px; height: 13px; border-radius: 3px; vertical-align: -1px; margin-right: 7px;
  box-shadow: inset 0 0 0 1px rgba(128, 128, 128, .35); }
.strip { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: 10px; margin-bottom: 18px; }
.strip.head { margin-bottom: 6px; font-size: 13px; color: var(--soft); }
figure { margin: 0 0 4px; }
figcaption { font-size: 13px; margin-top: -10px; margin-bottom: 22px; }
.strip img { display: block; width: 100%; height: auto; border-radius: 8px; background: var(--rule); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; margin-top: 12px; }
th { text-align: right; font-weight: 560; color: var(--soft); padding: 8px 12px; border-bottom: 1px solid var(--rule); }
td { text-align: right; padding: 7px 12px; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: nowrap; }
td.bar { --tint: color-mix(in srgb, var(--accent) 20%, transparent);
  background: linear-gradient(to right, var(--tint) var(--part), transparent 0) no-repeat 6px 50%;
  background-size: calc(100% - 12px) 70%; }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 16px; overflow-x: auto;
  font: 13px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; margin: 12px 0 16px; }
details { margin-top: 12px; } summary { cursor: pointer; font-weight: 560; }
footer { margin-top: 64px; padding-top: 16px; border-top: 1px solid var(--rule); font-size: 13px; color: var(--soft); }
@media (max-width: 640px) {
  .strip { grid-auto-flow: row; grid-template-columns: 1fr 1fr; }
  .strip.head { display: none; }
}
@media print { main { padding: 0; } .score, .card, figure { break-inside: avoid; } }
"""
