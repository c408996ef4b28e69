"use strict";

// Curves of all variants, drawn by plotly as each panel comes into view.
(() => {
  const source = document.getElementById("curve-data");
  if (!source) return;
  const { panels, variants, colors } = JSON.parse(source.textContent);
  const DASHES = ["solid", "dash", "dot"];
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d"] };
  const hidden = new Set(variants.filter((variant) => !variant.shown));
  const hiddenRuns = new Set();
  const slider = document.getElementById("smoothing");
  const drawn = new Set();
  let number = 0;
  for (const variant of [...variants.filter((each) => each.shown), ...variants.filter((each) => !each.shown)]) {
    variant.color = colors[number % colors.length];
    variant.dash = DASHES[Math.floor(number / colors.length) % DASHES.length];
    number += 1;
  }

  // Exponential moving average without the pull of its start; a gap stays one.
  function smooth(values, weight) {
    if (!weight) return values;
    let [sum, norm] = [0, 0];
    return values.map((value) => {
      if (value === null) return null;
      sum = weight * sum + (1 - weight) * value;
      norm = weight * norm + (1 - weight);
      return sum / norm;
    });
  }

  function trace(line, panel, name, look) {
    const values = line.values[panel];
    const smoothed = smooth(values, Number(slider.value));
    const label = name.replace(/&/g, "&amp;").replace(/</g, "&lt;"); // plotly reads some tags
    return {
      x: line.epochs, y: smoothed, customdata: values, mode: line.epochs.length === 1 ? "markers" : "lines", ...look,
      hovertemplate: `${label}<br>epoch %{x}: %{customdata:.5g}<extra></extra>`, showlegend: false,
    };
  }

  function traces(panel) {
    const [thin, thick] = [[], []];
    for (const variant of variants.filter((each) => !hidden.has(each))) {
      const look = (width, opacity, dash) => ({ line: { color: variant.color, width, dash }, marker: { color: variant.color }, opacity });
      for (const run of variant.runs) {
        if (!hiddenRuns.has(run)) thin.push(trace(run, panel, run.path, look(1, 0.5, variant.dash)));
      }
      for (const run of variant.unfinished) {
        if (!hiddenRuns.has(run)) thin.push(trace(run, panel, `${run.path}, unfinished`, look(1.6, 1, "dot")));
      }
      const what = variant.seeds > 1 ? `${variant.name}, mean of ${variant.seeds} seeds` : variant.name;
      if (variant.seeds) thick.push(trace(variant.mean, panel, what, look(2.5, 1, variant.dash)));
    }
    return [...thin, ...thick];
  }

  function layout(panel) {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => {
      const probe = document.createElement("span");
      probe.style.color = `var(${name})`;
      document.body.append(probe);
      const found = getComputedStyle(probe).color;
      probe.remove();
      return found;
    };
    const axis = { gridcolor: color("--line"), zeroline: false, automargin: true, showline: true, linecolor: color("--soft") };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height: 330, margin: { l: 55, r: 12, t: 34, b: 44 },
      font: { color: color("--text"), family: style.fontFamily || "sans-serif", size: 12 }, hovermode: "closest", uirevision: "kept",
      hoverlabel: { font: { color: color("--text") }, bgcolor: color("--card") },
      xaxis: { ...axis, title: { text: "epoch" } }, yaxis: { ...axis, title: { text: panels[panel].unit } },
    };
  }

  const boxes = [...document.querySelectorAll(".curve")];
  const draw = (box) => Plotly.react(box, traces(Number(box.dataset.panel)), layout(Number(box.dataset.panel)), CONFIG);
  const redraw = () => drawn.forEach(draw);
  const watch = new IntersectionObserver((entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting && !drawn.has(entry.target))) {
      drawn.add(target);
      draw(target);
    }
  }, { rootMargin: "200px" });
  boxes.forEach((box) => watch.observe(box));

  let waiting = 0;
  slider.addEventListener("input", () => {
    document.getElementById("smoothing-value").textContent = Number(slider.value).toFixed(2);
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 40);
  });
  document.getElementById("theme").addEventListener("click", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // The legend: a variant, and each of its runs, is switched on and off in all panels at once.
  function entry(text, isOn, toggle) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(isOn()));
    button.append(text);
    button.addEventListener("click", () => {
      toggle();
      button.setAttribute("aria-pressed", String(isOn()));
      redraw();
    });
    return button;
  }
  const flip = (set, item) => () => set.delete(item) || set.add(item);
  const legend = document.getElementById("legend");
  for (const variant of variants) {
    const item = document.createElement("li");
    const button = entry(variant.name, () => !hidden.has(variant), flip(hidden, variant));
    const line = document.createElement("i");
    line.style.borderTop = `3px ${{ solid: "solid", dash: "dashed", dot: "dotted" }[variant.dash]} ${variant.color}`;
    button.prepend(line);
    item.append(button);
    for (const [run, mark] of [...variant.runs.map((run) => [run, ""]), ...variant.unfinished.map((run) => [run, " unfinished"])]) {
      const seed = entry(`seed ${run.seed}${mark}`, () => !hiddenRuns.has(run), flip(hiddenRuns, run));
      seed.className = "seed";
      seed.title = run.path;
      item.append(seed);
    }
    legend.append(item);
  }
  for (const [id, isOn] of [["all", true], ["none", false]]) {
    document.getElementById(`show-${id}`).addEventListener("click", () => {
      variants.forEach((variant) => (isOn ? hidden.delete(variant) : hidden.add(variant)));
      legend.querySelectorAll("button:not(.seed)").forEach((button) => button.setAttribute("aria-pressed", String(isOn)));
      redraw();
    });
  }
})();
