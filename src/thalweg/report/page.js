(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const isColour = /color$/i;
  const style = () => getComputedStyle(document.documentElement);

  // "@s0" -> the theme's colour; "@s0/0.3" -> the same, translucent.
  function colour(text, theme) {
    const [name, alpha] = text.slice(1).split("/");
    const hex = theme.getPropertyValue("--" + name).trim();
    if (!alpha) return hex;
    const part = (i) => parseInt(hex.slice(i, i + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${alpha})`;
  }

  function paint(value, theme) {
    if (Array.isArray(value)) {
      return typeof value[0] === "object" && value[0] !== null ? value.map((v) => paint(v, theme)) : value;
    }
    if (value === null || typeof value !== "object") return value;
    const out = {};
    for (const [key, inner] of Object.entries(value)) {
      const named = typeof inner === "string" && inner.startsWith("@") && isColour.test(key);
      out[key] = named ? colour(inner, theme) : paint(inner, theme);
    }
    return out;
  }

  function axis(own, theme, large) {
    const size = large ? 12 : 11;
    const muted = colour("@muted", theme);
    return {
      gridcolor: colour("@grid", theme), linecolor: colour("@rule", theme), zeroline: false,
      tickfont: { size, color: muted }, ticks: "", automargin: true, nticks: large ? 8 : 5,
      exponentformat: "SI", ...own,
      title: { text: own.title.text, standoff: 8, font: { size, color: muted } },
    };
  }

  function layout(figure) {
    const theme = style();
    const own = paint(figure.layout, theme);
    delete own.yaxis.framed;
    const ink = colour("@ink", theme);
    return {
      ...own,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      font: { family: theme.getPropertyValue("--sans"), size: 12, color: ink },
      margin: { l: 12, r: 12, t: own.annotations ? 24 : 10, b: 12 },
      xaxis: { ...axis(own.xaxis, theme, figure.large), showgrid: false, showline: true },
      yaxis: axis(own.yaxis, theme, figure.large),
      hoverlabel: {
        bgcolor: colour("@card", theme), bordercolor: colour("@rule", theme),
        font: { size: 12, color: ink }, namelength: -1,
      },
      hoverdistance: 40, dragmode: "zoom", uirevision: "keep",
    };
  }

  const options = { displayModeBar: false, responsive: true, doubleClick: "autosize" };
  const visible = {};

  function draw(id) {
    const figure = figures[id];
    const data = paint(figure.data, style());
    data.forEach((trace, i) => { trace.visible = visible[id][i]; });
    Plotly.react(document.getElementById("plot-" + id), data, layout(figure), options);
  }

  // The range of the curves in sight without their first fall, as the page was written with.
  function frame(id) {
    const own = figures[id].layout.yaxis;
    if (!own.framed) return;
    let low = Infinity, high = -Infinity;
    figures[id].data.forEach((trace, i) => {
      if (visible[id][i] !== true || !trace.meta.frame) return;
      for (const y of trace.y.slice(Math.min(Math.floor(trace.y.length / 20) + 1, trace.y.length - 1))) {
        low = Math.min(low, y);
        high = Math.max(high, y);
      }
    });
    const room = 0.06 * (high - low) || 0.1;
    if (low <= high) own.framed = [low - room, high + room];
    if (own.type !== "log") own.range = own.framed.slice();
  }

  // One switch for each group of curves.
  function switches(id) {
    const place = document.getElementById("chips-" + id);
    const data = figures[id].data;
    visible[id] = data.map((trace) => trace.visible);
    const named = data.filter((trace) => trace.meta.chip);
    if (!figures[id].large && (named.length < 2 || !document.body.classList.contains("alone"))) return;
    for (const trace of named) {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "chip";
      chip.setAttribute("aria-pressed", String(trace.visible === true));
      const key = document.createElement("i");
      const name = trace.line.color.slice(1).split("/")[0];
      key.style.setProperty("--colour", `var(--${name})`);
      chip.append(key, trace.meta.label);
      chip.addEventListener("click", () => {
        const on = chip.getAttribute("aria-pressed") !== "true";
        chip.setAttribute("aria-pressed", String(on));
        data.forEach((other, i) => {
          if (other.legendgroup === trace.legendgroup) visible[id][i] = on ? true : "legendonly";
        });
        frame(id);
        draw(id);
      });
      place.append(chip);
    }
  }

  function logs(id) {
    const button = document.querySelector(`[data-log="${id}"]`);
    if (!button) return;
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      const own = figures[id].layout.yaxis;
      own.type = on ? "log" : "linear";
      if (on || !own.framed) delete own.range; else own.range = own.framed.slice();
      Plotly.relayout("plot-" + id, own.range ? { "yaxis.type": own.type, "yaxis.range": own.range.slice() }
        : { "yaxis.type": own.type, "yaxis.autorange": true });
    });
  }

  const drawn = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const id = entry.target.dataset.figure;
      if (entry.isIntersecting && !drawn.has(id)) {
        drawn.add(id);
        draw(id);
      }
    }
  }, { rootMargin: "600px" });
  for (const id of Object.keys(figures)) {
    const own = figures[id].layout.yaxis;
    if (own.range) own.framed = own.range.slice();
    switches(id);
    logs(id);
    watcher.observe(document.getElementById("plot-" + id));
  }
  const again = () => drawn.forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  addEventListener("beforeprint", () => Object.keys(figures).forEach((id) => { drawn.add(id); draw(id); }));

  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
})();
