"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paper = matchMedia("print");
  const specs = new Map();
  for (const script of document.querySelectorAll("script[data-for]")) {
    specs.set(script.dataset.for, JSON.parse(script.textContent));
  }

  // Figures. "@3/0.1" is series colour 3 at that opacity, "@ink" and "@muted" are text colours.
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function color(code) {
    const [name, opacity] = code.slice(1).split("/");
    const hex = css(/^\d$/.test(name) ? `--s${name}` : `--${name}`);
    if (!opacity) return hex;
    const full = hex.length === 4 ? hex.replace(/[0-9a-f]/gi, "$&$&") : hex;
    const rgb = [1, 3, 5].map((at) => parseInt(full.slice(at, at + 2), 16));
    return `rgba(${rgb.join(",")},${opacity})`;
  }

  function filled(value, key) {
    if (Array.isArray(value)) return value.map((part) => filled(part, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, filled(v, k)]));
    }
    const isColor = /color$/i.test(key || "") && typeof value === "string" && value[0] === "@";
    return isColor ? color(value) : value;
  }

  function axis(own) {
    return {
      gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, automargin: true,
      ticks: "outside", tickcolor: css("--line"), ...own,
    };
  }

  function layout(own, width, height) {
    return {
      ...own,
      width,
      height,
      autosize: !width,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: css("--ink"), size: 12, family: getComputedStyle(document.body).fontFamily },
      margin: { l: 60, r: 20, t: 10, b: 50 },
      showlegend: false,
      hovermode: "closest",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--muted"), activecolor: css("--link") },
      hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink") } },
      xaxis: axis(own.xaxis),
      yaxis: axis(own.yaxis),
    };
  }

  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  const drawn = new Set();

  function hidden(plot) {
    const legend = plot.closest("section").querySelector(".legend");
    const off = legend ? legend.querySelectorAll('[aria-pressed="false"]') : [];
    return new Set([...off].map((button) => button.dataset.method));
  }

  function draw(plot) {
    const spec = specs.get(plot.id);
    if (!spec || !window.Plotly) return;
    const off = hidden(plot);
    const data = filled(spec.data).map((trace) => ({
      ...trace, visible: off.has(trace.legendgroup) ? "legendonly" : true,
    }));
    // On paper a figure keeps to the width of its column.
    const small = plot.closest(".grid");
    const [width, height] = paper.matches ? (small ? [330, 260] : [680, 400]) : [];
    Plotly.react(plot, data, layout(spec.layout, width, height), config);
    drawn.add(plot);
  }

  // What is in view is drawn first, the rest one by one so that the page stays responsive; folded
  // figures have no size, so they wait until they are opened.
  const plots = [...document.querySelectorAll(".plot")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
    }
  }, { rootMargin: "400px" });
  plots.forEach((plot) => seen.observe(plot));

  function drawNext() {
    const next = plots.find((plot) => !drawn.has(plot) && plot.offsetParent);
    if (!next) return;
    draw(next);
    if (drawn.has(next)) setTimeout(drawNext, 20);
  }
  setTimeout(drawNext, 100);

  for (const details of document.querySelectorAll("details")) {
    details.addEventListener("toggle", () => {
      if (details.open) details.querySelectorAll(".plot").forEach(draw);
    });
  }
  dark.addEventListener("change", () => drawn.forEach(draw));

  // Paper: everything open and drawn, in light colours.
  let folded = [];
  function toPaper() {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((details) => { details.open = true; });
    plots.forEach(draw);
  }
  function fromPaper() {
    folded.forEach((details) => { details.open = false; });
    drawn.forEach(draw);
  }
  paper.addEventListener("change", () => (paper.matches ? toPaper() : fromPaper()));

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      for (const plot of button.closest("section").querySelectorAll(".plot")) {
        if (drawn.has(plot)) draw(plot);
      }
    });
  }

  // Tables: numbers by value, words by letter; what is missing stays last.
  function sortBy(table, column, sign) {
    const body = table.tBodies[0];
    const key = (row) => {
      const cell = row.cells[column];
      if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
      return cell.matches(".none") ? null : cell.textContent;
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      if (typeof a === "number" && typeof b === "number") return sign * (a - b);
      return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
    });
    body.append(...rows.map(([, row]) => row));
  }

  for (const button of document.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      sortBy(head.closest("table"), head.cellIndex, rising ? 1 : -1);
    });
  }
})();
