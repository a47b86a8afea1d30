// The token that calls are sent with. It is kept for this tab until it is closed, and sent in a header by the console alone: docs/console.md
// says why it is not a cookie.

const KEY = "beluga.token";
let askFor = null;
let asking = null;

export function token() {
  return sessionStorage.getItem(KEY);
}

export function keep(text) {
  sessionStorage.setItem(KEY, text);
}

/// Who asks people for a token: the shell says so at the start.
export function setAsker(asker) {
  askFor = asker;
}

/// Asks for a token once, however many calls were refused for want of one. Answers whether there is one now.
export function need(problem) {
  asking ??= askFor(problem).finally(() => {
    asking = null;
  });
  return asking;
}
