// Where a page's data come from: asked for again whenever the server says that there is something new.

const REOPEN_MILLISECONDS = 2000;
const RETRY_MILLISECONDS = [1000, 2000, 4000, 8000, 16000, 30000];

/** Something that the server refused or cannot do now, in its own words. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export async function read(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Refused(answer.status, await answer.text());
  return answer.json();
}

/**
 * Keep a page fresh.
 *
 * `load` reads and shows; it is never called twice at the same time, and once more after news that
 * came meanwhile. What fails for now is tried again, less and less often: there may be no more news.
 * `connection` tells the person whether what they see is live.
 */
export class Live {
  constructor(events, load) {
    this.events = events;
    this.load = load;
    this.busy = false;
    this.again = false;
    this.failures = 0;
    this.active = false;
    this.connection = document.getElementById("connection");
  }

  start() {
    this.open();
    addEventListener("pagehide", () => this.source.close());
    addEventListener("pageshow", (event) => { if (event.persisted) this.open(); });
    return this;
  }

  open() {
    this.source = new EventSource(this.events);
    this.source.addEventListener("news", (event) => {
      const state = JSON.parse(event.data);
      this.active = state.active;
      this.tell(state.active ? "yes" : "no",
        state.active ? "live" : "this aggregator stands by: another one is active, or none can be");
      if (state.active) this.refresh();
    });
    this.source.addEventListener("error", () => {
      this.active = false;
      this.tell("no", "not connected: trying again");
      if (this.source.readyState === EventSource.CLOSED) {
        setTimeout(() => this.open(), REOPEN_MILLISECONDS);
      }
    });
  }

  async refresh() {
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    try {
      do {
        this.again = false;
        await this.tryToLoad();
      } while (this.again);
    } finally {
      this.busy = false;
    }
  }

  async tryToLoad() {
    try {
      await this.load();
      if (this.failures > 0 && this.active) this.tell("yes", "live");
      this.failures = 0;
      clearTimeout(this.retry);
    } catch (error) {
      // A connection that is lost is told of by the stream of events.
      if (error instanceof Refused) this.tell("no", error.message);
      else if (!(error instanceof TypeError)) throw error;
      if (!(error.status < 500)) this.retryLater();
    }
  }

  retryLater() {
    const wait = RETRY_MILLISECONDS[this.failures] ?? RETRY_MILLISECONDS.at(-1);
    clearTimeout(this.retry);
    // While nobody is active, news will come.
    this.retry = setTimeout(() => { if (this.active) this.refresh(); }, wait);
    this.failures += 1;
  }

  tell(live, text) {
    this.connection.dataset.live = live;
    if (this.connection.textContent !== text) this.connection.textContent = text;
  }
}
