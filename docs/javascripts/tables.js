// As the Material theme documents it: every table of a page sorts by the column that is clicked.
document$.subscribe(() => {
  document.querySelectorAll('article table:not([class])').forEach((table) => new Tablesort(table));
});
