// Looks at images, compares two models by a slider, filters metrics and stages, opens what a number was made of, and of a page that
// is served follows the run. The page says all without it.
'use strict';
(() => {
  const all = (where, what) => [...where.querySelectorAll(what)];
  const byId = (id) => document.getElementById(id);

  // An image in large, and beside it that of another model for the same prompt.
  const show = (cell) => {
    const row = all(cell.closest('tr'), 'td[data-model]').filter((c) => c.querySelector('img'));
    const [left, right] = [byId('left'), byId('right')];
    for (const choice of [left, right]) {
      choice.replaceChildren(...row.map((c) => new Option(c.dataset.model, c.dataset.model)));
    }
    left.value = cell.dataset.model;
    right.value = (row.find((c) => c !== cell) || cell).dataset.model;
    byId('prompt').textContent = cell.closest('tr').dataset.prompt || '';
    const draw = () => {
      const of = (name) => row.find((c) => c.dataset.model === name).querySelector('img');
      const [a, b] = [of(left.value), of(right.value)];
      byId('first').src = a.src;
      byId('second').src = b.src;
      byId('first').alt = a.alt;
      byId('second').alt = b.alt;
      const cut = byId('slider').value;
      byId('second').style.clipPath = `inset(0 0 0 ${cut}%)`;
    };
    left.onchange = right.onchange = byId('slider').oninput = draw;
    draw();
    byId('compare').showModal();
  };

  // Only what has these letters in its name.
  const filter = (input, items, text) => {
    if (!input) return;
    input.oninput = () => {
      const wanted = input.value.trim().toLowerCase();
      items.forEach((item) => { item.hidden = !text(item).toLowerCase().includes(wanted); });
    };
    if (input.value) input.oninput();
  };

  const bind = () => {
    all(document, '.images button').forEach((b) => { b.onclick = () => show(b.closest('td')); });
    if (byId('close')) byId('close').onclick = () => byId('compare').close();
    filter(byId('filter-curves'), all(document, '#curves figure'), (f) => f.dataset.name);
    filter(byId('filter-stages'), all(document, '#stages tbody tr'), (r) => r.textContent);
  };
  bind();

  // A number leads to what it was made of, which is folded.
  const open = () => {
    const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === 'DETAILS') {
      target.open = true;
      target.scrollIntoView({ block: 'nearest' });
    }
  };
  window.addEventListener('hashchange', open);
  open();

  // A page that is served: when the run has gone on, the page is taken anew, with what was opened and typed.
  if (!('live' in document.body.dataset)) return;
  const named = (e) => e.id || e.querySelector('summary').textContent;
  const renew = (text) => {
    const fresh = new DOMParser().parseFromString(text, 'text/html');
    const opened = new Set(all(document, 'details[open]').map(named));
    const typed = new Map(all(document, 'input[type=search]').map((i) => [i.id, i.value]));
    const focus = document.activeElement && document.activeElement.id;
    for (const part of ['header', 'main']) document.querySelector(part).replaceWith(fresh.querySelector(part));
    all(document, 'details').forEach((d) => { d.open = opened.has(named(d)); });
    typed.forEach((value, id) => { if (byId(id)) byId(id).value = value; });
    bind();
    if (focus && byId(focus)) byId(focus).focus();
  };
  let last = null;
  const look = async () => {
    try {
      const news = await (await fetch('/news')).text();
      const compared = byId('compare') && byId('compare').open;
      if (last !== null && news !== last && !compared) renew(await (await fetch('/')).text());
      if (!compared) last = news;
    } catch (gone) {
      // The server has ended: the page stays as it is.
      return;
    }
    setTimeout(look, 2000);
  };
  look();
})();
