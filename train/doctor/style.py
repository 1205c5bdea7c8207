"""What every page of the doctor carries in itself: its looks, and the few lines that step through the picture."""

from __future__ import annotations

import re
from html import escape
from typing import Any

UNPRINTABLE = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML cannot hold


def text(value: Any) -> str:
    """Anything as text of a page."""
    return escape(UNPRINTABLE.sub("\ufffd", str(value)))


STYLE = """
:root { color-scheme: light dark; --back: #fbfaf8; --card: #fff; --ink: #1d1d1f; --soft: #5d5d66; --rule: #d9d6d0;
  --bad: #b3261e; --bad-back: #fbe3e0; --good: #1a6b3c; --line: #2b5fa8; --warn: #a15c00; }
@media (prefers-color-scheme: dark) { :root { --back: #151517; --card: #1e1e22; --ink: #ececf0; --soft: #a2a2ad;
  --rule: #3a3a42; --bad: #ff8a80; --bad-back: #4a1f1c; --good: #7fd3a0; --line: #8ab4f8; --warn: #f2b55e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 70rem; background: var(--back); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .8rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 1rem; }
.answer { border-left: 5px solid var(--bad); } .answer.well { border-left-color: var(--good); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .7rem; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
td.bad { color: var(--bad); font-weight: 600; }
pre { font: .85rem/1.35 ui-monospace, monospace; overflow-x: auto; margin: .4rem 0; }
ul { padding-left: 1.2rem; margin: .3rem 0; } li { overflow-wrap: anywhere; }
.rows, .curves { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); }
.rows h3, .curves h3 { font-size: .92rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.curves p { margin: 0; color: var(--soft); font-size: .82rem; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: .6rem 0; }
button { font: inherit; padding: .3rem .8rem; border: 1px solid var(--rule); border-radius: 6px; cursor: pointer;
  background: var(--card); color: var(--ink); }
button:focus-visible, summary:focus-visible { outline: 2px solid var(--line); }
#way { font-size: .88rem; padding-left: 2rem; } #way li.now { font-weight: 600; } #way li.later { color: var(--soft); }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } #picture { display: block; }
.node rect { fill: var(--card); stroke: var(--soft); stroke-width: 1.2; } .node text { text-anchor: middle; }
.node.reached rect { fill: var(--bad-back); stroke: var(--bad); } .node.now rect { stroke-width: 3.5; }
.node .badge { fill: var(--bad); } .node .number { fill: var(--card); font-size: 10px; font-weight: 700; }
.node .birth { fill: var(--bad); font-size: 10px; font-weight: 700; }
.node:not(.reached) .badge, .node:not(.reached) .number { opacity: .25; }
.edge { stroke: var(--soft); stroke-width: 1.2; marker-end: url(#tip); } .edge.reached { stroke: var(--bad);
  stroke-width: 2.4; } .tip { fill: var(--soft); } .lane, .axis { fill: var(--soft); font-size: 11px; }
.curve { width: 100%; height: auto; } .curve .line { fill: none; stroke: var(--line); stroke-width: 1.6; }
.curve .end { fill: var(--line); } .curve .threshold { stroke: var(--warn); stroke-dasharray: 5 4; }
.curve .mark { fill: var(--warn); font-size: 10px; text-anchor: end; } .axis.last { text-anchor: end; }
"""

# No '<' and no '&' in it: the page is XML as well, so that a test can read it whole.
SCRIPT = """
(function () {
  'use strict';
  const stops = Array.from(document.querySelectorAll('#way li'));
  const nodes = Array.from(document.querySelectorAll('.node'));
  const edges = Array.from(document.querySelectorAll('.edge'));
  const told = document.getElementById('told'), play = document.getElementById('play');
  let at = stops.length - 1, timer = 0;
  if (!stops.length) { return; }
  function show(wanted) {
    at = Math.max(0, Math.min(stops.length - 1, wanted));
    const seen = new Set(stops.slice(0, at + 1).map(function (stop) { return stop.dataset.node; }));
    stops.forEach(function (stop, i) {
      stop.classList.toggle('now', i === at);
      stop.classList.toggle('later', i > at);
    });
    nodes.forEach(function (node) {
      node.classList.toggle('reached', seen.has(node.dataset.node));
      node.classList.toggle('now', stops[at].dataset.node === node.dataset.node);
    });
    edges.forEach(function (edge) {
      edge.classList.toggle('reached', seen.has(edge.dataset.from) ? seen.has(edge.dataset.to) : false);
    });
    told.textContent = (at + 1) + ' of ' + stops.length + ': ' + stops[at].dataset.words;
  }
  function stop() { window.clearInterval(timer); timer = 0; play.textContent = 'Play'; }
  function go(wanted) { stop(); show(wanted); }
  function run() {
    if (timer) { stop(); return; }
    show(at === stops.length - 1 ? 0 : at + 1);
    play.textContent = 'Pause';
    timer = window.setInterval(function () { if (at === stops.length - 1) { stop(); } else { show(at + 1); } }, 800);
  }
  const buttons = { first: function () { go(0); }, back: function () { go(at - 1); }, play: run,
    next: function () { go(at === stops.length - 1 ? 0 : at + 1); }, last: function () { go(stops.length - 1); } };
  Object.keys(buttons).forEach(function (name) { document.getElementById(name).onclick = buttons[name]; });
  const keys = { ArrowLeft: 'back', ArrowRight: 'next', Home: 'first', End: 'last' };
  document.addEventListener('keydown', function (event) {
    const plain = !(event.altKey || event.ctrlKey || event.metaKey);
    if (plain ? keys[event.key] : false) { event.preventDefault(); buttons[keys[event.key]](); }
  });
  document.getElementById('controls').hidden = false;
  show(at);
}());
"""
