// Plays a stored run: rows of SVG that rvtop drew, each different one held once.
(async () => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const clock = (s) => Math.floor(s / 60) + ":" + String(Math.floor(s) % 60).padStart(2, "0");
  let pictures;
  try {
    const bytes = Uint8Array.from(atob(data.packed), (c) => c.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    pictures = await new Response(plain).json();
  } catch (error) {
    $("problem").textContent = "This browser can't unpack the pictures: " + error.message;
    return;
  }
  const [cellW, cellH] = data.cell;
  const [columns, lines] = data.size;
  const pad = 10;
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const style = document.createElementNS(space, "style");
  style.textContent = "#screen " + data.looks.replace(/\}\./g, "} #screen .");
  const back = document.createElementNS(space, "rect");
  back.setAttribute("width", "100%");
  back.setAttribute("height", "100%");
  back.setAttribute("fill", data.background);
  svg.append(style, back);
  const groups = Array.from({ length: lines }, (_, y) => {
    const group = document.createElementNS(space, "g");
    group.setAttribute("transform", `translate(${pad},${pad + y * cellH})`);
    svg.append(group);
    return group;
  });
  $("screen").append(svg);

  const last = data.t.length - 1;
  const shown = new Array(lines).fill(-1);
  let screen = "live", index = 0, playing = false, began = 0, from = 0;
  const asText = () => {
    const out = groups.map((group) => {
      let line = "";
      for (const text of group.querySelectorAll("text")) {
        const at = Math.round(Number(text.getAttribute("x")) / cellW);
        line = line.padEnd(at) + text.textContent;
      }
      return line;
    });
    $("text").textContent = out.join("\n");
  };
  const show = () => {
    const frame = pictures.screens[screen][index];
    groups.forEach((group, y) => {
      const row = frame[y] ?? 0; // row 0 is empty
      if (shown[y] === row) return;
      shown[y] = row;
      group.innerHTML = pictures.rows[row];
    });
    $("at").value = index;
    const phase = data.phases.filter(([t]) => t <= data.t[index] + 1e-6).pop();
    $("clock").textContent = `${clock(data.t[index])} of ${clock(data.t[last])}${phase ? " · " + phase[1] : ""}`;
    $("at").setAttribute("aria-valuetext", $("clock").textContent);
    if (document.querySelector("details").open) asText();
  };
  const indexAt = (t) => {
    let found = 0;
    while (found < last && data.t[found + 1] <= t + 1e-6) found++;
    return found;
  };
  const speed = () => Number($("speed").value);
  const hold = () => {
    began = performance.now();
    from = data.t[index];
  };
  const go = (to) => {
    index = Math.min(last, Math.max(0, to));
    hold();
    show();
  };
  const play = (on) => {
    playing = on;
    if (on && index === last) go(0);
    hold();
    $("play").textContent = on ? "pause" : "play";
  };
  const tick = () => {
    if (playing) {
      const now = indexAt(from + ((performance.now() - began) / 1000) * speed());
      if (now !== index) {
        index = now;
        show();
      }
      if (index === last) play(false);
    }
    requestAnimationFrame(tick);
  };
  const toEvent = (step) => {
    const times = data.events.map(([t]) => indexAt(t));
    const found = step > 0 ? times.find((i) => i > index) : times.filter((i) => i < index).pop();
    if (found !== undefined) go(found);
  };
  const choose = (name) => {
    screen = name;
    for (const tab of document.querySelectorAll("nav button"))
      tab.setAttribute("aria-pressed", String(tab.dataset.screen === name));
    const height = pictures.screens[name][0].length * cellH + 2 * pad;
    svg.setAttribute("viewBox", `0 0 ${columns * cellW + 2 * pad} ${height}`);
    show();
  };

  $("at").max = last;
  $("at").addEventListener("input", () => go(Number($("at").value)));
  $("play").addEventListener("click", () => play(!playing));
  $("speed").addEventListener("change", hold);
  $("before").addEventListener("click", () => toEvent(-1));
  $("after").addEventListener("click", () => toEvent(1));
  document.querySelector("details").addEventListener("toggle", asText);
  for (const tab of document.querySelectorAll("nav button"))
    tab.addEventListener("click", () => choose(tab.dataset.screen));
  addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, button, summary, pre") || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      " ": () => play(!playing), ArrowLeft: () => go(index - 1), ArrowRight: () => go(index + 1),
      Home: () => go(0), End: () => go(last), "'": () => toEvent(1),
      1: () => choose("live"), 2: () => choose("map"), 3: () => choose("requests"),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  for (const [t, name] of data.phases) {
    const mark = document.createElement("span");
    mark.textContent = name;
    mark.style.left = (100 * indexAt(t)) / Math.max(1, last) + "%";
    $("phases").append(mark);
  }
  for (const [t, level, text] of data.events) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = level;
    const when = document.createElement("span");
    when.className = "when";
    when.textContent = clock(t);
    button.append(when, text);
    button.addEventListener("click", () => go(indexAt(t)));
    item.append(button);
    $("events").append(item);
  }
  choose("live");
  requestAnimationFrame(tick);
})();
