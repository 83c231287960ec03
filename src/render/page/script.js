// Looks at images, compares two models by a slider, filters metrics and stages. The page says all without it.
'use strict';
(() => {
  const all = (where, what) => [...where.querySelectorAll(what)];
  const byId = (id) => document.getElementById(id);

  // An image in large, and beside it that of another model for the same prompt.
  const dialog = byId('compare');
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
    dialog.showModal();
  };
  all(document, '.images button').forEach((b) => { b.onclick = () => show(b.closest('td')); });
  if (byId('close')) byId('close').onclick = () => dialog.close();

  // Only what has these letters in its name.
  const filter = (input, items, text) => {
    if (!input) return;
    input.oninput = () => {
      const wanted = input.value.trim().toLowerCase();
      items.forEach((item) => { item.hidden = !text(item).toLowerCase().includes(wanted); });
    };
  };
  filter(byId('filter-curves'), all(document, '#curves figure'), (f) => f.dataset.name);
  filter(byId('filter-stages'), all(document, '#stages tbody tr'), (r) => r.textContent);
})();
