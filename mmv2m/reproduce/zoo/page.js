'use strict';

// What a cell is sorted by: its number, else its text; empty cells are last either way.
function keyOf(cell) {
  const value = cell.dataset.value;
  return value === undefined ? cell.textContent.trim().toLowerCase() : Number(value);
}

function compare(a, b) {
  if (a === '' || b === '') return (a === '') - (b === '');
  if (typeof a === typeof b) return a < b ? -1 : Number(a > b);
  return typeof a === 'number' ? -1 : 1;
}

function sortBy(head) {
  const table = head.closest('table');
  const column = [...head.parentNode.children].indexOf(head);
  const descending = head.getAttribute('aria-sort') === 'ascending';
  for (const other of head.parentNode.children) other.removeAttribute('aria-sort');
  head.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
  const rows = [...table.tBodies[0].rows];
  rows.sort((one, other) => {
    const keys = [one, other].map((row) => keyOf(row.cells[column]));
    const swap = descending && !keys.includes('') ? -1 : 1;
    return swap * compare(...keys);
  });
  table.tBodies[0].append(...rows);
}

for (const head of document.querySelectorAll('th')) {
  head.addEventListener('click', () => sortBy(head));
  head.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') sortBy(head);
  });
}
