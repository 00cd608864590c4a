// After textual.js has made its terminal: keys go there without a click.
addEventListener("load", () => document.querySelector(".xterm-helper-textarea")?.focus());
