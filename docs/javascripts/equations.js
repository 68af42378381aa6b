// As the Material theme documents it: MathJax sets what the extension arithmatex marks.
window.MathJax = {
  tex: { inlineMath: [['\\(', '\\)']], displayMath: [['\\[', '\\]']] },
  options: { ignoreHtmlClass: '.*|', processHtmlClass: 'arithmatex' },
};
document$.subscribe(() => window.MathJax.typesetPromise && window.MathJax.typesetPromise());
