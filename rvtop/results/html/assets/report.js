// Draws the charts of a report from the JSON beside it. Everything that is shown is set as text, never as HTML.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const host = document.getElementById("charts");
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const clock = (s) => {
    const whole = Math.max(0, Math.floor(s));
    return Math.floor(whole / 60) + ":" + String(whole % 60).padStart(2, "0");
  };
  const digits = (v) =>
    v === null || v === undefined ? "--" : v === 0 ? "0" : Number(v.toPrecision(3)).toLocaleString("en-US");
  const roleOf = (line, index) => line.role || "line" + (index % 8);
  const xText = (chart, x) =>
    chart.points ? `${chart.x_name} ${digits(x)}` : chart.log ? digits(x) + " " + chart.unit : clock(x);
  const lastX = Math.max(data.duration_s || 0, 1);

  const HEIGHT = 180; // of a chart, CSS pixels

  /* 1, 2, 5, 10, … inside an axis; over more than three decades only the powers of ten. */
  const logSplits = (low, high) => {
    const splits = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const step of high / low > 1000 ? [1] : [1, 2, 5]) {
        const split = step * 10 ** power;
        if (split >= low && split <= high) splits.push(split);
      }
    return splits;
  };

  /* Lines at the beginning of each phase and at each event, behind the figures. */
  const drawMarks = (u) => {
    const { ctx, bbox } = u;
    const dpr = devicePixelRatio;
    const at = (t) => Math.round(u.valToPos(t, "x", true));
    const line = (x, role, dash) => {
      ctx.strokeStyle = colour(role);
      ctx.setLineDash(dash);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    };
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height);
    ctx.clip();
    ctx.lineWidth = dpr;
    ctx.font = 11 * dpr + "px system-ui, sans-serif";
    ctx.textAlign = "left";
    let free = -Infinity;
    for (const phase of data.phases) {
      const x = at(phase.t);
      line(x, "frame", []);
      if (x < free) continue;
      ctx.fillStyle = colour("quiet");
      ctx.fillText(phase.name, x + 3 * dpr, 11 * dpr);
      free = x + ctx.measureText(phase.name).width + 8 * dpr;
    }
    for (const event of data.events) line(at(event.t), event.level === "info" ? "quiet" : "trouble", [3, 3]);
    ctx.restore();
  };

  const options = (chart, width, onCursor) => {
    const axis = (more) => ({
      stroke: colour("quiet"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false },
      font: "11px system-ui, sans-serif", ...more,
    });
    const lines = chart.lines.filter((line) => !(chart.log && line.limit));
    const limits = chart.lines.filter((line) => chart.log && line.limit);
    const drawLimits = (u) => {
      for (const limit of limits) {
        const x = u.valToPos(limit.values[0], "x", true);
        u.ctx.save();
        u.ctx.strokeStyle = u.ctx.fillStyle = colour("limit");
        u.ctx.setLineDash([4, 4]);
        u.ctx.beginPath();
        u.ctx.moveTo(x, u.bbox.top);
        u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
        u.ctx.stroke();
        u.ctx.font = 11 * devicePixelRatio + "px system-ui, sans-serif";
        u.ctx.textAlign = "left";
        u.ctx.fillText(limit.name, x + 4, u.bbox.top + 12 * devicePixelRatio);
        u.ctx.restore();
      }
    };
    const series = lines.map((line, index) => {
      const ink = colour(line.limit ? "limit" : roleOf(line, index));
      return {
        label: line.name, stroke: ink, width: line.limit ? 1 : 1.5, points: { show: false }, spanGaps: false,
        ...(line.limit ? { dash: [4, 4] } : {}),
        ...(chart.points
          ? { paths: () => null, points: { show: true, size: 11, fill: ink } }
          : chart.log ? { paths: uPlot.paths.stepped({ align: 1 }), fill: ink + (lines.length > 1 ? "2a" : "55") } : {}),
      };
    });
    const band = !chart.log && chart.lines[0].name === "p50" && chart.lines[1]?.name === "p99";
    return {
      width, height: HEIGHT, padding: [chart.log ? 8 : 16, 16, 0, 0], legend: { show: false },
      cursor: {
        y: false, points: { size: 6 },
        ...(chart.log ? {} : { sync: { key: "time", scales: ["x", null] } }),
      },
      scales: {
        x: chart.log ? { time: false, distr: 3, range: () => chart.points ? [chart.x[0] / 1.5, chart.x[chart.x.length - 1] * 1.5] : [chart.x[0], chart.x[chart.x.length - 1]] } : { time: false, range: (u, low, high) => u.zoomed ? [low, high] : [0, lastX] },
        y: { range: (u, low, high) => [0, (Number.isFinite(high) && high > 0 ? high : 1) * 1.08] },
      },
      axes: [
        axis({
          size: 28, space: 60, values: (u, splits) => splits.map((v) => (chart.log ? digits(v) : clock(v))),
          ...(chart.log ? { splits: (u) => logSplits(u.scales.x.min, u.scales.x.max), filter: (u, splits) => splits } : {}),
        }),
        axis({ size: 52, values: (u, splits) => splits.map((v) => digits(v)) }),
      ],
      series: [{}, ...series],
      ...(band ? { bands: [{ series: [2, 1], fill: colour("tail") + "33" }] } : {}),
      hooks: {
        drawClear: chart.log ? [] : [drawMarks],
        draw: [drawLimits],
        setCursor: [(u) => onCursor(u.cursor.idx)],
        setSelect: [(u) => { u.zoomed = u.select.width > 0; }],
      },
    };
  };

  const describe = (chart) => {
    const spans = chart.lines.filter((line) => !line.limit).map((line) => {
      const known = line.values.filter((v) => v !== null);
      if (!known.length) return line.name + " --";
      return `${line.name} ${digits(Math.min(...known))} to ${digits(Math.max(...known))}`;
    });
    return `${chart.title}, ${chart.unit}: ${spans.join("; ")}. Left and right arrow keys read it.`;
  };

  const fillTable = (chart, holder) => {
    const table = make("table");
    table.append(make("caption", "", `${chart.title}${chart.unit ? ", " + chart.unit : ""}`));
    const head = table.createTHead().insertRow();
    for (const name of [chart.points ? chart.x_name : chart.log ? `from ${chart.unit}` : "time", ...chart.lines.map((l) => l.name)]) {
      const cell = make("th", "n", name);
      cell.scope = "col";
      head.append(cell);
    }
    const body = table.createTBody();
    chart.x.forEach((x, index) => {
      const row = body.insertRow();
      const first = make("th", "n", chart.log ? digits(x) : clock(x));
      first.scope = "row";
      row.append(first);
      for (const line of chart.lines) row.append(make("td", "n", digits(line.values[line.limit ? 0 : index])));
    });
    holder.append(table);
  };

  const views = [];
  const build = (chart) => {
    const figure = make("figure", chart.points ? "chart wide" : chart.log ? "chart half" : "chart");
    const title = make("h2", "", chart.title);
    if (chart.unit) title.append(make("small", "", " " + chart.unit));
    const about = make("figcaption", "", chart.about);
    const legend = make("ul", "legend");
    const at = make("li", "at", "");
    legend.append(at);
    const values = chart.lines.map((line, index) => {
      const item = make("li");
      const button = make("button", "", "");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      const swatch = make("span", line.limit ? "swatch dashed" : "swatch");
      swatch.style.setProperty("--ink", `var(--${line.limit ? "limit" : roleOf(line, index)})`);
      const value = make("span", "value", line.limit ? digits(line.values[0]) : "");
      button.append(swatch, make("span", "", line.name), value);
      item.append(button);
      legend.append(item);
      button.addEventListener("click", () => {
        if (chart.log || !view.plot) return;
        const shown = !view.plot.series[index + 1].show;
        button.setAttribute("aria-pressed", String(shown));
        view.plot.setSeries(index + 1, { show: shown });
      });
      return value;
    });
    const plot = make("div", "plot");
    plot.tabIndex = 0;
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", describe(chart));
    const spoken = make("p", "unseen");
    spoken.setAttribute("aria-live", "polite");
    const details = make("details");
    details.append(make("summary", "", "as a table"));
    const holder = make("div", "scroll");
    holder.tabIndex = 0;
    details.append(holder);
    details.addEventListener("toggle", () => {
      if (details.open && !holder.hasChildNodes()) fillTable(chart, holder);
    });
    figure.append(title, about, legend, plot, spoken, details);
    host.append(figure);
    const read = (index) => {
      const known = index !== null && index !== undefined;
      at.textContent = known ? xText(chart, chart.x[index]) : "";
      chart.lines.forEach((line, i) => {
        if (!line.limit) values[i].textContent = known ? digits(line.values[index]) : "";
      });
    };
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined || !view.plot) return;
      event.preventDefault();
      const last = chart.x.length - 1;
      const from = view.plot.cursor.idx ?? (step > 0 ? -1 : last + 1);
      const index = Math.min(last, Math.max(0, from + step));
      const left = view.plot.valToPos(chart.x[index], "x");
      view.plot.setCursor({ left, top: 10 });
      if (!chart.log) uPlot.sync("time").pub("mousemove", view.plot, left, 10, view.plot.over.clientWidth, view.plot.over.clientHeight, index);
      read(index);
      spoken.textContent = legend.innerText.replace(/\n+/g, " ");
    });
    const view = { plot: null };
    view.draw = () => {
      view.plot?.destroy();
      const drawn = chart.lines.filter((line) => !(chart.log && line.limit)).map((line) => line.values);
      view.plot = new uPlot(options(chart, plot.clientWidth, read), [chart.x, ...drawn], plot);
    };
    view.draw();
    new ResizeObserver(() => {
      if (view.plot && plot.clientWidth && plot.clientWidth !== view.plot.width)
        view.plot.setSize({ width: plot.clientWidth, height: HEIGHT });
    }).observe(plot);
    views.push(view);
  };
  for (const chart of data.charts) build(chart);

  const redraw = () => views.forEach((view) => view.draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => { root.dataset.print = "yes"; redraw(); });
  addEventListener("afterprint", () => { delete root.dataset.print; redraw(); });
})();
