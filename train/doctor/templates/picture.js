/* No less-than sign and no ampersand in here: the page is XML as well, so that a test can read it whole. */
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
    const plain = !(event.altKey || event.ctrlKey || event.metaKey || event.target.closest('pre, .card.wide'));
    if (plain ? keys[event.key] : false) { event.preventDefault(); buttons[keys[event.key]](); }
  });
  document.getElementById('controls').hidden = false;
  show(at);
}());
