// Smoke checks against one address. BASE_URL: where the service answers. EXPECT_VERSION: what it
// has to call itself. SMOKE_USERNAME, SMOKE_PASSWORD: an account that exists there.
import assert from "node:assert/strict";
import { test } from "node:test";

const { BASE_URL, EXPECT_VERSION, SMOKE_USERNAME, SMOKE_PASSWORD } = process.env;

function call(path, { token, ...options } = {}) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  return fetch(new URL(path, BASE_URL), { headers, signal: AbortSignal.timeout(10_000), ...options });
}

function post(path, body, token) {
  return call(path, { method: "POST", body: JSON.stringify(body), token });
}

test("the service is healthy", async () => {
  assert.equal((await call("/health")).status, 200);
});

test("it is the expected version", async () => {
  const about = await (await call("/api/")).json();
  assert.equal(about.version, EXPECT_VERSION);
});

test("a user can log in, is known, and can log out", async () => {
  const answer = await post("/api/login", { username: SMOKE_USERNAME, password: SMOKE_PASSWORD });
  assert.equal(answer.status, 200);
  const { token } = await answer.json();
  const me = await (await call("/api/me", { token })).json();
  assert.equal(me.username, SMOKE_USERNAME);
  assert.equal((await post("/api/logout", {}, token)).status, 204);
  assert.equal((await call("/api/me", { token })).status, 401);
});

test("nobody is known without a token", async () => {
  assert.equal((await call("/api/me")).status, 401);
});

test("an added item is listed", async () => {
  const added = await post("/api/items", { name: "smoke check" });
  assert.equal(added.status, 201);
  const { items } = await (await call("/api/items")).json();
  assert.ok(items.length > 0);
});
