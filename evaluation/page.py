"""How a page looks."""

STYLE = """<style>
:root {
  color-scheme: light dark;
  --ink: #1c1e21; --pale: #6b7075; --paper: #ffffff; --edge: #e3e5e8; --card: #f7f8f9;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8e8e6; --pale: #9a9fa5; --paper: #16181a; --edge: #33373b; --card: #1e2124;
    --c0: #56b4e9; --c1: #f0883e; --c2: #3fc79a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1200px; padding: 24px; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif;
}
h1 { font-size: 26px; margin: 0 0 12px; }
h2 { font-size: 19px; margin: 36px 0 12px; border-bottom: 1px solid var(--edge); }
h3 { font-size: 16px; margin: 20px 0 6px; }
.facts { display: flex; flex-wrap: wrap; gap: 8px 32px; margin: 0; }
dt, .note { color: var(--pale); font-size: 13px; }
dd { margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(360px, 1fr)); gap: 16px; }
figure { margin: 0; padding: 10px; border: 1px solid var(--edge); border-radius: 6px; }
figcaption { font-weight: 600; display: flex; gap: 16px; }
figcaption span { font-weight: 400; }
span.c0 { color: var(--c0); } span.c1 { color: var(--c1); } span.c2 { color: var(--c2); }
svg { width: 100%; display: block; }
svg text { font-size: 13px; fill: var(--pale); }
svg path { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
svg .grid { stroke: var(--edge); stroke-width: 1; }
svg .c0 { stroke: var(--c0); } svg .c1 { stroke: var(--c1); } svg .c2 { stroke: var(--c2); }
svg .raw { opacity: 0.3; stroke-width: 1; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
.scores th, .scores td { padding: 5px 12px; border-bottom: 1px solid var(--edge); }
.scores th { text-align: left; font-weight: 600; }
.scores td { text-align: right; font-variant-numeric: tabular-nums; }
.samples td { padding: 2px 6px 6px 0; vertical-align: top; }
.samples th { text-align: left; font-weight: 400; color: var(--pale); font-size: 13px; }
.samples .prompt { color: var(--ink); font-size: 15px; padding-top: 14px; }
.samples video, .samples img {
  width: 180px; display: block; margin-bottom: 4px; image-rendering: pixelated; background: #000;
}
pre { background: var(--card); padding: 12px; overflow-x: auto; font-size: 12.5px; }
summary { cursor: pointer; color: var(--pale); }
</style>"""
