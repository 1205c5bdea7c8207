// Questions to the server. Each sends all that its answer needs, so a server that was started again can answer it.

const RETRY = 1500; // milliseconds between two tries of a server that does not answer

export class Wrong extends Error {} // the server's own sentence

let tellLost = () => {};
let lost = false; // what was told last

// told(true) when the server stops answering, told(false) when it answers again.
export function onLost(told) {
  tellLost = told;
}

async function sent(path, body, signal, kind = "application/json") {
  const data = kind === "application/json" ? JSON.stringify(body) : body;
  for (;;) {
    try {
      const answer = await fetch(path, { method: "POST", headers: { "Content-Type": kind }, body: data, signal });
      if (lost) tellLost((lost = false));
      if (!answer.ok) throw new Wrong((await answer.json()).error || `the server answered ${answer.status}.`);
      return answer;
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // fetch fails with one where nothing answers
      tellLost((lost = true));
      await pause(RETRY, signal);
    }
  }
}

export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    };
    if (signal && signal.aborted) stop();
    else if (signal) signal.addEventListener("abort", stop, { once: true });
  });
}

export async function ask(path, body, signal) {
  return (await sent(path, body, signal)).json();
}

export async function askBytes(path, bytes) {
  return (await sent(path, bytes, undefined, "application/octet-stream")).json();
}

// Calls told(answer) for every JSON line. Where the server ends meanwhile, the question is sent again.
export async function stream(path, body, told, signal) {
  for (;;) {
    const reader = (await sent(path, body, signal)).body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    let ended = false;
    for (;;) {
      const { done, value } = await reader.read().catch(gone);
      if (done) break;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const answer = JSON.parse(line);
        if (answer.error) throw new Wrong(answer.error);
        if (answer.done) ended = true;
        told(answer);
      }
    }
    if (ended) return;
    tellLost((lost = true));
    await pause(RETRY, signal);
  }
}

// A read that failed because the server has ended is the end of its answer.
function gone(error) {
  if (!(error instanceof TypeError)) throw error;
  return { done: true };
}
