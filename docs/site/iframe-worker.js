// Browsers start no worker from a file:// page. There the search runs in a hidden frame instead. As between workers,
// messages are copied, and each is a task of its own.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.onmessage = null;
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = `<script src="${new URL(url, location.href)}"></scr` + `ipt>`;
      this.frame.addEventListener("load", () => {
        this.frame.contentWindow.postMessage = (data) => this.deliver(() => this, data);
        this.waiting.forEach((data) => this.deliver(() => this.frame.contentWindow, data));
        this.waiting = null;
      });
      document.body.append(this.frame);
    }
    deliver(receiver, data) {
      const copy = structuredClone(data);
      setTimeout(() => receiver()?.onmessage?.({ data: copy }));
    }
    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.deliver(() => this.frame.contentWindow, data);
    }
    terminate() {
      this.frame.remove();
    }
  };
}
